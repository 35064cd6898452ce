"""The edge in front of several replicas: one that dies or restarts costs no caller anything."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from catraca.queue.v1 import queue_pb2 as queue

from local.client import Buyer, Connection, Targets
from local.servers import ports
from local.servers.envoy import Envoy
from local.stack import Stack

CALLERS = 6
QUIET_CALLS = 10


@pytest.fixture
async def at_edge(stack: Stack) -> AsyncIterator[Connection]:
    """The services as the edge shows them, over gRPC proper: a BFF may come this way."""
    address = stack.parts["edge"].addresses[0]
    async with Connection(Targets(address, address, address, address)) as connection:
        yield connection


class Callers:
    """Buyers who ask for their place again and again; whoever is refused ends with the refusal."""

    def __init__(self, buyers: list[Buyer]) -> None:
        self.answers = 0
        self.tasks = [asyncio.create_task(self._ask(buyer)) for buyer in buyers]

    async def _ask(self, buyer: Buyer) -> None:
        while True:
            assert (await buyer.place()).state == queue.PLACE_STATE_WAITING
            self.answers += 1

    async def go_on(self, calls: int = QUIET_CALLS) -> None:
        """Return when so many more calls were answered; raise the first refusal."""
        wanted = self.answers + calls * len(self.tasks)
        async with asyncio.timeout(30):
            while self.answers < wanted:
                for task in self.tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def everyone_is_back(edge: Envoy) -> None:
    """Wait until the edge finds both queues healthy: before that the next one must not go."""
    url = f"http://{ports.HOST}:{edge.admin_port}/clusters"
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            async with session.get(url) as answer:
                lines = (await answer.text()).splitlines()
            hosts = [line for line in lines if line.startswith("queue::") and "::health_flags::" in line]
            if len(hosts) == 2 and all(line.endswith("::healthy") for line in hosts):
                return
            await asyncio.sleep(0.1)


async def test_a_replica_that_dies_or_restarts_refuses_nobody(
    house: Any, stack: Stack, at_edge: Connection
) -> None:
    name = await house.sale(opens_in_s=600)
    buyers = [Buyer(at_edge, name, house.minter.mint(f"caller-{number}")) for number in range(CALLERS)]
    await asyncio.gather(*(buyer.join() for buyer in buyers))
    (edge,) = stack.parts["edge"].processes
    assert isinstance(edge, Envoy)
    callers = Callers(buyers)
    try:
        await callers.go_on()
        for replica in stack.parts["queue"].processes:
            # At once, with calls under way.
            replica.kill9()
            await callers.go_on()
            await replica.up()
            await everyone_is_back(edge)
            # And in order, with a drain.
            await asyncio.to_thread(replica.stop)
            await callers.go_on()
            await replica.up()
            await everyone_is_back(edge)
    finally:
        await callers.stop()
        # The stack is shared: others need both.
        await asyncio.gather(*(each.up() for each in stack.parts["queue"].processes if not each.running))
        await house.found_again()


async def test_the_line_is_watched_over_http2_too(house: Any, at_edge: Connection) -> None:
    name = await house.sale()
    buyer = Buyer(at_edge, name, house.minter.mint("somebody"))
    await buyer.join()
    place = await house.called(buyer)
    assert place.allowance == 4
    assert (await buyer.enter()).place == place.place
