"""Rings of Ed25519 keys from files: the newest active one signs, the public halves of all stay published."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from catraca.keys.v1.keys_pb2 import PublicKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.kit.key_file import KeyFile, moment, newest_first, read, sound_id, wrong
from services.kit.keys import entries_of

PUBLIC_BYTES = 32
_EXPECTED = (
    'a JSON list of {"id", "public", "pem"}, newest first: the Ed25519 public key in hexadecimal, its id '
    "(the first 8 hexadecimal digits of its SHA-256), and the private key in PEM, which a key that signs no "
    'more can do without; "active_from", "made_at" and "revoked_at" in seconds since 1970 where known'
)


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 pair, or the public half that is left of one. Times are seconds since 1970."""

    id: str
    public: bytes
    private: Ed25519PrivateKey | None = field(repr=False)
    active_from: float = 0.0
    """From when it signs. Until then it is published, so that nobody meets it unprepared."""
    made_at: float | None = None
    revoked_at: float | None = None

    @property
    def can_sign(self) -> bool:
        """It has its private half, and nobody else has."""
        return self.private is not None and self.revoked_at is None

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes. Raises ValueError for a key whose private half is gone."""
        if self.private is None:
            raise ValueError(f"key {self.id} signs no more")
        return self.private.sign(message)


class SigningKeys(Protocol):
    """Keys to sign with and to publish, fixed ones or those of a file that changes."""

    @property
    def signing(self) -> SigningKey:
        """The one that signs now."""

    def published(self) -> list[PublicKey]:
        """Every key that signs, will sign or ever signed, newest first."""


@dataclass(frozen=True)
class SigningRing:
    """Ed25519 keys, newest first; at least one can sign."""

    keys: tuple[SigningKey, ...]

    @property
    def signing(self) -> SigningKey:
        """The first that is active and can sign; the oldest that can where none is active."""
        able = [key for key in self.keys if key.can_sign]
        now = time.time()
        return next((key for key in able if key.active_from <= now), able[-1])

    def published(self) -> list[PublicKey]:
        """Every key, with the time that the next one takes or took over."""
        published = []
        signed_until: float | None = None
        now = time.time()
        for key in self.keys:
            message = PublicKey(key_id=key.id, ed25519_public_key=key.public)
            if key.active_from:
                message.signs_from.FromMilliseconds(round(key.active_from * 1000))
            if signed_until is not None and signed_until <= now:
                message.signed_until.FromMilliseconds(round(signed_until * 1000))
            if key.revoked_at is not None:
                message.revoked_at.FromMilliseconds(round(key.revoked_at * 1000))
            published.append(message)
            signed_until = key.active_from
        return published


class LiveSigningRing:
    """The ring of a file that is read again when it changes."""

    def __init__(self, path: Path, setting: str) -> None:
        """Reads the file. Raises SettingError naming `setting`, the settings field that gave the path."""
        self._file = KeyFile(path, setting, load_signing_ring)

    @property
    def signing(self) -> SigningKey:
        """The one that signs now."""
        return self._file.keys.signing

    def published(self) -> list[PublicKey]:
        """Every key, as the file has them now."""
        return self._file.look().published()


def load_signing_ring(path: Path, setting: str) -> SigningRing:
    """Reads a ring. Raises SettingError naming `setting`, the settings field that gave the path."""
    content = read(path, setting, _EXPECTED)
    try:
        keys = tuple(_key(entry) for entry in entries_of(content))
    except ValueError as error:
        raise wrong(path, setting, str(error), _EXPECTED) from None
    problem = newest_first([key.id for key in keys], [key.active_from for key in keys])
    if not problem and not any(key.can_sign for key in keys):
        problem = "no key can sign: each has lost its private half or is revoked"
    if problem:
        raise wrong(path, setting, problem, _EXPECTED)
    return SigningRing(keys)


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


def _key(entry: Mapping[str, Any]) -> SigningKey:
    key_id, text = sound_id(entry), entry.get("public")
    try:
        public = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        public = b""
    if len(public) != PUBLIC_BYTES:
        raise ValueError(f"`public` of {key_id} is not {PUBLIC_BYTES} bytes in hexadecimal")
    if key_id != key_id_of(public):
        raise ValueError(f"{key_id} is not the id of its public key, which is {key_id_of(public)}")
    private = None if entry.get("pem") is None else _private(key_id, entry["pem"])
    if private is not None and private.public_key().public_bytes_raw() != public:
        raise ValueError(f"`public` and `pem` of {key_id} are not of one pair")
    return SigningKey(
        key_id,
        public,
        private,
        moment(entry, "active_from") or 0.0,
        moment(entry, "made_at"),
        moment(entry, "revoked_at"),
    )


def _private(key_id: str, pem: object) -> Ed25519PrivateKey:
    try:
        private = serialization.load_pem_private_key(str(pem).encode(), password=None)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"`pem` of {key_id} is not one Ed25519 private key in PEM")
    return private
