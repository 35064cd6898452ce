"""Keys from files: rings of symmetric keys (newest first) and Ed25519 pairs, each key with a short id."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.kit.settings import SettingError, variable_of

_ID = re.compile(r"[a-z0-9-]{1,16}")
_RING = (
    'a JSON list of {"id", "key"}, newest first: ids of a–z, 0–9 and hyphens, at most 16 characters, '
    "and keys of 32 to 64 bytes in hexadecimal"
)
_PEM = "a PEM file with one Ed25519 private key"


@dataclass(frozen=True)
class SymmetricKey:
    """One secret of a ring; `secret` has 32 to 64 bytes."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class KeyRing:
    """Secrets, newest first: the newest makes, every one of them checks."""

    keys: tuple[SymmetricKey, ...]

    @property
    def newest(self) -> SymmetricKey:
        """The one that new things are made with."""
        return self.keys[0]

    def get(self, key_id: str) -> SymmetricKey | None:
        """The key of this id, if the ring has it."""
        return next((key for key in self.keys if key.id == key_id), None)


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 pair; its id is the first 8 hexadecimal digits of the public key's SHA-256."""

    id: str
    public: bytes
    private: Ed25519PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self.private.sign(message)


def load_ring(path: Path, setting: str) -> KeyRing:
    """Reads a ring. Raises SettingError naming `setting`, the settings field that gave the path."""
    try:
        entries = json.loads(_read(path, setting, _RING))
        keys = tuple(_entry(entry["id"], entry["key"]) for entry in entries)
    except (ValueError, TypeError, KeyError):
        raise _wrong(path, setting, _RING) from None
    if not keys or len({key.id for key in keys}) < len(keys):
        raise _wrong(path, setting, _RING)
    return KeyRing(keys)


def _entry(key_id: str, hexadecimal: str) -> SymmetricKey:
    key = SymmetricKey(key_id, bytes.fromhex(hexadecimal))
    if not _ID.fullmatch(key.id) or not 32 <= len(key.secret) <= 64:
        raise ValueError(key_id)
    return key


def load_single(path: Path, setting: str) -> KeyRing:
    """As `load_ring`, for a ring whose key must never change because it is part of stored ids."""
    ring = load_ring(path, setting)
    if len(ring.keys) != 1:
        raise _wrong(path, setting, f"{_RING}; exactly one key, as ids made with it are stored")
    return ring


def load_signing_key(path: Path, setting: str) -> SigningKey:
    """Reads an Ed25519 private key. Raises SettingError naming `setting`."""
    pem = _read(path, setting, _PEM)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise _wrong(path, setting, _PEM) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise _wrong(path, setting, _PEM)
    public = private.public_key().public_bytes_raw()
    return SigningKey(key_id_of(public), public, private)


def key_id_of(public: bytes) -> str:
    """The id of an Ed25519 public key of 32 bytes."""
    return hashlib.sha256(public).hexdigest()[:8]


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` is of this message by the owner of `public`."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read(path: Path, setting: str, expected: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "not readable"
        raise SettingError(variable_of(setting), f"{str(path)!r} ({reason})", expected) from None


def _wrong(path: Path, setting: str, expected: str) -> SettingError:
    return SettingError(variable_of(setting), f"{str(path)!r}, whose content does not fit", expected)
