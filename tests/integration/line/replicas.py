"""Replicas of the queue without their gRPC, on real Redis and NATS: what loads, leads and refills."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from catraca.sale.v1 import sale_pb2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from redis.asyncio import Redis

from services.kit.definitions import Definitions
from services.kit.epochs import Epochs
from services.kit.signing import SigningKey, SigningRing
from services.kit.streams import kv_subject
from services.queue.beacon import Drand
from services.queue.events import last_published
from services.queue.line import Line
from services.queue.receipts import Receipts
from services.queue.rules import Nearness
from services.queue.sales.store import DrawStore
from services.queue.seeds import Seeds
from services.queue.store import LineStore
from services.queue.trees import Trees
from services.queue.workers.leader import Leader, Pace
from services.queue.workers.loader import EpochCache, Loader
from services.queue.workers.rebuilder import Rebuilder
from services.queue.workers.stock import StockNews
from services.queue.workers.turns import TurnTeller
from tests.integration.line.fakes import MemoryLedger, Told

PACE = Pace(lease_ttl_ms=1000, poll_s=0.02, batch=5)


@dataclass
class NatsUrl:
    """What `connect_nats` needs of a service's settings."""

    nats_url: str


class IdleLeader:
    """Calls nobody; remembers that it ran."""

    def __init__(self) -> None:
        self.running, self.leads, self.woken = False, False, 0

    def wake(self) -> None:
        self.woken += 1

    stock_changed = arrived = wake

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False


@dataclass
class Replica:
    """One queue process without its gRPC."""

    loader: Loader
    store: LineStore
    definitions: Definitions
    rebuilder: Rebuilder
    line: Line
    leaders: dict[str, Any] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)

    async def close(self) -> None:
        """It goes, as one that is killed does but for its lease."""
        await self.rebuilder.close()
        await self.loader.close()
        await self.definitions.close()


class Replicas:
    """Starts replicas on the shared servers and defines sales."""

    def __init__(self, nc: Client, redis: Redis) -> None:
        self.nc = nc
        self.js = nc.jetstream()
        self.redis = redis
        private = Ed25519PrivateKey.generate()
        self.signing = SigningRing(
            (SigningKey("receipts", private.public_key().public_bytes_raw(), private),)
        )
        self.started: list[Replica] = []
        self.told = Told()

    async def start(
        self,
        ledger: MemoryLedger | None = None,
        led: str = "",
        *,
        takeover_s: float = 10.0,
        drand: str = "",
    ) -> Replica:
        """A replica; its leaders call nobody but for the sale `led`, whose ledger that is."""
        definitions, epochs, seeds = Definitions(self.js), Epochs(self.js), Seeds(self.js)
        cache = EpochCache(epochs)
        store = LineStore(self.redis, cache, lambda sale: last_published(self.js, sale))
        trees = Trees(store, seeds.salt, cache.last)
        book = ledger or MemoryLedger(stock=0)
        receipts = Receipts(self.signing, seeds.salt)
        nothing: Any = None
        line = Line(store, book, receipts, trees, nothing, definitions.active, self.arrived)
        leaders: dict[str, Any] = {}
        forgotten: list[str] = []
        token = f"replica-{len(self.started)}"

        def leader_of(sale: str) -> Any:
            # Sales of other tests are known to it too.
            if ledger is None or sale != led:
                return leaders.setdefault(sale, IdleLeader())
            relays, kept = Drand([drand]), loader.kept
            teller = TurnTeller(sale, store, ledger, self.told, line.permutation, Nearness(2, 0.0))
            leaders[sale] = Leader(
                sale, token, store, ledger, definitions.get, seeds.of, trees, relays, kept, teller, PACE
            )
            return leaders[sale]

        stock = StockNews(self.js)
        loader = Loader(self.js, definitions, epochs, cache, store, stock, leader_of, forgotten.append)
        rebuilder = Rebuilder(self.js, store, epochs, definitions, book, takeover_s, loader.recovered)
        store.on_lost(rebuilder.recover)
        store.on_changes(loader.poke)
        definitions.on_change(loader.on_change)
        await definitions.start()
        replica = Replica(loader, store, definitions, rebuilder, line, leaders, forgotten)
        self.started.append(replica)
        return replica

    async def define(
        self, sale: str, *, opens_in_s: float = 1800, closes_in_s: float = 3600, **changes: Any
    ) -> int:
        """Writes a definition; what it opens and closes by is relative to now."""
        definition = sale_pb2.Sale(sale=sale, phase=changes.pop("phase", 0))
        definition.spec.line.kind = changes.pop("kind", sale_pb2.LINE_KIND_DRAW)
        now_s = time.time()
        window = definition.spec.window
        window.lobby_opens_at.FromSeconds(int(now_s) - 3600)
        window.opens_at.FromMilliseconds(round((now_s + min(opens_in_s, closes_in_s - 1)) * 1000))
        window.closes_at.FromMilliseconds(round((now_s + closes_in_s) * 1000))
        definition.spec.paused = changes.pop("paused", False)
        definition.spec.limits.per_buyer = 4
        definition.spec.line.access_code_required = changes.pop("codes", False)
        definition.spec.line.beacon = changes.pop("beacon", "")
        assert not changes, changes
        definition.draw_commitment = await DrawStore(self.js, Seeds(self.js)).commitment(sale)
        payload = definition.SerializeToString()
        return (await self.js.publish(kv_subject("sales", sale), payload)).seq

    async def arrived(self, sale: str) -> None:
        """Whoever leads hears that somebody joined a line in which nobody waited."""
        for replica in self.started:
            replica.loader.arrived(sale)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for replica in self.started:
            await replica.close()
