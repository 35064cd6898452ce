"""A sale with a line on the real Redis, its ledger in memory, and as many leaders as a test wants."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import msgpack
from catraca.sale.v1 import sale_pb2

from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.tasks import stop
from services.queue import rules
from services.queue.beacon import Drand
from services.queue.draw import Permutation
from services.queue.rules import Nearness
from services.queue.seeds import DrawSecrets
from services.queue.states import Availability, Standing
from services.queue.store import KEYS, LineStore, keys_of
from services.queue.trees import Trees
from services.queue.workers.leader import Leader, Pace
from services.queue.workers.turns import Publishes, TurnTeller
from tests.drand import Relay
from tests.integration.line.fakes import MemoryLedger, Told, joiners

HOUR = 3_600_000
SECRETS = DrawSecrets(seed=b"\x05" * 32, salt=b"\x06" * 32)


def buyer(number: int) -> bytes:
    return hashlib.md5(b"%d" % number).digest()


def trees_of(store: LineStore) -> Trees:
    async def salt(_sale: str) -> bytes:
        return SECRETS.salt

    return Trees(store, salt, lambda _sale: 1)


class Sale:
    """One sale with a line, its ledger, and as many leaders as the test wants."""

    def __init__(self, sale: str, store: LineStore, ledger: MemoryLedger) -> None:
        self.id = sale
        self.store = store
        self.ledger = ledger
        self.spec = sale_pb2.Sale(sale=sale)
        self.revision = 0
        self.leaders: list[Leader] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.trees = trees_of(store)
        self.relays: list[Relay] = []
        self.told = Told()
        self.publisher: Publishes = self.told
        self.nearness = Nearness(2, 0.0)
        self.kept_upto: int | None = None
        self.refused = 0

    async def define(
        self, *, opens_in_ms: int = HOUR, closes_in_ms: int = 2 * HOUR, paused: bool = False
    ) -> None:
        now = await self.store.now_ms()
        definition = {
            "line": True,
            "lobby_opens_ms": now - HOUR,
            "opens_ms": now + opens_in_ms,
            "closes_ms": now + closes_in_ms,
            "paused": paused,
        }
        self.revision += 1
        if self.revision == 1:
            await self.store.create(self.id, 1, 1, definition)
        else:
            await self.store.define(self.id, self.revision, definition)

    async def join(self, *numbers: int, turn_news: bool = False) -> None:
        wanted = joiners([buyer(number) for number in numbers], turn_news=turn_news)
        _, standing = await self.store.join(self.id, wanted)
        if rules.had_nobody(standing, len(wanted)):
            for leader in self.leaders:
                leader.arrived()

    async def changes(self) -> list[dict[str, Any]]:
        """What the line's outbox has, oldest first."""
        entries = await self.store._redis.xrange(keys_of(self.id)[KEYS.index("out")])
        return [change for _, fields in entries for change in msgpack.unpackb(fields[b"e"], raw=True)]

    async def kept(self, sale: str, sequence: int) -> None:
        """JetStream has everything at once, up to where the test says that it takes nothing any more."""
        if self.kept_upto is not None and sequence > self.kept_upto:
            self.refused += 1
            raise Refusal("UNAVAILABLE")

    def lead(self, token: str, *, ttl_ms: int = 1000, batch: int = 200, poll_s: float = 0.02) -> Leader:
        async def secrets(_sale: str) -> DrawSecrets:
            return SECRETS

        leader = Leader(
            self.id,
            token,
            self.store,
            self.ledger,
            lambda _sale: Definition(self.spec, self.revision),
            secrets,
            self.trees,
            Drand([relay.url for relay in self.relays]),
            self.kept,
            TurnTeller(self.id, self.store, self.ledger, self.publisher, self.permutation, self.nearness),
            Pace(ttl_ms, poll_s, batch),
        )
        self.leaders.append(leader)
        self.tasks.append(asyncio.create_task(leader.run()))
        return leader

    async def until(self, done: Callable[[], bool], within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not done():
                await asyncio.sleep(0.005)

    async def serving(self, serving: int) -> None:
        async with asyncio.timeout(10):
            while (await self.store.standing(self.id)).serving != serving:
                await asyncio.sleep(0.005)

    async def availability(self, availability: Availability) -> None:
        async with asyncio.timeout(10):
            while (await self.store.standing(self.id)).availability is not availability:
                await asyncio.sleep(0.005)

    async def forget_told(self) -> None:
        """The marks of what was told are gone, as with a store that was filled again."""
        await self.store._redis.hset(keys_of(self.id)[0], mapping={"told_come": 0, "told_near": 0})

    async def stop(self) -> None:
        await stop(*self.tasks)
        self.tasks.clear()
        self.leaders.clear()

    def permutation(self, _sale: str, standing: Standing) -> Permutation | None:
        return Permutation(standing.key, standing.cohort) if standing.key and standing.cohort else None

    def called(self) -> list[int]:
        """The places called, in order."""
        return [place for _, place, _ in self.ledger.history]
