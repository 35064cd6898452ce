"""Internal ids of buyers and short hashes: keyed, fixed in length, and safe in subjects and keys.

A buyer's own id would leak, and a `.` or `>` in it would break subjects.
"""

import base64
import hashlib

from services.kit.keys import SymmetricKey

RAW_BYTES = 16
TEXT_CHARS = 26

_PADDING = "======"


def buyer_id(key: SymmetricKey, namespace: str, subject: str) -> str:
    """The internal id, 26 characters, of a subject within a namespace; another key makes another id."""
    return to_text(buyer_raw(key, namespace, subject))


def buyer_raw(key: SymmetricKey, namespace: str, subject: str) -> bytes:
    """The same id as 16 bytes; making its text costs four times as much as making the id."""
    return hashlib.blake2b(
        f"{namespace}\x00{subject}".encode(), digest_size=RAW_BYTES, key=key.secret
    ).digest()


def to_raw(text: str) -> bytes:
    """The 16 bytes of an id. Raises ValueError for what `to_text` never makes."""
    raw = base64.b32decode(text.upper() + _PADDING) if len(text) == TEXT_CHARS else b""
    if len(raw) != RAW_BYTES or to_text(raw) != text:
        raise ValueError("an id has 26 characters of base32 in lower case")
    return raw


def to_text(raw: bytes) -> str:
    """16 bytes as 26 characters of base32 in lower case, without padding."""
    return base64.b32encode(raw)[:TEXT_CHARS].decode().lower()


def short_hash(*parts: str) -> str:
    """BLAKE2b-128 over the parts, each after its length, as 26 characters: another split is another hash."""
    digest = hashlib.blake2b(digest_size=RAW_BYTES)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return to_text(digest.digest())
