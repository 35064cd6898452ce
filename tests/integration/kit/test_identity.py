"""Tokens: which ones are taken, what is remembered, how the issuer's keys come and go."""

import asyncio
import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.kit import identity, jwks
from services.kit.errors import Refusal
from services.kit.identity import Caller, Verifier
from services.kit.keys import KeyRing, SymmetricKey
from tests.integration.kit.conftest import AUDIENCE, ISSUER, Issuer

KEYS = KeyRing((SymmetricKey("a", b"k" * 32),))


@pytest.fixture
def verifier(issuer: Issuer) -> Verifier:
    return verifier_of(issuer)


def verifier_of(issuer: Issuer, *, fresh_s: float = 300.0, remember_most: int = 100) -> Verifier:
    return Verifier(
        issuer.url, ISSUER, AUDIENCE, KEYS, fresh_s=fresh_s, remember_s=60.0, remember_most=remember_most
    )


async def word_of(verifier: Verifier, token: str) -> str:
    try:
        await verifier.verify([("authorization", f"Bearer {token}")])
    except Refusal as refusal:
        return refusal.word
    return "FINE"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_of_every_algorithm_are_verified(
    verifier: Verifier, issuer: Issuer, algorithm: str
) -> None:
    issuer.add_key("other", algorithm)
    token = issuer.token("bia", roles=["buyer", "staff"], kid="other", claims={"ns": "shop"})
    caller = await verifier.verify([("authorization", f"bearer {token}"), ("catraca-buyer", "x")])
    assert caller == Caller("shop", "bia", frozenset({"buyer", "staff"}), "x", KEYS)


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Basic YTpi")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer junk")],
        [("authorization", "Bearer a.b.c")],
        [("authorization", "Bearer " + "a" * 9000)],
        [("authorization-bin", b"Bearer x")],
    ],
)
async def test_no_token_is_no_caller(verifier: Verifier, metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(Refusal, match="TOKEN_INVALID"):
        await verifier.verify(metadata)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other.test"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 257},
        {"sub": "a\x00b"},
        {"sub": "a\nb"},
        {"ns": ""},
        {"ns": "a\x00b"},
        {"ns": 7},
        {"roles": "buyer"},
        {"roles": [1]},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": time.time() + 86_400},
    ],
)
async def test_claims_that_do_not_fit_are_refused(
    verifier: Verifier, issuer: Issuer, claims: dict[str, Any]
) -> None:
    assert await word_of(verifier, issuer.token(claims=claims)) == "TOKEN_INVALID"


def signed_with_what_is_public(claims: dict[str, Any], issuer: Issuer) -> str:
    """A token whose MAC uses the published key as if it were a secret."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "first"}, claims]
    text = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts)
    public = issuer.keys["first"][1].public_key()
    secret = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mac = base64.urlsafe_b64encode(hmac.digest(secret, text, "sha256")).rstrip(b"=")
    return (text + b"." + mac).decode()


async def test_forged_tokens_are_refused(verifier: Verifier, issuer: Issuer) -> None:
    good = issuer.token()
    assert await word_of(verifier, good) == "FINE"
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "==")) | {"roles": ["organiser"]}
    raised = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    unsigned = jwt.encode(claims, "", "none", headers={"kid": "first"})
    symmetric = signed_with_what_is_public(claims, issuer)
    issuer.add_key("strange", publish=False)
    stranger = issuer.token(kid="strange", headers={"kid": "first"})
    for token in (f"{head}.{raised}.{signature}", f"{head}.{body}.", unsigned, symmetric, stranger):
        assert await word_of(verifier, token) == "TOKEN_INVALID"


async def test_an_expired_token_says_so(verifier: Verifier, issuer: Issuer) -> None:
    assert await word_of(verifier, issuer.token(ttl_s=-1)) == "TOKEN_EXPIRED"


async def test_a_remembered_token_expires_too(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(ttl_s=20)
    assert await word_of(verifier, token) == "FINE"
    later = time.time() + 21
    monkeypatch.setattr(identity.time, "time", lambda: later)
    assert await word_of(verifier, token) == "TOKEN_EXPIRED"


async def test_a_token_is_verified_once_a_minute(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    decode = jwt.decode
    monkeypatch.setattr(identity.jwt, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    token = issuer.token()
    for _ in range(3):
        assert await word_of(verifier, token) == "FINE"
    assert len(decoded) == 1
    later = time.monotonic() + 61
    monkeypatch.setattr(identity.time, "monotonic", lambda: later)
    assert await word_of(verifier, token) == "FINE"
    assert len(decoded) == 2


async def test_what_is_remembered_is_known_at_once_and_the_buyer_is_each_calls_own(
    verifier: Verifier, issuer: Issuer
) -> None:
    token = ("authorization", f"Bearer {issuer.token('bff', roles=['bff'])}")
    assert verifier.remembered([token]) is None
    await verifier.verify([token, ("catraca-buyer", "ada")])
    known = [verifier.remembered([token, *more]) for more in ([], [("catraca-buyer", "bia")])]
    assert [who.buyer for who in known if who is not None] == [None, "bia"]


async def test_no_more_than_so_many_are_remembered(issuer: Issuer) -> None:
    verifier = verifier_of(issuer, remember_most=3)
    for number in range(5):
        assert await word_of(verifier, issuer.token(f"buyer {number}")) == "FINE"
    assert len(verifier._remembered) == 3


async def test_a_new_key_is_fetched_when_a_token_names_it(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await word_of(verifier, issuer.token()) == "FINE"
    issuer.add_key("second")
    # Not at once: otherwise every forged token would send us to the issuer.
    assert await word_of(verifier, issuer.token(kid="second")) == "TOKEN_INVALID"
    assert issuer.fetches == 1
    monkeypatch.setattr(jwks, "_COOL_DOWN_S", 0.0)
    words = await asyncio.gather(*(word_of(verifier, issuer.token(f"b{n}", kid="second")) for n in range(20)))
    assert set(words) == {"FINE"}
    assert issuer.fetches == 2


def after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the clock on; it runs on from there."""
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + seconds)


