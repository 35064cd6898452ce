"""Group commit: order, bounds, fairness, and submitters that give up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest
import structlog

from services.kit.batcher import CROWD, LINGERS, Batcher, PerKey
from services.kit.errors import Refusal
from services.kit.lua import NotLoaded

LONG_S = 60.0


class Store:
    """Answers each item with its double, and keeps the batches; runs wait while the gate is shut."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.most_running = 0
        self.open = asyncio.Event()
        self.open.set()
        self.started = asyncio.Event()

    async def run(self, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.started.set()
        await self.open.wait()
        self.running -= 1
        return [2 * item for item in items]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_an_idle_batcher_runs_at_once() -> None:
    store = Store()
    # Were it to linger first, this would take a minute.
    async with asyncio.timeout(10):
        assert await Batcher(store.run, linger_s=LONG_S).submit(7) == 14
    assert store.batches == [[7]]


async def test_those_who_come_together_share_a_batch() -> None:
    store = Store()
    batcher = Batcher(store.run)
    assert await asyncio.gather(*(batcher.submit(item) for item in range(5))) == [0, 2, 4, 6, 8]
    assert store.batches == [[0, 1, 2, 3, 4]]


async def test_while_a_run_is_under_way_the_next_batch_gathers() -> None:
    store = Store()
    store.open.clear()
    batcher = Batcher(store.run)
    first = asyncio.create_task(batcher.submit(0))
    await store.started.wait()
    others = [asyncio.create_task(batcher.submit(item)) for item in range(1, 6)]
    await asyncio.sleep(0)
    store.open.set()
    assert await first == 0
    assert await asyncio.gather(*others) == [2, 4, 6, 8, 10]
    assert store.batches == [[0], [1, 2, 3, 4, 5]]
    assert store.most_running == 1


async def test_under_load_it_waits_for_those_who_came_last_time() -> None:
    store = Store()
    batcher = Batcher(store.run, linger_s=LONG_S)
    await asyncio.gather(*(batcher.submit(item) for item in range(3)))
    late = [asyncio.create_task(batcher.submit(item)) for item in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(store.batches) == 1
    async with asyncio.timeout(10):
        await batcher.submit(2)
        await asyncio.gather(*late)
    assert store.batches[1:] == [[0, 1, 2]]


async def test_a_crowd_fills_the_batch_and_a_few_do_not_wait_for_more() -> None:
    for came, filled in ((CROWD - 1, False), (CROWD, True)):
        store = Store()
        store.open.clear()
        batcher = Batcher(store.run, max_items=came + 2, linger_s=LONG_S)
        first = asyncio.create_task(batcher.submit(0))
        await store.started.wait()
        others = [asyncio.create_task(batcher.submit(item)) for item in range(1, came + 1)]
        await asyncio.sleep(0)
        store.open.set()
        await first
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(store.batches) == (1 if filled else 2)
        if filled:
            others += [asyncio.create_task(batcher.submit(item)) for item in (came + 1, came + 2)]
        async with asyncio.timeout(10):
            await asyncio.gather(*others)
        assert store.batches == [[0], list(range(1, came + (3 if filled else 1)))]


@pytest.mark.parametrize(("coming", "lingers"), [(0, 2), (2, 4), (99, LINGERS)])
async def test_in_a_crowd_it_lingers_on_while_more_keep_coming(
    coming: int, lingers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen, late = Store(), [0], []
    store.open.clear()

    async def run(items: list[int]) -> list[int]:
        seen.append(0)
        return await store.run(items)

    batcher = Batcher(run, linger_s=LONG_S)

    async def linger() -> None:
        seen[-1] += 1
        if seen[-1] <= coming + 1 and len(store.batches) == 1:
            late.append(batcher.enqueue([seen[-1]]))

    monkeypatch.setattr(batcher, "_linger", linger)
    first = asyncio.create_task(batcher.submit(0))
    await store.started.wait()
    crowd = [batcher.enqueue([100 + item]) for item in range(CROWD)]
    store.open.set()
    await first
    await asyncio.gather(*crowd)
    # After the first run; after the second it waits once for those who may come back.
    assert seen == [0, lingers, 1]
    assert [len(batch) for batch in store.batches] == [1, CROWD + len(late)]


async def test_a_crowd_waits_for_those_who_ran_last_though_nobody_comes_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, lingers, late = Store(), 0, []
    batcher = Batcher(store.run, linger_s=LONG_S)

    async def linger() -> None:
        nonlocal lingers
        lingers += 1
        if lingers == 3:
            late.extend(batcher.enqueue([200 + item]) for item in range(10 - CROWD))

    monkeypatch.setattr(batcher, "_linger", linger)
    store.open.clear()
    first = [batcher.enqueue([item]) for item in range(10)]
    await store.started.wait()
    crowd = [batcher.enqueue([100 + item]) for item in range(CROWD)]
    store.open.set()
    await asyncio.gather(*first, *crowd, *late)
    assert [len(batch) for batch in store.batches] == [10, CROWD + len(late)]
    # Four times before the second run, and after it once for those who may come back.
    assert lingers == 4 + 1


async def test_it_lingers_no_longer_than_it_may() -> None:
    store = Store()
    batcher = Batcher(store.run, linger_s=0.001)
    await asyncio.gather(*(batcher.submit(item) for item in range(3)))
    assert await batcher.submit(9) == 18
    assert store.batches == [[0, 1, 2], [9]]


async def test_a_batch_is_bounded_and_keeps_the_order() -> None:
    store = Store()
    batcher = Batcher(store.run, max_items=4)
    answers = await asyncio.gather(*(batcher.submit(item) for item in range(10)))
    assert answers == [2 * item for item in range(10)]
    assert store.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_what_is_submitted_together_stays_together() -> None:
    store = Store()
    batcher = Batcher(store.run, max_items=4)
    answers = await asyncio.gather(
        batcher.submit_many([1, 2, 3]),
        batcher.submit_many([4, 5]),
        batcher.submit(6),
        batcher.submit_many([]),
    )
    assert answers == [[2, 4, 6], [8, 10], 12, []]
    assert store.batches == [[1, 2, 3], [4, 5, 6]]


async def test_more_than_a_batch_takes_runs_in_a_few_without_others_between() -> None:
    store = Store()
    batcher = Batcher(store.run, max_items=4)
    before, many, after = await asyncio.gather(
        batcher.submit(0), batcher.submit_many(list(range(1, 10))), batcher.submit(10)
    )
    assert (before, many, after) == (0, [2 * item for item in range(1, 10)], 20)
    assert [item for batch in store.batches for item in batch] == list(range(11))
    assert max(map(len, store.batches)) == 4


async def test_a_submitter_that_gives_up_disturbs_nobody() -> None:
    store = Store()
    store.open.clear()
    batcher = Batcher(store.run)
    running = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
    await store.started.wait()
    waiting = [asyncio.create_task(batcher.submit(item)) for item in (3, 4, 5)]
    await asyncio.sleep(0)
    running[0].cancel()
    waiting[1].cancel()
    await asyncio.sleep(0)
    store.open.set()
    assert [await running[1], await waiting[0], await waiting[2]] == [4, 6, 10]
    # What ran before its submitter gave up ran; what had not was dropped.
    assert store.batches == [[1, 2], [3, 5]]
    assert running[0].cancelled()
    assert waiting[1].cancelled()


async def test_too_much_is_refused_and_room_comes_back() -> None:
    store = Store()
    store.open.clear()
    batcher = Batcher(store.run, max_items=2, max_pending=3)
    first = asyncio.create_task(batcher.submit(0))
    await store.started.wait()
    pending = [asyncio.create_task(batcher.submit(item)) for item in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Refusal, match="OVERLOADED"):
        await batcher.submit(4)
    pending[0].cancel()
    store.open.set()
    await first
    await asyncio.gather(*pending[1:])
    assert await batcher.submit_many([5, 6, 7]) == [10, 12, 14]
    assert 4 not in [item for batch in store.batches for item in batch]


def failing(error: Exception) -> Callable[[list[int]], Awaitable[list[int]]]:
    async def run(items: list[int]) -> list[int]:
        if 13 in items:
            raise error
        return items

    return run


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ConnectionResetError(), "UNAVAILABLE"),
        (NotLoaded(), "SALE_NOT_LOADED"),
        (ValueError("bug"), "INTERNAL"),
    ],
)
async def test_a_run_that_fails_refuses_its_own_items_only(error: Exception, word: str) -> None:
    batcher = Batcher(failing(error), max_items=2)
    with structlog.testing.capture_logs() as logged:
        good, *bad = await asyncio.gather(
            batcher.submit_many([1, 2]), batcher.submit(13), batcher.submit(3), return_exceptions=True
        )
    assert good == [1, 2]
    assert [type(each) for each in bad] == [type(error) if isinstance(error, Refusal) else Refusal] * 2
    assert [each.word for each in bad if isinstance(each, Refusal)] == [word] * 2
    assert await batcher.submit(4) == 4
    # One line for the batch, where it was not the run's own decision.
    assert len(logged) == (not isinstance(error, Refusal))


