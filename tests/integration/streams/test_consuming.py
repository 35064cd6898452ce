"""A durable consumer hands every message over until it is done: in batches, by many, past poison."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from catraca.events.v1.events_pb2 import DeadLetter
from nats.js import JetStreamContext

from services.kit.streams import Again, Delivery, Handler, Outcomes, Poison, consume, read_all
from services.kit.tasks import stop


class Seen:
    """Handles by a rule per message and remembers what was handed over."""

    def __init__(self, rule: Callable[[Delivery], Any] = lambda delivery: None) -> None:
        self.rule = rule
        self.batches: list[list[str]] = []
        self.tries: dict[str, list[int]] = {}
        self.settled: set[str] = set()
        self._changed = asyncio.Event()

    async def __call__(self, deliveries: list[Delivery]) -> Outcomes:
        names = [delivery.message.data.decode() for delivery in deliveries]
        self.batches.append(names)
        outcomes = []
        for name, delivery in zip(names, deliveries, strict=True):
            self.tries.setdefault(name, []).append(delivery.tries)
            outcome = self.rule(delivery)
            if isinstance(outcome, Exception):
                self._changed.set()
                raise outcome
            outcomes.append(outcome)
            if outcome is None:
                self.settled.add(name)
        self._changed.set()
        return outcomes

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Work:
    """One sale's intake and workers on it, with a durable of their own."""

    def __init__(self, js: JetStreamContext, sale: str) -> None:
        self.js = js
        self.durable = f"work-{sale}"
        self.subject = f"catraca.intake.{sale}.b.k"

    async def add(self, *names: str) -> None:
        for name in names:
            await self.js.publish(self.subject, name.encode())

    @contextlib.asynccontextmanager
    async def consumed(self, handler: Handler, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(
            consume(self.js, "INTAKE", self.durable, handler, subject=self.subject, **options)
        )
        try:
            yield task
        finally:
            await stop(task)

    async def assert_nothing_left(self) -> None:
        for _ in range(200):
            info = await self.js.consumer_info("INTAKE", self.durable)
            if not info.num_ack_pending and not info.num_pending:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(info)

    async def letters(self) -> list[DeadLetter]:
        subject = f"catraca.dead.{self.durable}"
        return [DeadLetter.FromString(message.data) async for message in read_all(self.js, "DEAD", subject)]


@pytest.fixture
def work(js: JetStreamContext, sale_id: str) -> Work:
    return Work(js, sale_id)


async def test_messages_come_in_batches_and_once(work: Work) -> None:
    names = [str(i) for i in range(700)]
    await work.add(*names)
    seen = Seen()
    async with work.consumed(seen, batch=100):
        await seen.until(lambda: len(seen.settled) == 700)
        await work.assert_nothing_left()
    assert [name for batch in seen.batches for name in batch] == names
    assert 7 <= len(seen.batches) < 100
    assert max(map(len, seen.batches)) <= 100


async def test_messages_that_come_later_come_at_once(work: Work) -> None:
    seen = Seen()
    async with work.consumed(seen):
        for step in range(5):
            await asyncio.sleep(0.02)
            await work.add(str(step))
            await seen.until(lambda step=step: str(step) in seen.settled)  # type: ignore[misc]


async def test_workers_share_the_messages(work: Work) -> None:
    first, second = Seen(), Seen()
    async with work.consumed(first, batch=10), work.consumed(second, batch=10):
        await work.add(*(str(i) for i in range(300)))
        await first.until(lambda: bool(first.settled))
        await work.assert_nothing_left()
    assert first.settled | second.settled == {str(i) for i in range(300)}
    assert not first.settled & second.settled


async def test_a_failed_message_comes_again_and_the_others_do_not(work: Work) -> None:
    seen = Seen(lambda each: Again("not yet", 0.01) if each.message.data == b"b" and each.tries < 4 else None)
    await work.add("a", "b", "c")
    async with work.consumed(seen):
        await seen.until(lambda: seen.settled == {"a", "b", "c"})
        await work.assert_nothing_left()
    assert seen.tries == {"a": [1], "b": [1, 2, 3, 4], "c": [1]}
    assert await work.letters() == []


async def test_a_message_that_failed_too_often_becomes_a_dead_letter(work: Work) -> None:
    last_tries = []

    def rule(each: Delivery) -> Again:
        last_tries.append(each.last_try)
        return Again("no such section", 0.01)

    await work.add("a")
    async with work.consumed(seen := Seen(rule), max_tries=3):
        await seen.until(lambda: len(last_tries) == 3)
        await work.assert_nothing_left()
    assert last_tries == [False, False, True]
    (letter,) = await work.letters()
    assert (letter.subject, letter.payload, letter.problem) == (work.subject, b"a", "no such section")
    assert letter.tries == 3
    assert letter.stream_sequence > 0
    assert letter.at_ms > 1_700_000_000_000


async def test_poison_becomes_a_dead_letter_at_once(work: Work) -> None:
    await work.js.publish(work.subject, b"poison", headers={"ce-id": "7"})
    await work.add("good")
    seen = Seen(lambda each: Poison("cannot be read") if each.message.data == b"poison" else None)
    async with work.consumed(seen):
        await seen.until(lambda: "good" in seen.settled)
        await work.assert_nothing_left()
    assert seen.tries["poison"] == [1]
    (letter,) = await work.letters()
    assert (letter.payload, letter.tries, dict(letter.headers)) == (b"poison", 1, {"ce-id": "7"})


async def test_a_handler_that_raises_loses_no_message_and_buries_none(work: Work) -> None:
    down = True
    seen = Seen(lambda each: ConnectionError("the database is down") if down else None)
    await work.add("a", "b")
    async with work.consumed(seen, max_tries=2):
        await seen.until(lambda: len(seen.batches) >= 4)
        down = False
        await seen.until(lambda: seen.settled == {"a", "b"})
        await work.assert_nothing_left()
    assert max(seen.tries["a"]) > 2
    assert await work.letters() == []


async def test_a_stopped_worker_hands_everything_over_at_once(work: Work) -> None:
    begun = asyncio.Event()

    async def stuck(deliveries: list[Delivery]) -> Outcomes:
        begun.set()
        await asyncio.sleep(3600)
        return None

    names = {str(i) for i in range(30)}
    await work.add(*names)
    async with work.consumed(stuck, batch=5):
        await begun.wait()
    seen = Seen()
    async with work.consumed(seen):
        await asyncio.wait_for(seen.until(lambda: seen.settled == names), 5)


async def test_slow_work_is_not_handed_to_somebody_else(work: Work) -> None:
    async def slow(deliveries: list[Delivery]) -> Outcomes:
        await asyncio.sleep(1.2)
        return await first(deliveries)

    first, second = Seen(), Seen()
    await work.add("a")
    async with work.consumed(slow, ack_wait_s=0.4):
        await asyncio.sleep(0.2)
        async with work.consumed(second, ack_wait_s=0.4):
            await first.until(lambda: first.settled == {"a"})
            await work.assert_nothing_left()
    assert first.tries == {"a": [1]}
    assert second.batches == []


async def test_a_consumer_that_was_deleted_is_made_again(work: Work) -> None:
    seen = Seen()
    async with work.consumed(seen):
        await work.add("a")
        await seen.until(lambda: "a" in seen.settled)
        await work.js.delete_consumer("INTAKE", work.durable)
        await work.add("b")
        await seen.until(lambda: "b" in seen.settled)
