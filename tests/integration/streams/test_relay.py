"""The outbox reaches JetStream: every change once, in order, whatever happens to relays and answers (I11)."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from catraca.events.v1.events_pb2 import InventoryBatch, InventoryChange
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from redis.asyncio import Redis

from local.servers.nats import Nats as NatsServer
from services.kit import relay as relay_module
from services.kit.relay import Change, OutboxBroken, OutboxRelay
from services.kit.streams import connect_nats, declare, read_all
from services.kit.tasks import stop


def batch_of(changes: list[Change], _: int) -> InventoryBatch:
    made = [InventoryChange(sequence=change["sequence"], at_ms=change["at_ms"]) for change in changes]
    return InventoryBatch(sale="show", changes=made)


class Outbox:
    """One sale's outbox, written as the scripts write it."""

    def __init__(self, redis: Redis, sale: str) -> None:
        self.redis = redis
        self.sale = sale
        self.key = f"i:{{{sale}}}:out"
        self.subject = f"catraca.inventory.{sale}.units"
        self.last = 0

    async def add(self, changes: int = 1, *, first: int | None = None) -> None:
        first = self.last + 1 if first is None else first
        self.last = first + changes - 1
        listed = [
            {"sequence": each, "at_ms": 1_700_000_000_000 + each} for each in range(first, self.last + 1)
        ]
        await self.redis.xadd(self.key, {"e": msgpack.packb(listed), "f": first}, id=f"{self.last}-0")

    def relay(self, js: Any, **options: Any) -> OutboxRelay:
        return OutboxRelay(self.redis, js, self.sale, self.key, self.subject, batch_of, **options)

    async def published(self, js: JetStreamContext) -> list[list[int]]:
        """The sequences in JetStream, message by message."""
        messages = [message async for message in read_all(js, "INVENTORY", self.subject)]
        batches = [InventoryBatch.FromString(message.data).changes for message in messages]
        return [[change.sequence for change in batch] for batch in batches]

    async def assert_whole(self, js: JetStreamContext) -> None:
        sequences = [sequence for batch in await self.published(js) for sequence in batch]
        assert sequences == list(range(1, self.last + 1))


