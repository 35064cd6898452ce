"""Floods at the edge: bounded for each address and each BFF, refused, counted, and others are served."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local.client import Buyer, Connection, Targets
from local.issuer.tokens import AUDIENCE, Minter
from local.servers import ports
from local.servers.envoy import Envoy, Upstreams
from local.stack import SERVICES, Stack
from services.kit.errors import Refusal
from tests.e2e.cheating import word_of
from tests.e2e.pages import read_page, total

JOINS = 10_000
AT_ONCE = 200
PEOPLE = 25
PER_S = 20
LIMITED = "envoy_http_local_rate_limit_rate_limited_total"
SEEN = "envoy_http_local_rate_limit_enabled_total"

OpenEdge = Callable[..., Any]


@pytest.fixture
def edge(stack: Stack, tmp_path: Path) -> OpenEdge:
    """Opens an edge of one's own, with the limits given, and a connection through it."""

    @asynccontextmanager
    async def opened(**limits: int) -> AsyncIterator[tuple[Envoy, Connection]]:
        addresses = {name: part.addresses for name, part in stack.parts.items() if name in SERVICES}
        nobody = {"standing": [f"{ports.HOST}:{ports.reserve()}"]}
        envoy = Envoy(tmp_path, f"edge-{secrets.token_hex(4)}", **limits)
        running = stack.running
        envoy.upstreams = Upstreams(running.issuer, running.jwks_url, AUDIENCE, addresses | nobody)
        await envoy.up()
        try:
            at = envoy.address
            async with Connection(Targets(at, at, at, at)) as connection:
                yield envoy, connection
        finally:
            await asyncio.to_thread(envoy.stop)

    return opened


async def counted(envoy: Envoy) -> tuple[int, int]:
    """How many calls Envoy's limits have seen, and refused."""
    async with aiohttp.ClientSession() as http:
        samples = await read_page(http, f"http://{ports.HOST}:{envoy.admin_port}/stats/prometheus")
    return round(total(samples, SEEN)), round(total(samples, LIMITED))


async def flood(buyers: list[Buyer], calls: int) -> Counter[str]:
    """So many joins, by each of the buyers in turn; answers how often each word was said."""
    words: Counter[str] = Counter()
    numbers = iter(range(calls))

    async def go_on() -> None:
        for number in numbers:
            words[await word_of(buyers[number % len(buyers)].join())] += 1

    await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
    return words


def from_somewhere(buyer: Buyer, last: str = "") -> Buyer:
    """The buyer, who says that the call comes from elsewhere."""
    said = ".".join(str(secrets.randbelow(250) + 1) for _ in range(4))
    buyer.metadata = (*buyer.metadata, ("x-forwarded-for", f"{said}, {last}" if last else said))
    return buyer


async def test_ten_thousand_joins_from_one_address_are_few(house: Any, edge: OpenEdge) -> None:
    name = await house.sale(opens_in_s=3000)
    bff = house.minter.mint("front", roles=["bff"], namespace="shop")
    async with edge(client_requests_per_s=PER_S) as (envoy, at):
        # Each says that they are elsewhere, and nobody believes it.
        crowd = [
            from_somewhere(Buyer(at, name, house.minter.mint(f"one-of-many-{number}")))
            for number in range(PEOPLE)
        ]
        # What a new connection asks by itself is no join.
        await Buyer(at, name, bff, subject="first").join()
        seen, _ = await counted(envoy)
        began = time.monotonic()
        flooding = asyncio.create_task(flood(crowd, JOINS))
        # Through the same address a BFF is served meanwhile: it has a bucket of its own.
        served = [await Buyer(at, name, bff, subject=f"guest-{number}").join() for number in range(100)]
        words = await flooding
        took_s = time.monotonic() - began

        assert words.keys() == {"FINE", "OVERLOADED"} and words.total() == JOINS
        assert words["FINE"] <= PER_S * (took_s + 2), "what the bucket holds at first, and what was added"
        assert await counted(envoy) == (seen + JOINS + len(served), words["OVERLOADED"])
        async with asyncio.timeout(20):
            # Whoever waits as they are told is served.
            refused = await refusal_of_a_join(crowd[0])
            while refused is not None:
                assert refused.word == "OVERLOADED" and refused.retry_after_s
                await asyncio.sleep(refused.retry_after_s / 10)
                refused = await refusal_of_a_join(crowd[0])
    places = [await house.buyer(name, f"one-of-many-{number}").join() for number in range(PEOPLE)]
    assert len({place.index for place in (*served, *places)}) == len(served) + PEOPLE


async def refusal_of_a_join(buyer: Buyer) -> Refusal | None:
    try:
        await buyer.join()
    except Refusal as refusal:
        return refusal
    return None


async def test_a_proxy_in_front_is_believed_and_nobody_behind_it(house: Any, edge: OpenEdge) -> None:
    name = await house.sale(opens_in_s=3000)
    async with edge(client_requests_per_s=PER_S, trusted_hops=1) as (envoy, at):
        tokens = [house.minter.mint(f"behind-{number}") for number in range(PEOPLE)]
        # The last address is what the proxy saw; what stands before it the client may have made up.
        crowd = [from_somewhere(Buyer(at, name, token), "203.0.113.7") for token in tokens]
        neighbour = from_somewhere(Buyer(at, name, house.minter.mint("neighbour")), "203.0.113.8")
        flooding = asyncio.create_task(flood(crowd, 1000))
        for _ in range(PER_S // 2):
            await neighbour.join()
        words = await flooding

        assert words.keys() == {"FINE", "OVERLOADED"}
        assert (await counted(envoy))[1] == words["OVERLOADED"]


async def test_a_bff_has_a_bucket_and_a_forged_one_has_none(
    house: Any, edge: OpenEdge, tmp_path: Path
) -> None:
    name = await house.sale(opens_in_s=3000)
    forger = Minter(tmp_path / "forged.json", house.running.issuer)
    bffs = [
        house.minter.mint("front", roles=["bff"], namespace="shop"),
        house.minter.mint("other-front", roles=["bff"], namespace="shop"),
    ]
    async with edge(client_requests_per_s=PER_S, bff_requests_per_s=PER_S) as (envoy, at):
        fronts = [Buyer(at, name, token, subject="guest") for token in bffs]
        flooding = asyncio.create_task(flood(fronts, 1000))
        other = house.minter.mint("kiosk", roles=["bff"], namespace="kiosks")
        for _ in range(PER_S // 2):
            # Neither a buyer at the same address nor a BFF of another namespace feels it.
            await Buyer(at, name, house.minter.mint("buyer")).join()
            await Buyer(at, name, other, subject="guest").join()
        words = await flooding
        assert words.keys() == {"FINE", "OVERLOADED"}

        posing = Buyer(at, name, forger.mint("front", roles=["bff"], namespace="new"), subject="guest")
        said = await flood([posing], 1000)
        # Who only says to be a BFF is counted by address, like anybody with a bad token.
        assert said.keys() == {"TOKEN_INVALID", "OVERLOADED"}
        assert (await counted(envoy))[1] == words["OVERLOADED"] + said["OVERLOADED"]
