"""The issuer over HTTP: discovery, keys, sign-in, tokens, and, behind the stack's secret, their rotation."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from authlib.oauth2 import OAuth2Error
from multidict import MultiDict, MultiMapping

from local.issuer.clients import PLAIN_SCOPES, Client
from local.issuer.development import InvalidRequest, read_grant
from local.issuer.keeper import Keeper
from local.issuer.page import HEADERS, page
from local.issuer.provider import SECRET_CLIENTS, Asked, Provider
from local.issuer.tokens import ROLES
from services.kit.identity import sound_subject

KEEPER = web.AppKey("keeper", Keeper)
PROVIDER = web.AppKey("provider", Provider)
SECRET = web.AppKey("secret", str)
# No answer here depends on a cookie, so a page of any origin may read what any client may.
FOR_ALL = {"Access-Control-Allow-Origin": "*"}


def application(keeper: Keeper, clients: Mapping[str, Client], secret: str) -> web.Application:
    """The issuer as an aiohttp application."""
    app = web.Application(client_max_size=16_384)
    app[KEEPER] = keeper
    app[PROVIDER] = Provider(keeper.minter, clients)
    app[SECRET] = secret
    app.router.add_get("/.well-known/openid-configuration", discovery)
    app.router.add_get("/jwks.json", key_set)
    app.router.add_get("/authorize", ask)
    app.router.add_post("/authorize", sign_in)
    app.router.add_post("/token", token)
    app.router.add_post("/keys/rotate", rotate)
    app.router.add_get("/healthz", healthy)
    app.cleanup_ctx.append(_keeping)
    return app


async def discovery(request: web.Request) -> web.Response:
    """What an OpenID client asks first."""
    issuer = request.app[PROVIDER].minter.issuer
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks.json",
        "scopes_supported": [*PLAIN_SCOPES, *ROLES],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "token_endpoint_auth_methods_supported": ["none", *SECRET_CLIENTS],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": ["iss", "aud", "sub", "exp", "iat", "roles", "ns", "name", "preferred_username"],
    }
    return web.json_response(document, headers=FOR_ALL)


async def key_set(request: web.Request) -> web.Response:
    """The public keys: the coming one, the one that signs, and those whose tokens may still live."""
    keys = request.app[PROVIDER].minter.jwks()
    return web.json_response(keys, headers=FOR_ALL | {"Cache-Control": "max-age=60"})


async def ask(request: web.Request) -> web.Response:
    """The page to sign in, for a request that is in order."""
    provider, asked = request.app[PROVIDER], Asked(request.method, request.headers, request.query)
    try:
        client, roles = _wanted(provider, asked)
    except OAuth2Error as error:
        return _refused(provider, asked, error)
    except ValueError:
        return _malformed()
    return _page(asked.fields, client, roles)


async def sign_in(request: web.Request) -> web.Response:
    """Sends whoever typed a name back to the client with a code."""
    provider, asked = request.app[PROVIDER], Asked(request.method, request.headers, await _form(request))
    try:
        client, roles = _wanted(provider, asked)
        name = asked.fields.get("login_name", "").strip()
        if asked.fields.get("decision") == "deny":
            name = ""
        elif not sound_subject(name):
            return _page(asked.fields, client, roles, "A name is up to 256 bytes of printable text.")
        elif _needs_secret(roles) and not _knows(request, asked.fields.get("login_secret", "")):
            return _page(asked.fields, client, roles, "That is not the stack's development secret.")
        grant = provider.get_consent_grant(asked, end_user=name or None)
        answer: web.Response = provider.create_authorization_response(asked, name or None, grant)
    except OAuth2Error as error:
        return _refused(provider, asked, error)
    except ValueError:
        return _malformed()
    return answer


async def token(request: web.Request) -> web.Response:
    """Tokens for a code, a refresh token or a client's secret. No grant type: the development grant."""
    try:
        form = await _form(request)
        if "grant_type" not in form:
            return _develop(request, form)
        asked = Asked(request.method, request.headers, form)
        answer: web.Response = request.app[PROVIDER].create_token_response(asked)
    except ValueError:
        answer = _malformed()
    answer.headers.update(FOR_ALL)
    return answer


async def rotate(request: web.Request) -> web.Response:
    """Signs with the coming key from now on; with `withdraw=1`, replaces every key."""
    if not _knows(request, _bearer(request)):
        return web.json_response({"error": "invalid_client"}, status=401)
    form = await _form(request)
    keeper = request.app[KEEPER]
    keeper.rotate(withdraw=form.get("withdraw") == "1")
    ids = [key["kid"] for key in keeper.minter.jwks()["keys"]]
    return web.json_response({"coming": ids[0], "signing": ids[1], "retired": ids[2:]})


async def healthy(_request: web.Request) -> web.Response:
    """Answers as soon as the issuer serves."""
    return web.json_response({"status": "ok"})


async def _keeping(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[KEEPER].run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _wanted(provider: Provider, asked: Asked) -> tuple[Client, list[str]]:
    """Who asks, and which roles its tokens would carry. Raises OAuth2Error if something is not in order."""
    request = provider.get_consent_grant(asked).request
    client: Client = request.client
    return client, [each for each in request.scope.split() if each in client.roles]


def _needs_secret(roles: list[str]) -> bool:
    """A buyer's name is anybody's; who may define sales is for those who own the stack."""
    return set(roles) != {"buyer"}


def _page(fields: MultiMapping[str], client: Client, roles: list[str], problem: str = "") -> web.Response:
    text = page(dict(fields), client=client.id, roles=roles, ask_secret=_needs_secret(roles), problem=problem)
    status = 400 if problem else 200
    return web.Response(text=text, content_type="text/html", status=status, headers=HEADERS)


def _refused(provider: Provider, asked: Asked, error: OAuth2Error) -> web.Response:
    answer: web.Response = provider.handle_error_response(provider.create_oauth2_request(asked), error)
    return answer


def _malformed() -> web.Response:
    """The library raises ValueError where what was sent cannot be quoted in an error."""
    return web.json_response({"error": "invalid_request"}, status=400)


def _develop(request: web.Request, form: MultiMapping[str]) -> web.Response:
    if not _knows(request, _bearer(request)):
        return web.json_response({"error": "invalid_client"}, status=401)
    try:
        grant = read_grant(form)
    except InvalidRequest as error:
        return web.json_response({"error": "invalid_request", "error_description": str(error)}, status=400)
    minted = request.app[PROVIDER].minter.mint(
        grant.subject, roles=grant.roles, namespace=grant.namespace, ttl_s=grant.ttl_s
    )
    answer = {"access_token": minted, "token_type": "Bearer", "expires_in": grant.ttl_s}
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _knows(request: web.Request, secret: str) -> bool:
    return secrets.compare_digest(secret.encode(errors="replace"), request.app[SECRET].encode())


async def _form(request: web.Request) -> MultiMapping[str]:
    """The form's texts; uploaded files are passed over. What cannot be read is answered 400."""
    try:
        form = await request.post()
    except (web.RequestPayloadError, LookupError, ValueError):
        # Not compressed as it says, of a charset that nobody has, or not of its charset.
        text = json.dumps({"error": "invalid_request"})
        raise web.HTTPBadRequest(text=text, content_type="application/json") from None
    return MultiDict((name, value) for name, value in form.items() if isinstance(value, str))