async def test_an_answer_that_does_not_fit_the_batch_is_a_defect() -> None:
    async def run(items: list[int]) -> list[int]:
        return items[1:]

    with structlog.testing.capture_logs(), pytest.raises(Refusal, match="INTERNAL"):
        await Batcher(run).submit(1)


async def test_a_batch_carries_nobodys_context() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    async def run(items: list[int]) -> list[int]:
        seen.append(who.get())
        return items

    who.set("ana")
    await Batcher(run).submit(1)
    assert seen == ["nobody"]


async def test_one_task_serves_everyone() -> None:
    store = Store()
    store.open.clear()
    batcher = Batcher(store.run, max_items=10)
    before = asyncio.all_tasks()

    def at_work() -> int:
        # The loop is everybody's: what others have begun or end meanwhile does not count.
        begun = asyncio.all_tasks() - before
        return sum(getattr(task.get_coro(), "__qualname__", "") == "Batcher._drain" for task in begun)

    waiting = asyncio.gather(*(batcher.submit_many([item]) for item in range(100)))
    await until(lambda: store.running)
    # A hundred submitters, and one that runs the batches.
    assert at_work() == 1
    store.open.set()
    await waiting
    await until(lambda: not at_work())


async def test_each_key_has_its_own() -> None:
    made: list[str] = []
    batchers: PerKey[str, Store] = PerKey(lambda key: made.append(key) or Store())
    first = batchers["a"]
    assert batchers["a"] is first
    assert batchers["b"] is not first
    batchers.drop("a")
    batchers.drop("never")
    assert batchers["a"] is not first
    assert made == ["a", "b", "a"]
