"""The loader on real Redis and NATS: definitions reach the store once, in any replica; archiving frees it."""

import asyncio
from typing import Any, cast

import pytest
from catraca.events.v1 import events_pb2
from catraca.sale.v1 import sale_pb2
from redis.asyncio import Redis

from services.kit import metrics
from services.kit.epochs import Epochs
from services.kit.errors import Refusal
from services.kit.streams import read_all
from services.kit.tasks import stop
from services.queue.states import Phase
from tests.integration.line.fakes import joiners
from tests.integration.line.replicas import Replicas


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
