"""Signing in: the code flow with PKCE, refresh tokens used once, clients that act for themselves."""

import json
import re
import time
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.discovery import OpenIDProviderMetadata

from local.issuer import sign_ins
from local.issuer.tokens import AUDIENCE, Minter
from tests.integration.local.conftest import ISSUER, SECRET, Client

BACK = "http://127.0.0.1:4321/callback"
VERIFIER = "v" * 64
REQUEST = {
    "response_type": "code",
    "client_id": "storefront",
    "redirect_uri": BACK,
    "scope": "openid profile buyer",
    "state": "st<a>te",
    "nonce": "n-1",
    "code_challenge": create_s256_code_challenge(VERIFIER),
    "code_challenge_method": "S256",
}
HIDDEN = re.compile(r'type="hidden" name="([^"]*)" value="([^"]*)"')


def without(*names: str, **others: str) -> dict[str, str]:
    return {name: value for name, value in (REQUEST | others).items() if name not in names}


async def signed_in(client: Client, name: str = "ana", **request: str) -> dict[str, str]:
    """Opens the page, types a name, and answers what the browser carries back to the client."""
    shown = await client.get("/authorize", params=REQUEST | request)
    assert shown.status == 200
    fields = {unescape(field): unescape(value) for field, value in HIDDEN.findall(await shown.text())}
    assert fields == REQUEST | request
    typed = {"login_name": name, "login_secret": SECRET, "decision": "allow"}
    answer = await client.post("/authorize", data=fields | typed, allow_redirects=False)
    assert answer.status == 302, await answer.text()
    assert answer.headers["Location"].startswith(fields["redirect_uri"] + "?")
    return {name: value for name, (value,) in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


async def tokens(client: Client, **form: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/token", data={"client_id": "storefront"} | form)
    return answer.status, await answer.json()


async def exchanged(client: Client, code: str, **form: str) -> tuple[int, dict[str, Any]]:
    asked = {"grant_type": "authorization_code", "redirect_uri": BACK, "code_verifier": VERIFIER}
    return await tokens(client, **(asked | {"code": code} | form))


async def refreshed(client: Client, token: str, **form: str) -> tuple[int, dict[str, Any]]:
    return await tokens(client, grant_type="refresh_token", refresh_token=token, **form)


def claims_of(minter: Minter, token: str, audience: str = AUDIENCE) -> dict[str, Any]:
    key = jwt.PyJWKSet.from_dict(minter.jwks())[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=ISSUER)
    return claims


async def test_discovery_names_every_endpoint(client: Client) -> None:
    document = await (await client.get("/.well-known/openid-configuration")).json()
    secure = json.loads(json.dumps(document).replace("http://", "https://"))
    OpenIDProviderMetadata(secure).validate()
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert (await client.get(document[name].removeprefix(ISSUER))).status != 404


async def test_a_buyer_signs_in(client: Client, minter: Minter) -> None:
    back = await signed_in(client, "ana", state="st<a>te")
    assert back["state"] == "st<a>te"
    status, given = await exchanged(client, back["code"])
    assert status == 200 and given["token_type"] == "Bearer"
    access = claims_of(minter, given["access_token"])
    assert (access["sub"], access["ns"], access["roles"]) == ("ana", "public", ["buyer"])
    identity = claims_of(minter, given["id_token"], "storefront")
    assert (identity["sub"], identity["nonce"], identity["name"]) == ("ana", "n-1", "ana")
    assert identity["exp"] > time.time()


async def test_the_page_says_what_it_is(client: Client) -> None:
    shown = await client.get("/authorize", params=without(state='"><script>alert(1)</script>'))
    text = await shown.text()
    assert "Development only" in text and "<script>" not in text
    assert "frame-ancestors 'none'" in shown.headers["Content-Security-Policy"]


async def test_roles_are_asked_for_and_bounded_by_the_client(client: Client, minter: Minter) -> None:
    back = await signed_in(client, client_id="control-room", scope="openid staff buyer")
    _, given = await exchanged(client, back["code"], client_id="control-room")
    assert claims_of(minter, given["access_token"])["roles"] == ["staff"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"login_name": "", "login_secret": SECRET}, "A name is"),
        ({"login_name": "a\u200bb", "login_secret": SECRET}, "A name is"),
        ({"login_name": "ã" * 200, "login_secret": SECRET}, "A name is"),
        ({"login_name": "boss"}, "development secret"),
        ({"login_name": "boss", "login_secret": "no"}, "development secret"),
    ],
)
async def test_who_runs_sales_knows_the_secret(client: Client, typed: dict[str, str], says: str) -> None:
    request = without(client_id="control-room", scope="openid organiser")
    answer = await client.post("/authorize", data=request | typed, allow_redirects=False)
    assert answer.status == 400
    assert says in re.findall(r'role="alert">([^<]*)', unescape(await answer.text()))[0]


