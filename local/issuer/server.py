"""The issuer over HTTP: OpenID discovery, the key set, and a development grant behind a shared secret."""

import re
import secrets
from dataclasses import dataclass

from aiohttp import web

from local.issuer.tokens import DEFAULT_NAMESPACE, DEFAULT_TTL_S, ROLES, Minter

MAX_TTL_S = 7 * 24 * 3600
MAX_SUBJECT_LENGTH = 256
NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TTL = re.compile(r"[0-9]{1,9}")
MINTER = web.AppKey("minter", Minter)
SECRET = web.AppKey("secret", str)


class InvalidRequest(Exception):
    """A field of the token request is wrong; the message names it and says what is expected."""


@dataclass(frozen=True)
class Grant:
    """What a token request asks for."""

    subject: str
    namespace: str
    roles: list[str]
    ttl_s: int


def read_grant(form: dict[str, str]) -> Grant:
    """The grant in a form with subject, namespace, roles (separated by spaces) and ttl (seconds)."""
    subject = form.get("subject", "")
    if not 1 <= len(subject) <= MAX_SUBJECT_LENGTH or "\0" in subject:
        raise InvalidRequest(f"subject: 1 to {MAX_SUBJECT_LENGTH} characters")
    namespace = form.get("namespace", DEFAULT_NAMESPACE)
    if not NAMESPACE.fullmatch(namespace):
        raise InvalidRequest("namespace: a DNS label")
    roles = form.get("roles", "buyer").split()
    if not roles or not set(roles) <= set(ROLES):
        raise InvalidRequest(f"roles: some of {', '.join(ROLES)}, separated by spaces")
    ttl = form.get("ttl", str(DEFAULT_TTL_S))
    if not (TTL.fullmatch(ttl) and 1 <= int(ttl) <= MAX_TTL_S):
        raise InvalidRequest(f"ttl: 1 to {MAX_TTL_S} seconds")
    return Grant(subject, namespace, roles, int(ttl))


async def discovery(request: web.Request) -> web.Response:
    """What an OpenID client asks first."""
    issuer = request.app[MINTER].issuer
    return web.json_response(
        {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks.json",
            "token_endpoint": f"{issuer}/token",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
    )


async def key_set(request: web.Request) -> web.Response:
    """The public key."""
    return web.json_response(request.app[MINTER].jwks(), headers={"Cache-Control": "max-age=60"})


async def token(request: web.Request) -> web.Response:
    """A token for anybody who knows the development secret (`Authorization: Bearer <secret>`)."""
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not secrets.compare_digest(given.encode(), request.app[SECRET].encode()):
        return web.json_response({"error": "invalid_client"}, status=401)
    try:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        grant = read_grant(form)
    except (InvalidRequest, UnicodeDecodeError) as error:
        return web.json_response({"error": "invalid_request", "error_description": str(error)}, status=400)
    minted = request.app[MINTER].mint(
        grant.subject, roles=grant.roles, namespace=grant.namespace, ttl_s=grant.ttl_s
    )
    return web.json_response(
        {"access_token": minted, "token_type": "Bearer", "expires_in": grant.ttl_s},
        headers={"Cache-Control": "no-store"},
    )


async def healthy(_request: web.Request) -> web.Response:
    """Answers as soon as the issuer serves."""
    return web.json_response({"status": "ok"})


def application(minter: Minter, secret: str) -> web.Application:
    """The issuer as an aiohttp application."""
    app = web.Application(client_max_size=16_384)
    app[MINTER] = minter
    app[SECRET] = secret
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/jwks.json", key_set)
    app.router.add_post("/token", token)
    app.router.add_get("/healthz", healthy)
    return app
