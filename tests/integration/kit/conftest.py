"""An issuer of tokens and a service, in this process, for the tests of identity and serving."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from services.kit.settings import CommonSettings, load

ISSUER = "https://issuer.test"
AUDIENCE = "catraca"

_MAKERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


@dataclass
class Issuer:
    """Mints tokens and publishes the keys, counting how often they were asked for."""

    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    fetches: int = 0
    broken: bool = False
    url: str = ""

    def add_key(self, kid: str, algorithm: str = "ES256", *, publish: bool = True) -> None:
        make, kind = _MAKERS[algorithm]
        key = make()
        self.keys[kid] = (algorithm, key)
        if publish:
            self.published.append(json.loads(kind.to_jwk(key.public_key())) | {"kid": kid, "use": "sig"})

    def token(
        self,
        subject: str = "ana",
        *,
        roles: Sequence[str] = ("buyer",),
        kid: str = "first",
        ttl_s: float = 600,
        headers: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
    ) -> str:
        algorithm, key = self.keys[kid]
        now = time.time()
        standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + ttl_s}
        payload = standard | {"roles": list(roles), "ns": "public"} | (claims or {})
        kept = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": kid} if headers is None else headers)

    async def answer(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        if self.broken:
            return web.Response(status=503)
        return web.json_response({"keys": self.published})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer with one key, "first"."""
    issuer = Issuer()
    issuer.add_key("first")
    application = web.Application()
    application.router.add_get("/jwks", issuer.answer)
    async with TestServer(application) as server:
        issuer.url = str(server.make_url("/jwks"))
        yield issuer


@pytest.fixture
def settings(issuer: Issuer, tmp_path: Path) -> CommonSettings:
    """Settings of a service that trusts the issuer and listens on any port."""
    (tmp_path / "buyers.json").write_text(json.dumps([{"id": "a", "key": secrets.token_hex(32)}]))
    (tmp_path / "token").write_text(issuer.token("inventory", roles=["service"]) + "\n")
    return load(
        CommonSettings,
        {
            "CATRACA_LISTEN": "127.0.0.1:0",
            "CATRACA_NATS_URL": "nats://unused",
            "CATRACA_OIDC_ISSUER": ISSUER,
            "CATRACA_AUDIENCE": AUDIENCE,
            "CATRACA_JWKS_URL": issuer.url,
            "CATRACA_BUYER_HASH_KEY_FILE": str(tmp_path / "buyers.json"),
            "CATRACA_SERVICE_TOKEN_FILE": str(tmp_path / "token"),
            "CATRACA_MAX_MESSAGE_BYTES": "70000",
            "CATRACA_LAME_DUCK_S": "0",
            "CATRACA_DRAIN_S": "5",
        },
    )
