"""Internal ids of buyers and short hashes: keyed, fixed in length, and safe in subjects and keys.

A buyer's own id would leak, and a `.` or `>` in it would break subjects.
"""

import base64
import hashlib
import itertools
import string

from services.kit.keys import SymmetricKey

RAW_BYTES = 16
TEXT_CHARS = 26

_PADDING = "======"
_ALPHABET = string.ascii_lowercase + "234567"
_PAIRS = ["".join(pair) for pair in itertools.product(_ALPHABET, repeat=2)]


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
    # Every call of a buyer makes one, and the library takes twice as long. 128 bits and two zeros are 13
    # pairs of characters; a loop would cost what is saved.
    bits, two, ten = int.from_bytes(raw, "big") << 2, _PAIRS, 1023
    return (
        f"{two[bits >> 120]}{two[bits >> 110 & ten]}{two[bits >> 100 & ten]}{two[bits >> 90 & ten]}"
        f"{two[bits >> 80 & ten]}{two[bits >> 70 & ten]}{two[bits >> 60 & ten]}{two[bits >> 50 & ten]}"
        f"{two[bits >> 40 & ten]}{two[bits >> 30 & ten]}{two[bits >> 20 & ten]}{two[bits >> 10 & ten]}"
        f"{two[bits & ten]}"
    )


def short_hash(*parts: str) -> str:
    """BLAKE2b-128 over the parts, each after its length, as 26 characters: another split is another hash."""
    digest = hashlib.blake2b(digest_size=RAW_BYTES)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return to_text(digest.digest())
