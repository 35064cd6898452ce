"""The issuer's RSA keys: one is coming, one signs, those that signed before stay published for a while."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from local.private import write_private

LONGEST_TTL_S = 24 * 3600
"""No token lives longer, so a key that signs no more can be forgotten after this."""
RSA_BITS = 2048


@dataclass(frozen=True)
class RingKey:
    """One RSA pair; its id is of its public half. Times are seconds since 1970."""

    id: str
    pem: str = field(repr=False)
    made_at: float
    signs_since: float | None = None
    retired_at: float | None = None

    @property
    def private(self) -> RSAPrivateKey:
        """What signs."""
        return _loaded(self.pem)

    @property
    def public_jwk(self) -> dict[str, Any]:
        """What verifies, as a JSON Web Key."""
        key: dict[str, Any] = json.loads(RSAAlgorithm.to_jwk(self.private.public_key()))
        return key | {"kid": self.id, "use": "sig", "alg": "RS256"}


class Ring:
    """The keys in a private file, made if there is none, and read again whenever it was replaced.

    One process changes the file, the issuer; others who mint only read it. The coming key is published
    before it signs: verifiers know it already when the first token names it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._keys: list[RingKey] = []
        if not path.exists():
            self.replace_all()

    @property
    def keys(self) -> list[RingKey]:
        """The coming key, the one that signs, then those that did, the latest first."""
        status = self._path.stat()
        seen = (status.st_ino, status.st_mtime_ns)
        if seen != self._seen:
            self._keys = [RingKey(**each) for each in json.loads(self._path.read_text())]
            self._seen = seen
        return self._keys

    @property
    def signing(self) -> RingKey:
        """The key that new tokens are signed with."""
        return self.keys[1]

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set."""
        return {"keys": [key.public_jwk for key in self.keys]}

    def rotate(self) -> None:
        """Sign with the coming key from now on; what the present one signed is good until it ends."""
        now = time.time()
        coming, signing, *retired = self.keys
        signs, retires = replace(coming, signs_since=now), replace(signing, retired_at=now)
        self._write([_new_key(), signs, retires, *retired])

    def replace_all(self) -> None:
        """Begin anew with keys nobody has seen: for a file that somebody else has read."""
        self._write([_new_key(), replace(_new_key(), signs_since=time.time())])

    def prune(self) -> None:
        """Forget the keys that no living token can have been signed with."""
        oldest = time.time() - LONGEST_TTL_S
        living = [key for key in self.keys if key.retired_at is None or key.retired_at > oldest]
        if len(living) < len(self.keys):
            self._write(living)

    def _write(self, keys: list[RingKey]) -> None:
        write_private(self._path, json.dumps([asdict(key) for key in keys]))


@lru_cache(maxsize=32)
def _loaded(pem: str) -> RSAPrivateKey:
    """The key, which is checked while it is loaded; that takes far longer than a signature, so it is kept."""
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError("the ring holds a key that is not RSA")
    return key


def _new_key() -> RingKey:
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return RingKey(hashlib.sha256(public).hexdigest()[:16], pem.decode(), time.time())
