"""Admissions: what Enter gives and Hold and PlaceOrder take, with a MAC of our own keys.

A MAC costs 2 µs to check where a signature costs 118; only our services make and check admissions. The turn's
end is not judged here: the ledger does, by the store's clock.
"""

import base64
import binascii
import hashlib
import hmac

from catraca.queue.v1.queue_pb2 import AdmissionClaims
from google.protobuf.message import DecodeError

from services.kit.errors import Refusal
from services.kit.keys import Ring

__all__ = ["AdmissionClaims", "mint", "verify"]

_MAC_BYTES = 16
# The same secret may serve other purposes; this MAC is of admissions alone.
_PURPOSE = b"catraca-admissn1"
_LONGEST = 1024


def mint(claims: AdmissionClaims, keys: Ring) -> str:
    """The token of these claims: key id, dot, base64url of the claims and their MAC."""
    body = claims.SerializeToString()
    key = keys.newest
    sealed = base64.urlsafe_b64encode(body + _mac(body, key.secret)).rstrip(b"=").decode()
    return f"{key.id}.{sealed}"


def verify(token: str, keys: Ring, *, sale: str, buyer: str) -> AdmissionClaims:
    """The claims of a token that this system made for this buyer in this sale.

    Raises Refusal ADMISSION_INVALID, also for a key that is not known, or ADMISSION_FOREIGN.
    """
    key_id, _, sealed = token.partition(".")
    key = keys.get(key_id)
    data = _unsealed(sealed)
    if key is None or len(data) < _MAC_BYTES:
        raise Refusal("ADMISSION_INVALID")
    body = data[:-_MAC_BYTES]
    if not hmac.compare_digest(data[-_MAC_BYTES:], _mac(body, key.secret)):
        raise Refusal("ADMISSION_INVALID")
    try:
        claims = AdmissionClaims.FromString(body)
    except DecodeError:
        raise Refusal("ADMISSION_INVALID") from None
    if claims.sale != sale or claims.buyer != buyer:
        raise Refusal("ADMISSION_FOREIGN")
    return claims


def _mac(body: bytes, secret: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_MAC_BYTES, key=secret, person=_PURPOSE).digest()


def _unsealed(sealed: str) -> bytes:
    """The bytes, or none. Only the one spelling that `mint` makes is taken."""
    if len(sealed) > _LONGEST:
        return b""
    try:
        text = sealed.encode("ascii")
        data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except (UnicodeEncodeError, binascii.Error):
        return b""
    return data if base64.urlsafe_b64encode(data).rstrip(b"=") == text else b""
