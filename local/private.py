"""Secrets and keys in files that only their owner may read, made at first use and kept."""

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.kit.signing import key_id_of

SECRET_BYTES = 24
SYMMETRIC_KEY_BYTES = 32

Entry = dict[str, Any]
"""One key of a ring's file."""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    with draft.open("w") as file:
        file.write(text)
        file.flush()
        # A key that only the page cache had would be lost with the power, and with it what was made with it.
        os.fsync(file.fileno())
    draft.replace(path)


def kept_secret(path: Path) -> str:
    """The random secret in the file: hexadecimal, so it needs no quoting in URLs and configuration files."""
    if not path.exists():
        write_private(path, secrets.token_hex(SECRET_BYTES))
    return path.read_text()


def symmetric_keys(path: Path) -> Path:
    """A ring of symmetric keys, as `services.kit.keys` reads it."""
    if not path.exists():
        write_entries(path, [new_symmetric(time.time())])
    return path


def signing_keys(path: Path) -> Path:
    """A ring of Ed25519 keys, as `services.kit.signing` reads it.

    A key that an earlier version left beside it in PEM goes on in the ring: it has signed tickets.
    """
    former = path.with_suffix(".pem")
    if not path.exists():
        pem = former.read_text() if former.exists() else None
        write_entries(path, [new_signing(time.time()) if pem is None else _signing(pem)])
        former.unlink(missing_ok=True)
    return path


def new_symmetric(now: float) -> Entry:
    """A new secret. Its id says nothing of it, and no later key will have the same."""
    return {"id": secrets.token_hex(4), "key": secrets.token_hex(SYMMETRIC_KEY_BYTES), "made_at": now}


def new_signing(now: float) -> Entry:
    """A new Ed25519 pair that signs from now on."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _signing(pem.decode()) | {"made_at": now, "active_from": now}


def _signing(pem: str) -> Entry:
    public = serialization.load_pem_private_key(pem.encode(), password=None).public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"id": key_id_of(raw), "public": raw.hex(), "pem": pem}


def write_entries(path: Path, entries: list[Entry]) -> None:
    """A ring's file."""
    write_private(path, json.dumps(entries, indent=1))
