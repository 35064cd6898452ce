"""The organiser's desk on real NATS, Redis and line's store; inventory and checkout in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2 as pb
from nats.js import JetStreamContext
from redis.asyncio import Redis

from local.servers.nats import Nats as NatsServer
from local.servers.redis import Redis as RedisServer
from services.kit.definitions import Definitions
from services.kit.epochs import Epochs
from services.kit.errors import Refusal
from services.kit.manifest import spec_of
from services.kit.plans.store import PlanStore
from services.kit.redis import connect
from services.kit.streams import connect_nats, declare
from services.queue.events import last_published
from services.queue.sales.desk import Desk
from services.queue.sales.rules import Offered
from services.queue.sales.store import DrawStore, SaleStore
from services.queue.seeds import Seeds
from services.queue.store import LineStore
from services.queue.workers.loader import EpochCache, Loader


@dataclass
class MemoryInventory:
    """Inventory as the desk sees it: what it was told, and how it fails if told to."""

    loaded: dict[str, int] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    under_way: bool = False
    down: bool = False

    async def load(self, sale: str, revision: int) -> None:
        self._answer()
        self.loaded[sale] = max(self.loaded.get(sale, 0), revision)

    async def counts(self, sale: str) -> pb.SaleCounts | None:
        return None if self.down or sale not in self.loaded else pb.SaleCounts(capacity=100, free=100)

    async def drop(self, sale: str) -> None:
        self._answer()
        if self.under_way:
            raise Refusal("SALE_NOT_SETTLED")
        self.dropped.append(sale)

    def _answer(self) -> None:
        if self.down:
            raise Refusal("UNAVAILABLE")


@dataclass
class MemoryOrders:
    """Checkout as the desk sees it."""

    open: int = 0

    async def open_orders(self, sale: str) -> int:
        return self.open


class Clock:
    """The line's clock, moved by hand."""

    def __init__(self, store: LineStore) -> None:
        self._store = store
        self.ahead_ms = 0

    async def now_ms(self) -> int:
        return await self._store.now_ms() + self.ahead_ms


class Office:
    """One replica's desk with everything around it."""

    def __init__(self, js: JetStreamContext, redis: Redis) -> None:
        epochs = Epochs(js)
        cache = EpochCache(epochs)
        nothing: Any = None
        self.definitions = Definitions(js)
        self.line = LineStore(redis, cache, lambda sale: last_published(js, sale))
        self.loader = Loader(js, self.definitions, epochs, cache, self.line, nothing, nothing, nothing)
        self.seeds = Seeds(js)
        self.inventory = MemoryInventory()
        self.orders = MemoryOrders()
        self.clock = Clock(self.line)
        self.buyer_key_id = "first"
        self.desk = Desk(
            self.definitions,
            SaleStore(js),
            DrawStore(js, self.seeds),
            self.inventory,
            self.orders,
            PlanStore(js),
            load_queue=self.loader.load,
            drop_queue=self.loader.drop,
            now_ms=self.clock.now_ms,
            buyer_key_id=lambda: self.buyer_key_id,
            offered=Offered(),
        )

    async def spec(
        self, *, lobby_in_s: float = 100, opens_in_s: float = 200, kind: str = "Draw"
    ) -> pb.SaleSpec:
        """A sale that opens soon by the line's clock."""
        now_ms = await self.clock.now_ms()
        window = {"opensAt": "2027-01-01T10:00:00Z", "closesAt": "2027-01-02T10:00:00Z"}
        sections = [{"id": "floor", "capacity": 100, "ticketTypes": [{"id": "full", "price": 5000}]}]
        _, spec = spec_of(
            {
                "apiVersion": "catraca.dev/v1alpha1",
                "kind": "TicketSale",
                "metadata": {"name": "show"},
                "spec": {
                    "title": "A show",
                    "currency": "BRL",
                    "window": window,
                    "line": {"kind": kind},
                    "sections": sections,
                },
            }
        )
        spec.window.lobby_opens_at.FromMilliseconds(int(now_ms + lobby_in_s * 1000))
        spec.window.opens_at.FromMilliseconds(int(now_ms + opens_in_s * 1000))
        spec.window.closes_at.FromMilliseconds(int(now_ms + opens_in_s * 1000 + 3_600_000))
        return spec

    async def line_revision(self, sale: str) -> int:
        """The revision that the line's store holds."""
        return (await self.line.standing(sale)).revision


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    client = connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
async def offices(nats_server: NatsServer, redis: Redis) -> AsyncIterator[list[Office]]:
    """Two replicas."""
    nc = await connect_nats(SimpleNamespace(nats_url=nats_server.url))
    js = nc.jetstream()
    await declare(js)
    made = [Office(js, redis) for _ in range(2)]
    await asyncio.gather(*(office.definitions.start() for office in made))
    yield made
    await asyncio.gather(*(office.definitions.close() for office in made))
    await nc.close()


@pytest.fixture
def office(offices: list[Office]) -> Office:
    """One replica."""
    return offices[0]
