"""Whoever joins a line in which nobody waits is heard of by every replica, over the real NATS."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from catraca.sale.v1 import sale_pb2
from nats.aio.client import Client

from local.servers.nats import Nats
from services.kit.definitions import Definition
from services.kit.streams import connect_nats
from services.queue.line import Line
from services.queue.receipts import Receipts
from services.queue.workers.arrivals import Arrivals
from tests.integration.line.fakes import joiners
from tests.integration.line.leading import Sale, buyer, trees_of
from tests.integration.line.replicas import NatsUrl


@pytest.fixture
async def replicas(nats_server: Nats) -> AsyncIterator[list[Client]]:
    """The NATS connections of two replicas."""
    connections = [await connect_nats(NatsUrl(nats_server.url)) for _ in range(2)]
    yield connections
    for each in connections:
        await each.close()


async def no_salt(_sale: str) -> bytes:
    return bytes(32)


async def test_every_replica_hears_of_who_joins_an_empty_line(sale: Sale, replicas: list[Client]) -> None:
    heard: list[list[str]] = [[], []]
    here, there = (Arrivals(nc) for nc in replicas)
    nothing = cast(Any, None)
    definition = Definition(sale_pb2.Sale(sale=sale.id), 1)
    line = Line(
        sale.store,
        sale.ledger,
        Receipts(None, no_salt),
        trees_of(sale.store),
        nothing,
        lambda _sale: definition,
        here.tell,
    )
    await sale.define()

    async def told(times: int) -> None:
        async with asyncio.timeout(10):
            while any(of_this.count(sale.id) < times for of_this in heard):
                await asyncio.sleep(0.005)

    async with here.listening(heard[0].append), there.listening(heard[1].append):
        for nc in replicas:
            await nc.flush()
        await line.join(sale.id, joiners([buyer(0)]))
        await sale.define(opens_in_ms=-1)
        await sale.store.serve(sale.id, 1, [])
        await line.join(sale.id, joiners([buyer(0), buyer(1)]))
        await told(1)
        # The next ones find somebody waiting; one who comes when nobody does is heard of again.
        await line.join(sale.id, joiners([buyer(2)]))
        await line.join(sale.id, joiners([buyer(3)]))
        await sale.store.serve(sale.id, 4, [])
        await line.join(sale.id, joiners([buyer(4)]))
        await told(2)

    assert heard == [[sale.id] * 2] * 2


async def test_joining_goes_on_without_nats(replicas: list[Client]) -> None:
    await replicas[0].close()

    await Arrivals(replicas[0]).tell("a-sale")
