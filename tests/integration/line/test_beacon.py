"""Public randomness: rounds of a drand chain over HTTP, from relays that need not be trusted."""

import socket
import time
from collections.abc import AsyncIterator

import pytest
from catraca.queue.v1.queue_pb2 import BeaconRound

from services.kit.errors import Refusal
from services.queue import beacon
from services.queue.beacon import Drand, chain_hash, first_after, is_signed, value_of
from tests.contract.draw_vectors import QUICKNET, QUICKNET_SOURCE, QUICKNET_VALUE, ROOT_AT_MS
from tests.drand import Chain, Relay


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    async with Relay(Chain()).serving() as serving:
        yield serving


def test_a_round_of_the_league_of_entropy_is_true() -> None:
    assert f"drand:{chain_hash(QUICKNET)}" == QUICKNET_SOURCE
    assert is_signed(QUICKNET)
    assert value_of(QUICKNET) == QUICKNET_VALUE
    assert first_after(QUICKNET, ROOT_AT_MS) == (1000, ROOT_AT_MS + 500)
    for field, value in (("round", 1001), ("signature", b"\xc0" + bytes(47)), ("public_key", b"x")):
        other = BeaconRound()
        other.CopyFrom(QUICKNET)
        setattr(other, field, value)
        assert not is_signed(other)


def test_the_first_round_is_due_at_the_beginning() -> None:
    genesis_ms = QUICKNET.genesis_s * 1000
    assert first_after(QUICKNET, genesis_ms - 10_000) == (1, genesis_ms)
    assert first_after(QUICKNET, genesis_ms - 1) == (1, genesis_ms)
    assert first_after(QUICKNET, genesis_ms) == (2, genesis_ms + 3000)
    assert first_after(QUICKNET, genesis_ms + 2999) == (2, genesis_ms + 3000)


async def test_a_round_is_read_once_it_is_due(relay: Relay) -> None:
    drand = Drand([relay.url])
    at_ms = now_ms()
    wait_s = await drand.round_after(relay.chain.source, at_ms, at_ms)
    assert isinstance(wait_s, float) and 0 < wait_s <= 1
    past = at_ms - 5000
    found = await drand.round_after(relay.chain.source, past, at_ms)
    assert isinstance(found, BeaconRound) and is_signed(found)
    assert found.round == first_after(relay.chain.info, past)[0]
    assert found.signature == relay.chain.sign(found.round)
    assert sum(path.endswith("/info") for path in relay.asked) == 1


async def test_who_is_silent_or_lies_is_passed_over(relay: Relay) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with Relay(relay.chain).serving() as liar, Relay(relay.chain).serving() as silent:
            drand = Drand([dead, liar.url, silent.url, relay.url])
            await drand.round_after(relay.chain.source, now_ms(), now_ms())
            liar.tells = Chain(secret=0xBAD)
            silent.silent = True
            found = await drand.round_after(relay.chain.source, now_ms() - 3000, now_ms())
            assert isinstance(found, BeaconRound)
            assert found.signature == relay.chain.sign(found.round)
            assert liar.asked and silent.asked
            relay.silent = True
            with pytest.raises(Refusal, match="UNAVAILABLE"):
                await drand.round_after(relay.chain.source, now_ms() - 3000, now_ms())


async def test_another_chain_is_not_taken_for_the_one_that_was_named(relay: Relay) -> None:
    relay.tells = Chain(secret=0xBAD)
    with pytest.raises(Refusal, match="UNAVAILABLE"):
        await Drand([relay.url]).round_after(relay.chain.source, 0, now_ms())
    with pytest.raises(ValueError, match="names no chain"):
        await Drand([relay.url]).round_after("drand:quicknet", 0, now_ms())


async def test_a_scheme_that_is_not_known_is_refused(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beacon, "SCHEME", "pedersen-bls-chained")
    with pytest.raises(Refusal, match="UNAVAILABLE"):
        await Drand([relay.url]).round_after(relay.chain.source, 0, now_ms())