@contextlib.asynccontextmanager
async def running(*relays: OutboxRelay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    try:
        yield
    finally:
        await stop(*tasks)


@pytest.fixture
def outbox(redis: Redis, sale_id: str) -> Outbox:
    return Outbox(redis, sale_id)


class Unreliable:
    """JetStream whose publishes are stored without an answer, or not stored at all, now and then."""

    def __init__(self, js: JetStreamContext, chance: random.Random, lost_answers: float, lost: float) -> None:
        self._js = js
        self._chance = chance
        self._lost_answers = lost_answers
        self._lost = lost
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        drawn = self._chance.random()
        if drawn < self._lost:
            self.failures += 1
            raise NatsTimeoutError
        answer = await self._js.publish(*arguments, **options)
        if drawn < self._lost + self._lost_answers:
            self.failures += 1
            raise NatsTimeoutError
        return answer


async def test_a_relay_that_looks_seldom_catches_up_when_asked(
    outbox: Outbox, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "SHORTEST_POLL_S", 3600.0)
    relay = outbox.relay(js, longest_poll_s=3600.0)
    await relay.catch_up()
    await outbox.add()
    async with running(relay):
        await relay.wait_published(1)
        await outbox.add(3)
        async with asyncio.timeout(10):
            await relay.catch_up()
        assert relay.published == 4
    await outbox.assert_whole(js)


async def test_entries_are_published_together_in_order(js: JetStreamContext, outbox: Outbox) -> None:
    for changes in (1, 3, 2):
        await outbox.add(changes)
    relay = outbox.relay(js)
    async with running(relay):
        await asyncio.wait_for(relay.wait_published(6), 10)
    assert await outbox.published(js) == [[1, 2, 3, 4, 5, 6]]


async def test_messages_are_cloud_events(js: JetStreamContext, outbox: Outbox) -> None:
    await outbox.add(2)
    relay = outbox.relay(js)
    async with running(relay):
        await asyncio.wait_for(relay.wait_published(2), 10)
    (message,) = [message async for message in read_all(js, "INVENTORY", outbox.subject)]
    assert message.headers["ce-type"] == "catraca.events.v1.InventoryBatch"
    assert message.headers["ce-source"] == "catraca/inventory"
    assert message.headers["ce-subject"] == outbox.sale
    assert message.headers["ce-id"] == f"inventory/{outbox.sale}/2"
    assert message.headers["ce-time"] == "2023-11-14T22:13:20.002Z"
    assert message.headers["Catraca-Last-Sequence"] == "2"


async def test_a_poke_wakes_an_idle_relay(
    js: JetStreamContext, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "SHORTEST_POLL_S", 60.0)
    relay = outbox.relay(js)
    async with running(relay):
        for sequence in range(1, 4):
            await asyncio.sleep(0.05)
            await outbox.add()
            relay.poke()
            await asyncio.wait_for(relay.wait_published(sequence), 5)


@pytest.mark.parametrize("seed", range(3))
async def test_relays_killed_at_any_point_lose_and_repeat_nothing(
    js: JetStreamContext, outbox: Outbox, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(15):
        for _ in range(chance.randrange(60)):
            await outbox.add(chance.randint(1, 5))
        async with running(outbox.relay(js)):
            await asyncio.sleep(chance.uniform(0, 0.03))
    relay = outbox.relay(js)
    async with running(relay):
        await asyncio.wait_for(relay.wait_published(outbox.last), 10)
    await outbox.assert_whole(js)


async def test_lost_answers_and_lost_messages(
    js: JetStreamContext, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.01)
    unreliable = Unreliable(js, random.Random(5), lost_answers=0.3, lost=0.2)
    relay = outbox.relay(unreliable)
    async with running(relay):
        for _ in range(60):
            await outbox.add(2)
            relay.poke()
            await asyncio.sleep(0.005)
        await asyncio.wait_for(relay.wait_published(outbox.last), 20)
    assert unreliable.failures > 5
    await outbox.assert_whole(js)


async def test_two_relays_at_once(
    js: JetStreamContext, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "RETRY_S", 0.01)
    steady = outbox.relay(js)
    shaky = outbox.relay(Unreliable(js, random.Random(7), lost_answers=0.2, lost=0.1))
    async with running(steady, shaky):
        for step in range(200):
            await outbox.add()
            (steady if step % 3 else shaky).poke()
            if step % 10 == 0:
                await asyncio.sleep(0.02)
        # Whoever did not publish learns of it as well.
        await asyncio.wait_for(steady.wait_published(outbox.last), 20)
        await outbox.add()
        await asyncio.wait_for(shaky.wait_published(outbox.last), 20)
    await outbox.assert_whole(js)


async def test_a_relay_whose_rival_is_gone_takes_over(js: JetStreamContext, outbox: Outbox) -> None:
    first, second = outbox.relay(js), outbox.relay(js)
    async with running(second):
        async with running(first):
            for _ in range(20):
                await outbox.add()
                first.poke()
                await asyncio.sleep(0.002)
        await outbox.add()
        second.poke()
        await asyncio.wait_for(second.wait_published(outbox.last), 10)
    await outbox.assert_whole(js)


async def test_a_large_entry_is_published_in_parts_and_resumed_amid_them(
    js: JetStreamContext, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "MAX_BATCH_BYTES", 300)
    await outbox.add(100)
    await outbox.add(3)
    relay = outbox.relay(js)
    async with running(relay):
        await relay.wait_published(1)
    assert relay.published < 100
    async with running(again := outbox.relay(js)):
        await asyncio.wait_for(again.wait_published(103), 10)
    assert all(len(batch) < 30 for batch in await outbox.published(js))
    await outbox.assert_whole(js)


async def test_what_jetstream_has_for_long_enough_is_trimmed(
    js: JetStreamContext, redis: Redis, outbox: Outbox
) -> None:
    relay = outbox.relay(js, trim_after_s=0.2)
    async with running(relay):
        await outbox.add(5)
        await asyncio.wait_for(relay.wait_published(5), 10)
        assert await redis.xlen(outbox.key) == 1
        while await redis.xlen(outbox.key):
            await asyncio.sleep(0.02)
        # An emptied outbox goes on.
        await outbox.add(2)
        await asyncio.wait_for(relay.wait_published(7), 10)
    await outbox.assert_whole(js)


async def test_what_jetstream_does_not_have_is_never_trimmed(
    js: JetStreamContext, redis: Redis, outbox: Outbox
) -> None:
    await outbox.add(5)
    nothing_arrives = Unreliable(js, random.Random(1), lost_answers=0, lost=1)
    async with running(outbox.relay(js, trim_after_s=0.05)) as _:
        await asyncio.sleep(0.2)
    for _ in range(3):
        await outbox.add()
    async with running(outbox.relay(nothing_arrives, trim_after_s=0.05)), asyncio.timeout(30):
        # It is tried again after each time, and there was time to trim in between.
        while nothing_arrives.failures < 3:
            await asyncio.sleep(0.02)
    assert [entry[0] for entry in await redis.xrange(outbox.key)][-3:] == [b"6-0", b"7-0", b"8-0"]


async def test_an_outbox_with_a_hole_is_broken(js: JetStreamContext, outbox: Outbox) -> None:
    await outbox.add(2)
    await outbox.add(1, first=5)
    with pytest.raises(OutboxBroken) as broken:
        await asyncio.wait_for(outbox.relay(js).run(), 10)
    assert (broken.value.published, broken.value.found) == (2, 5)
    assert await outbox.published(js) == [[1, 2]]


async def test_an_outbox_that_ends_before_jetstream_is_broken(
    js: JetStreamContext, redis: Redis, outbox: Outbox
) -> None:
    await outbox.add(9)
    relay = outbox.relay(js)
    async with running(relay):
        await asyncio.wait_for(relay.wait_published(9), 10)
    await redis.delete(outbox.key)
    await outbox.add(4, first=1)
    with pytest.raises(OutboxBroken) as broken:
        await asyncio.wait_for(outbox.relay(js).run(), 10)
    assert (broken.value.published, broken.value.found) == (9, 4)


async def test_a_relay_waits_a_killed_server_out(tmp_path: Path, outbox: Outbox) -> None:
    server = NatsServer(tmp_path)
    server.launch()
    nc = await connect_nats(SimpleNamespace(nats_url=server.url))
    try:
        js = nc.jetstream(timeout=1)
        await declare(js)
        relay = outbox.relay(js)
        async with running(relay):
            await outbox.add(10)
            await asyncio.wait_for(relay.wait_published(10), 10)
            writing = asyncio.create_task(_write(outbox, 100))
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.kill9)
            await writing
            await asyncio.to_thread(server.start)
            await asyncio.wait_for(relay.wait_published(outbox.last), 30)
        await outbox.assert_whole(js)
    finally:
        await nc.close()
        server.stop()


async def _write(outbox: Outbox, entries: int) -> None:
    for _ in range(entries):
        await outbox.add(2)
        await asyncio.sleep(0.002)