async def test_a_buyer_may_think_better_of_it(client: Client) -> None:
    answer = await client.post(
        "/authorize", data=REQUEST | {"login_name": "ana", "decision": "deny"}, allow_redirects=False
    )
    assert "error=access_denied" in answer.headers["Location"]
    assert "code=" not in answer.headers["Location"]


@pytest.mark.parametrize(
    "request_",
    [
        without("client_id"),
        without(client_id="nobody"),
        without(client_id="front"),
        without("redirect_uri"),
        without(redirect_uri="https://evil.test/callback"),
        without(redirect_uri="http://127.0.0.1:4321@evil.test/callback"),
        without(redirect_uri="http://127.0.0.1:4321/callback/../elsewhere"),
        without(redirect_uri='http://evil.test/"ã'),
        without(redirect_uri="http://127.0.0.1:99999/callback"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_is_sent_to_a_stranger(client: Client, method: str, request_: dict[str, str]) -> None:
    fields = {"params": request_} if method == "GET" else {"data": request_ | {"login_name": "ana"}}
    answer = await client.request(method, "/authorize", allow_redirects=False, **fields)
    assert answer.status in (400, 401)
    assert "Location" not in answer.headers
    assert "error" in await answer.json()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (without("code_challenge"), "invalid_request"),
        (without("code_challenge", "code_challenge_method"), "invalid_request"),
        (without("code_challenge_method"), "invalid_request"),
        (without(code_challenge_method="plain"), "invalid_request"),
        (without(code_challenge="short"), "invalid_request"),
        (without(response_type="token"), "unsupported_response_type"),
        (without(prompt="none"), "login_required"),
    ],
)
async def test_a_request_without_pkce_gets_no_code(
    client: Client, request_: dict[str, str], error: str
) -> None:
    answer = await client.get("/authorize", params=request_, allow_redirects=False)
    assert answer.status == 302
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["error"] == [error] and query["state"] == [REQUEST["state"]]


@pytest.mark.parametrize(
    "form",
    [
        {"code_verifier": "w" * 64},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:4321/"},
        {"client_id": "control-room"},
        {"code": "another"},
    ],
)
async def test_a_stolen_code_is_worth_nothing(client: Client, form: dict[str, str]) -> None:
    code = (await signed_in(client))["code"]
    status, answer = await exchanged(client, **({"code": code} | form))
    assert status == 400 and answer["error"] in ("invalid_grant", "invalid_request")
    assert (await exchanged(client, code))[0] == 200, "its owner can still use it"


async def test_a_code_that_comes_again_ends_what_it_gave(client: Client) -> None:
    code = (await signed_in(client))["code"]
    _, given = await exchanged(client, code)
    status, answer = await exchanged(client, code)
    assert (status, answer["error"]) == (400, "invalid_grant")
    assert (await refreshed(client, given["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_an_old_code_is_worth_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (await signed_in(client))["code"]
    monkeypatch.setattr(sign_ins, "CODE_TTL_S", -1.0)
    assert (await exchanged(client, code))[1]["error"] == "invalid_grant"


async def test_a_nonce_is_good_once(client: Client) -> None:
    await signed_in(client)
    answer = await client.get("/authorize", params=REQUEST, allow_redirects=False)
    assert "error=invalid_request" in answer.headers["Location"]


async def test_refresh_tokens_are_used_once(client: Client, minter: Minter) -> None:
    _, first = await exchanged(client, (await signed_in(client))["code"])
    status, second = await refreshed(client, first["refresh_token"])
    assert status == 200 and second["refresh_token"] != first["refresh_token"]
    assert claims_of(minter, second["access_token"])["sub"] == "ana"
    assert (await refreshed(client, second["refresh_token"]))[0] == 200


async def test_a_refresh_token_that_comes_again_ends_the_sign_in(client: Client) -> None:
    _, first = await exchanged(client, (await signed_in(client))["code"])
    _, second = await refreshed(client, first["refresh_token"])
    status, answer = await refreshed(client, first["refresh_token"])
    assert (status, answer["error"]) == (400, "invalid_grant")
    # Whoever of the two is the thief: neither goes on.
    assert (await refreshed(client, second["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_a_refresh_token_is_its_clients(client: Client) -> None:
    _, given = await exchanged(client, (await signed_in(client))["code"])
    status, _ = await refreshed(client, given["refresh_token"], client_id="control-room")
    assert status == 400
    assert (await refreshed(client, given["refresh_token"], scope="openid organiser"))[0] == 400


async def test_a_sign_in_ends(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "SIGN_IN_TTL_S", -1.0)
    _, given = await exchanged(client, (await signed_in(client))["code"])
    assert (await refreshed(client, given["refresh_token"]))[1]["error"] == "invalid_grant"


async def test_what_is_remembered_is_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_ins, "MOST", 2)
    given = []
    for number in range(3):
        back = await signed_in(client, nonce=f"n-{number}")
        given.append((await exchanged(client, back["code"]))[1]["refresh_token"])
    statuses = [(await refreshed(client, token))[0] for token in given]
    assert statuses == [400, 200, 200]


@pytest.mark.parametrize(
    ("name", "role", "namespace"), [("front", "bff", "shop"), ("service", "service", "public")]
)
@pytest.mark.parametrize("basic", [True, False])
async def test_a_client_with_a_secret_acts_for_itself(
    client: Client, minter: Minter, tmp_path: Path, name: str, role: str, namespace: str, basic: bool
) -> None:
    secrets = {
        each["id"]: each.get("secret", "") for each in json.loads((tmp_path / "clients.json").read_text())
    }
    form = {"grant_type": "client_credentials"}
    if basic:
        sent: dict[str, Any] = {"headers": {"Authorization": aiohttp.encode_basic_auth(name, secrets[name])}}
    else:
        sent, form = {}, form | {"client_id": name, "client_secret": secrets[name]}
    answer = await client.post("/token", data=form, **sent)
    given = await answer.json()
    assert answer.status == 200 and "refresh_token" not in given
    claims = claims_of(minter, given["access_token"])
    assert (claims["sub"], claims["roles"], claims["ns"]) == (name, [role], namespace)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"client_id": "front"},
        {"client_id": "front", "client_secret": "no"},
        {"client_id": "storefront"},
        {"client_id": "storefront", "client_secret": ""},
        {"client_id": "nobody", "client_secret": "ã"},
        {"client_id": "front", "client_secret": "\ud83d\ude00"},
    ],
)
async def test_no_secret_no_token(client: Client, form: dict[str, str]) -> None:
    body = {"grant_type": "client_credentials"} | {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16") for name, value in form.items()
    }
    answer = await client.post("/token", data=body)
    assert answer.status in (400, 401)
    assert (await answer.json())["error"] in ("invalid_client", "unauthorized_client")


@pytest.mark.parametrize("grant_type", ["password", "implicit", "", 'ã"'])
async def test_other_grants_are_refused(client: Client, grant_type: str) -> None:
    status, answer = await tokens(client, grant_type=grant_type)
    assert status == 400 and answer["error"] in ("unsupported_grant_type", "invalid_request")
