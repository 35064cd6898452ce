"""The loader on real Redis and NATS: definitions reach the store once, in any replica; archiving frees it."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from catraca.events.v1 import events_pb2
from catraca.sale.v1 import sale_pb2
from nats.aio.client import Client
from redis.asyncio import Redis

from local.servers.nats import Nats
from services.kit import metrics
from services.kit.definitions import Definitions
from services.kit.epochs import Epochs
from services.kit.errors import Refusal
from services.kit.streams import connect_nats, declare, kv_subject, read_all
from services.kit.tasks import stop
from services.queue.states import Phase
from services.queue.store import LineStore, keys_of
from services.queue.workers.loader import EpochCache, Loader
from services.queue.workers.stock import StockNews
from tests.integration.line.fakes import joiners


@dataclass
class NatsUrl:
    """What `connect_nats` needs of a service's settings."""

    nats_url: str


@dataclass
class IdleLeader:
    """Calls nobody; remembers that it ran."""

    running: bool = False
    woken: int = 0

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
    """One queue process's loader."""

    loader: Loader
    store: LineStore
    definitions: Definitions
    leaders: dict[str, IdleLeader] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)


class Replicas:
    """Starts replicas on the shared servers and defines sales."""

    def __init__(self, nc: Client, redis: Redis) -> None:
        self.nc = nc
        self.js = nc.jetstream()
        self.redis = redis
        self.started: list[Replica] = []

    async def start(self) -> Replica:
        definitions, epochs = Definitions(self.js), Epochs(self.js)
        cache = EpochCache(epochs)
        store = LineStore(self.redis, cache)
        leaders: dict[str, IdleLeader] = {}
        forgotten: list[str] = []

        def leader_of(sale: str) -> Any:
            return leaders.setdefault(sale, IdleLeader())

        stock = StockNews(self.js)
        loader = Loader(self.js, definitions, epochs, cache, store, stock, leader_of, forgotten.append)
        definitions.on_change(loader.on_change)
        await definitions.start()
        replica = Replica(loader, store, definitions, leaders, forgotten)
        self.started.append(replica)
        return replica

    async def define(self, sale: str, *, closes_in_s: float = 3600, **changes: Any) -> int:
        definition = sale_pb2.Sale(sale=sale, phase=changes.pop("phase", 0))
        definition.spec.line.kind = changes.pop("kind", sale_pb2.LINE_KIND_DRAW)
        now_s = int(time.time())
        window = definition.spec.window
        window.lobby_opens_at.FromSeconds(now_s - 3600)
        window.opens_at.FromMilliseconds(round((now_s + min(1800, closes_in_s - 1)) * 1000))
        window.closes_at.FromMilliseconds(round((now_s + closes_in_s) * 1000))
        definition.spec.paused = changes.pop("paused", False)
        payload = definition.SerializeToString()
        return (await self.js.publish(kv_subject("sales", sale), payload)).seq

    async def until(self, done: Any) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for replica in self.started:
            await replica.loader.close()
            await replica.definitions.close()


@pytest.fixture
async def replicas(nats_server: Nats, redis: Redis) -> AsyncIterator[Replicas]:
    """Replicas on the shared servers."""
    nc = await connect_nats(NatsUrl(nats_server.url))
    await declare(nc.jetstream())
    made = Replicas(nc, redis)
    yield made
    await made.stop()
    await nc.close()


async def test_two_replicas_load_a_sale_as_one(replicas: Replicas, sale_id: str) -> None:
    one, two = await replicas.start(), await replicas.start()
    revision = await replicas.define(sale_id)

    await asyncio.gather(*(replica.loader.load(sale_id, revision) for replica in (one, two)))

    standing = await one.store.standing(sale_id)
    assert (standing.revision, standing.phase) == (revision, Phase.LOBBY)
    epoch = await Epochs(replicas.js).current("queue", sale_id)
    assert epoch is not None and (epoch.number, epoch.loaded) == (1, True)
    await replicas.until(lambda: all(replica.leaders[sale_id].running for replica in (one, two)))


async def test_a_new_definition_reaches_the_store_by_itself(replicas: Replicas, sale_id: str) -> None:
    replica = await replicas.start()
    await replica.loader.load(sale_id, await replicas.define(sale_id))
    await replica.store.join(sale_id, joiners([b"a" * 16]))

    later = await replicas.define(sale_id, paused=True)

    async with asyncio.timeout(10):
        while (await replica.store.standing(sale_id)).revision < later:
            await asyncio.sleep(0.01)
    assert (await replica.store.standing(sale_id)).joined == 1


