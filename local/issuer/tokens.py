"""Makes access tokens (JWT, RS256) with the ring's signing key."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt

from local.issuer.ring import LONGEST_TTL_S, Ring
from local.private import write_private

AUDIENCE = "catraca"
ROLES = ("buyer", "organiser", "staff", "bff", "service")
DEFAULT_NAMESPACE = "public"
DEFAULT_TTL_S = 3600


class Minter:
    """Mints tokens with the keys in a file, made if there is none. A token takes 1 ms."""

    def __init__(self, ring_file: Path, issuer: str) -> None:
        self.ring = Ring(ring_file)
        self.issuer = issuer

    @property
    def key_id(self) -> str:
        """The `kid` of the next token."""
        return self.ring.signing.id

    def mint(
        self,
        subject: str,
        *,
        roles: Sequence[str] = ("buyer",),
        namespace: str = DEFAULT_NAMESPACE,
        ttl_s: int = DEFAULT_TTL_S,
    ) -> str:
        """A token for a subject of a namespace. A negative `ttl_s` gives one that has expired already.

        Raises ValueError for one that would outlive its key.
        """
        if ttl_s > LONGEST_TTL_S:
            raise ValueError(f"a token lives at most {LONGEST_TTL_S} seconds")
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
        key = self.ring.signing
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.id})

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set."""
        return self.ring.jwks()


def write_service_token(path: Path, minter: Minter) -> None:
    """A new token for the services, who read the file again when it changes."""
    write_private(path, minter.mint("catraca", roles=["service"], ttl_s=LONGEST_TTL_S))
