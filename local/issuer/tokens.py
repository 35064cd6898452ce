"""Makes access tokens (JWT, RS256) and tells the public key that verifies them."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from local.private import rsa_key

AUDIENCE = "catraca"
ROLES = ("buyer", "organiser", "staff", "bff", "service")
DEFAULT_NAMESPACE = "public"
DEFAULT_TTL_S = 3600


class Minter:
    """Mints tokens with the key in a file, made if there is none. It is loaded once: a token takes 1 ms."""

    def __init__(self, key_file: Path, issuer: str) -> None:
        loaded = serialization.load_pem_private_key(rsa_key(key_file).read_bytes(), password=None)
        if not isinstance(loaded, RSAPrivateKey):
            raise TypeError(f"{key_file} holds no RSA key")
        self._key = loaded
        self.issuer = issuer
        public = loaded.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.key_id = hashlib.sha256(public).hexdigest()[:16]

    def mint(
        self,
        subject: str,
        *,
        roles: Sequence[str] = ("buyer",),
        namespace: str = DEFAULT_NAMESPACE,
        ttl_s: int = DEFAULT_TTL_S,
    ) -> str:
        """A token for a subject of a namespace. A negative `ttl_s` gives one that has expired already."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": subject,
            "ns": namespace,
            "roles": list(roles),
            "iat": min(now, now + ttl_s),
            "exp": now + ttl_s,
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self.key_id})

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        key = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return {"keys": [key | {"kid": self.key_id, "use": "sig", "alg": "RS256"}]}