async def test_a_key_that_was_withdrawn_is_forgotten_in_time(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.add_key("second")
    assert await word_of(verifier, issuer.token("b1", kid="second")) == "FINE"
    issuer.published.pop()
    # Nobody called for a long time: the first who does waits for what the issuer says now.
    after(301, monkeypatch)
    assert await word_of(verifier, issuer.token("b2", kid="second")) == "TOKEN_INVALID"
    assert await word_of(verifier, issuer.token("b1", kid="second")) == "TOKEN_INVALID"
    assert await word_of(verifier, issuer.token()) == "FINE"


async def test_keys_are_fetched_again_before_they_are_old(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.add_key("second")
    assert await word_of(verifier, issuer.token("b1", kid="second")) == "FINE"
    issuer.published.pop()
    after(151, monkeypatch)
    assert await word_of(verifier, issuer.token("b2", kid="second")) == "FINE", "nobody waits"
    async with asyncio.timeout(10):
        while await word_of(verifier, issuer.token(kid="second")) == "FINE":
            await asyncio.sleep(0.01)


async def test_an_issuer_that_does_not_answer_takes_no_key_away(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await word_of(verifier, issuer.token("b1")) == "FINE"
    issuer.broken = True
    after(301, monkeypatch)
    for number in range(3):
        assert await word_of(verifier, issuer.token(f"late {number}")) == "FINE"
    assert issuer.fetches == 2


async def test_an_issuer_that_is_late_makes_nobody_invalid(
    verifier: Verifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.broken = True
    assert await word_of(verifier, issuer.token()) == "UNAVAILABLE"
    assert await word_of(verifier, issuer.token()) == "UNAVAILABLE"
    assert issuer.fetches == 1
    issuer.broken = False
    monkeypatch.setattr(jwks, "_FIRST_COOL_DOWN_S", 0.0)
    assert await word_of(verifier, issuer.token()) == "FINE"


async def test_who_stops_waiting_does_not_stop_the_fetch(verifier: Verifier, issuer: Issuer) -> None:
    tasks = [asyncio.create_task(word_of(verifier, issuer.token(f"b{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == ["FINE", "FINE"]
    assert issuer.fetches == 1


async def test_a_token_without_a_key_id_takes_the_only_key(verifier: Verifier, issuer: Issuer) -> None:
    assert await word_of(verifier, issuer.token(headers={})) == "FINE"


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"keys": [{"kty": "oct", "k": "aaaa", "kid": "first"}]}']
)
async def test_a_document_that_is_no_key_set_lets_nobody_in(issuer: Issuer, document: bytes) -> None:
    try:
        keys = jwks._parsed(json.loads(document))
    except (ValueError, KeyError, TypeError):
        return
    assert keys == {}
