"""Proof-of-work challenges before a join: made and checked by altcha, each for one buyer of one sale.

Nothing is kept of a challenge before it is solved; that each is used once, the join's script sees to.
"""

import base64
import binascii
import hashlib
import json
import time

import altcha

from services.kit.buyers import short_hash, to_text
from services.kit.keys import Ring, SymmetricKey

ID_BYTES = 16
ALGORITHM = "SHA-256"
CHARS = 2048


class Challenges:
    """Signed with a secret that is derived from the admissions' newest key and comes and goes with it."""

    def __init__(self, keys: Ring, digits: int, lifetime_s: float) -> None:
        """`digits` are the hexadecimal zeros to find, `lifetime_s` is how long one may take to find them."""
        self._keys = keys
        self._digits = digits
        self.lifetime_s = lifetime_s

    def make(self, sale: str, buyer: bytes) -> tuple[str, int]:
        """A challenge for this buyer as JSON, and when its time is over, in seconds since 1970."""
        key = self._keys.newest
        expires_at = int(time.time() + self.lifetime_s)
        challenge = altcha.create_challenge(
            ALGORITHM,
            1,
            key_prefix="0" * self._digits,
            expires_at=expires_at,
            data={"for": _whose(sale, buyer), "key": key.id},
            hmac_secret=_secret(key),
        )
        return json.dumps(challenge.to_dict(), separators=(",", ":")), expires_at

    def solved(self, sale: str, buyer: bytes, payload: str) -> bytes | None:
        """The id of the challenge that a payload solves for this buyer; None where it does not.

        A payload is what altcha's widget sends: base64 of JSON with the challenge and its solution.
        """
        try:
            said = json.loads(base64.b64decode(payload, validate=True))
            parameters = said["challenge"]["parameters"]
            data, nonce = parameters["data"], bytes.fromhex(parameters["nonce"])
            key = self._keys.get(data["key"]) if isinstance(data["key"], str) else None
            if key is None or data["for"] != _whose(sale, buyer) or len(nonce) != ID_BYTES:
                return None
            found = altcha.verify_solution(payload, _secret(key))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, binascii.Error):
            return None
        return nonce if found.verified else None


def _secret(key: SymmetricKey) -> bytes:
    return hashlib.blake2b(key=key.secret, person=b"challenge").digest()


def _whose(sale: str, buyer: bytes) -> str:
    return short_hash(sale, to_text(buyer))