async def test_what_the_line_does_is_published(replicas: Replicas, sale_id: str) -> None:
    replica = await replicas.start()
    await replica.loader.load(sale_id, await replicas.define(sale_id))
    buyers = [bytes([number]) * 16 for number in (0, 127, 128, 255)]

    await replica.store.join(sale_id, joiners(buyers))
    await replica.store.leave(sale_id, buyers[2:3])

    changes: list[events_pb2.QueueChange] = []
    async with asyncio.timeout(10):
        while len(changes) < 3:
            changes = []
            async for message in read_all(replicas.js, "QUEUE", f"catraca.queue.{sale_id}.line"):
                batch = events_pb2.QueueBatch.FromString(message.data)
                assert (batch.sale, batch.epoch) == (sale_id, 1)
                changes += batch.changes
    acts = [events_pb2.QueueAct.Name(change.act) for change in changes]
    assert acts == ["QUEUE_ACT_DEFINED", "QUEUE_ACT_JOINED", "QUEUE_ACT_LEFT"]
    assert changes[1].buyers == b"".join(buyers)
    assert (changes[2].buyers, changes[2].index) == (buyers[2], 2)


async def test_an_emptied_store_is_refused_by_name_and_stays_empty(
    replicas: Replicas, sale_id: str, redis: Redis
) -> None:
    replica = await replicas.start()
    revision = await replicas.define(sale_id)
    await replica.loader.load(sale_id, revision)
    await replica.loader.close()
    await redis.delete(*keys_of(sale_id))

    for attempt in (
        replica.store.join(sale_id, joiners([b"a" * 16])),
        replica.loader.load(sale_id, revision),
    ):
        with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
            await attempt

    assert await redis.exists(*keys_of(sale_id)) == 0


async def test_dropping_publishes_first_and_may_be_repeated(
    replicas: Replicas, sale_id: str, redis: Redis
) -> None:
    replica = await replicas.start()
    await replica.loader.load(sale_id, await replicas.define(sale_id))
    with pytest.raises(Refusal, match="WRONG_PHASE"):
        await replica.loader.drop(sale_id)
    await replica.store.join(sale_id, joiners([b"a" * 16]))
    await replica.loader.load(sale_id, await replicas.define(sale_id, closes_in_s=-1))
    last = await replica.store.sequence(sale_id)

    await replica.loader.drop(sale_id)
    await replica.loader.drop(sale_id)

    assert await redis.keys(f"q:{{{sale_id}}}:*") == []
    published = [
        change.sequence
        async for message in read_all(replicas.js, "QUEUE", f"catraca.queue.{sale_id}.line")
        for change in events_pb2.QueueBatch.FromString(message.data).changes
    ]
    assert published == list(range(1, last + 1))


async def test_an_archived_sale_is_let_go(replicas: Replicas, sale_id: str) -> None:
    replica = await replicas.start()
    await replica.loader.load(sale_id, await replicas.define(sale_id))
    await replicas.until(lambda: replica.leaders[sale_id].running)
    assert f'sale="{sale_id}"' in (await metrics.page()).decode()

    await replicas.define(sale_id, phase=sale_pb2.SALE_PHASE_ARCHIVED)

    await replicas.until(lambda: sale_id in replica.forgotten)
    assert not replica.leaders[sale_id].running
    assert f'sale="{sale_id}"' not in (await metrics.page()).decode()


async def test_a_sale_without_a_line_has_no_leader(replicas: Replicas, sale_id: str) -> None:
    replica = await replicas.start()
    revision = await replicas.define(sale_id, kind=sale_pb2.LINE_KIND_NONE)
    await replica.loader.load(sale_id, revision)
    await replicas.until(lambda: replica.leaders[sale_id].woken > 0)

    assert not replica.leaders[sale_id].running
    with pytest.raises(Refusal, match="NO_LINE"):
        await replica.store.join(sale_id, joiners([b"a" * 16]))


async def test_an_epoch_that_another_replica_began_is_finished(replicas: Replicas, sale_id: str) -> None:
    epochs = Epochs(replicas.js)
    begun = await epochs.first("queue", sale_id)
    assert begun is not None and not begun.loaded
    assert await epochs.first("queue", sale_id) is None
    replica = await replicas.start()

    await replica.loader.load(sale_id, await replicas.define(sale_id))

    assert (await replica.store.standing(sale_id)).joined == 0
    current = await epochs.current("queue", sale_id)
    assert current is not None and (current.number, current.loaded) == (1, True)


async def test_stopping_ends_every_loop(replicas: Replicas, sale_id: str) -> None:
    before = set(asyncio.all_tasks())
    replica = await replicas.start()
    await replica.loader.load(sale_id, await replicas.define(sale_id))
    await replicas.until(lambda: replica.leaders[sale_id].running)

    await replica.loader.close()

    left = {task for task in set(asyncio.all_tasks()) - before if sale_id in task.get_name()}
    await stop(*cast(Any, left))
    assert left == set()
