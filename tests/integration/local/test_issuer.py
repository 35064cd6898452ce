"""The token issuer: what it mints verifies with what it publishes, and it grants nothing to strangers."""

from pathlib import Path
from typing import Any

import jwt
import pytest

from local.issuer.tokens import AUDIENCE, Minter
from tests.integration.local.conftest import ISSUER, SECRET, Client


async def published_key(client: Client, token: str) -> jwt.PyJWK:
    found = await (await client.get("/.well-known/openid-configuration")).json()
    keys = await (await client.get(found["jwks_uri"].removeprefix(ISSUER))).json()
    return jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]]


async def ask(client: Client, secret: str = SECRET, **form: str) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/token", data=form, headers={"Authorization": f"Bearer {secret}"})
    return answer.status, await answer.json()


async def test_a_granted_token_verifies_with_the_published_key(client: Client) -> None:
    status, granted = await ask(client, subject="ana", namespace="cinema", roles="buyer staff", ttl="60")

    claims = jwt.decode(
        granted["access_token"],
        await published_key(client, granted["access_token"]),
        algorithms=["RS256"],
        audience=AUDIENCE,
        issuer=ISSUER,
    )
    assert status == 200
    assert claims["sub"] == "ana"
    assert claims["ns"] == "cinema"
    assert claims["roles"] == ["buyer", "staff"]
    assert claims["exp"] - claims["iat"] == 60


async def test_a_grant_defaults_to_a_public_buyer(client: Client) -> None:
    _, granted = await ask(client, subject="ana")

    claims = jwt.decode(granted["access_token"], options={"verify_signature": False})
    assert (claims["ns"], claims["roles"]) == ("public", ["buyer"])


@pytest.mark.parametrize("secret", ["", "wrong", "développement"])
async def test_without_the_secret_nothing_is_granted(client: Client, secret: str) -> None:
    status, answer = await ask(client, secret, subject="ana")

    assert status == 401
    assert answer == {"error": "invalid_client"}


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("subject", {}),
        ("subject", {"subject": "x" * 257}),
        ("subject", {"subject": "a\0b"}),
        ("namespace", {"subject": "ana", "namespace": "Not A Label"}),
        ("roles", {"subject": "ana", "roles": "buyer king"}),
        ("roles", {"subject": "ana", "roles": " "}),
        ("ttl", {"subject": "ana", "ttl": "0"}),
        ("ttl", {"subject": "ana", "ttl": "-5"}),
        ("ttl", {"subject": "ana", "ttl": "soon"}),
        ("ttl", {"subject": "ana", "ttl": "9" * 5000}),
    ],
)
async def test_a_wrong_field_is_named(client: Client, field: str, form: dict[str, str]) -> None:
    status, answer = await ask(client, **form)

    assert status == 400
    assert answer["error"] == "invalid_request"
    assert answer["error_description"].startswith(field)


def test_the_key_is_private_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "issuer.json"

    first, second = Minter(file, ISSUER), Minter(file, ISSUER)

    assert first.key_id == second.key_id
    assert file.stat().st_mode & 0o077 == 0


def test_an_expired_token_can_be_minted_for_tests(minter: Minter) -> None:
    token = minter.mint("ana", ttl_s=-60)

    key = jwt.PyJWKSet.from_dict(minter.jwks())[minter.key_id]
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE)
