"""Secrets and keys in files that only their owner may read, made at first use and kept."""

import json
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

SECRET_BYTES = 24
SYMMETRIC_KEY_BYTES = 32


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)


def kept_secret(path: Path) -> str:
    """The random secret in the file: hexadecimal, so it needs no quoting in URLs and configuration files."""
    if not path.exists():
        write_private(path, secrets.token_hex(SECRET_BYTES))
    return path.read_text()


def symmetric_keys(path: Path) -> Path:
    """A file of symmetric keys, newest first: `[{"id": "k1", "key": "<hex>"}]`."""
    if not path.exists():
        write_private(path, json.dumps([{"id": "k1", "key": secrets.token_hex(SYMMETRIC_KEY_BYTES)}]))
    return path


def ed25519_key(path: Path) -> Path:
    """A file with an Ed25519 private key in PEM."""
    if not path.exists():
        _write_pem(path, Ed25519PrivateKey.generate())
    return path


def _write_pem(path: Path, key: PrivateKeyTypes) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem.decode())
