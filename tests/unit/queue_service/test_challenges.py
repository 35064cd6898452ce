"""Challenges are good for one buyer of one sale, for a while, and only solved."""

import base64
import json
from typing import Any

import altcha
import pytest

from services.kit.keys import KeyRing, SymmetricKey
from services.queue.challenges import CHARS, ID_BYTES, Challenges

RING = KeyRing((SymmetricKey("new", b"n" * 32), SymmetricKey("old", b"o" * 32)))
ALICE, BOB = b"a" * 16, b"b" * 16


def solved(text: str) -> str:
    """What a browser sends back."""
    challenge = altcha.Challenge.from_dict(json.loads(text))
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    return altcha.Payload(challenge, solution).to_base64()


@pytest.fixture(scope="module")
def challenges() -> Challenges:
    return Challenges(RING, digits=2, lifetime_s=600)


@pytest.fixture(scope="module")
def payload(challenges: Challenges) -> str:
    return solved(challenges.make("show", ALICE)[0])


def test_a_solved_one_has_an_id_of_its_own(challenges: Challenges, payload: str) -> None:
    found = challenges.solved("show", ALICE, payload)
    assert found is not None and len(found) == ID_BYTES
    assert challenges.solved("show", ALICE, payload) == found
    assert challenges.solved("show", ALICE, solved(challenges.make("show", ALICE)[0])) != found
    assert len(payload) <= CHARS


def test_it_is_of_one_buyer_and_one_sale(challenges: Challenges, payload: str) -> None:
    assert challenges.solved("show", BOB, payload) is None
    assert challenges.solved("another-show", ALICE, payload) is None


def test_a_key_that_was_replaced_checks_on_until_it_is_gone(payload: str) -> None:
    later = Challenges(KeyRing((SymmetricKey("newer", b"m" * 32), *RING.keys)), 2, 600)
    assert later.solved("show", ALICE, payload) is not None
    assert Challenges(KeyRing(RING.keys[1:]), 2, 600).solved("show", ALICE, payload) is None
    other = Challenges(KeyRing((SymmetricKey("new", b"x" * 32),)), 2, 600)
    assert other.solved("show", ALICE, payload) is None


def test_one_that_is_over_is_none() -> None:
    short = Challenges(RING, digits=1, lifetime_s=-2)
    assert short.solved("show", ALICE, solved(short.make("show", ALICE)[0])) is None


def changed(payload: str, *path: str, value: Any) -> str:
    content = json.loads(base64.b64decode(payload))
    target = content
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    return base64.b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("solution", "counter"), 0),
        (("solution", "counter"), "7"),
        (("solution", "derivedKey"), "00" * 32),
        (("solution",), None),
        (("challenge", "signature"), None),
        (("challenge", "signature"), "00" * 32),
        (("challenge", "parameters", "keyPrefix"), ""),
        (("challenge", "parameters", "cost"), 10**9),
        (("challenge", "parameters", "expiresAt"), 2**40),
        (("challenge", "parameters", "nonce"), "00" * 16),
        (("challenge", "parameters", "nonce"), "00"),
        (("challenge", "parameters", "nonce"), 5),
        (("challenge", "parameters", "data"), None),
        (("challenge", "parameters", "data"), {"for": "x"}),
        (("challenge", "parameters", "data", "key"), ["new"]),
        (("challenge", "parameters", "data", "key"), "old"),
        (("challenge",), []),
    ],
)
def test_one_that_was_changed_is_none(
    challenges: Challenges, payload: str, path: tuple[str, ...], value: Any
) -> None:
    assert challenges.solved("show", ALICE, changed(payload, *path, value=value)) is None


@pytest.mark.parametrize(
    "text", ["", "x", "////", "e30=", "bnVsbA==", "W10=", "MQ==", base64.b64encode(b"[" * 1500).decode(), "é"]
)
def test_what_is_none_at_all_is_none(challenges: Challenges, text: str) -> None:
    assert challenges.solved("show", ALICE, text) is None
