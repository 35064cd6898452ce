"""Group commit: gathers what many callers submit at once and runs it as one batch, in order.

An idle batcher runs at once. While a run is under way, everything that arrives waits for the next one, and
under load it lingers a little, so that batches grow exactly when there is something to gain. In a crowd it
lingers on while more keep coming, or those who ran last are not back: a run costs a process as much as
several items do, and one that runs as soon as it can is busy with small runs while its callers wait.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from services.kit import metrics, tracing
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")

# So many who wait when a run is over, or when a batch has lingered, are a crowd.
CROWD = 3
# How often in a row it lingers in a crowd, at most.
LINGERS = 5

_log = get_logger("batcher")


class _Group(Generic[T, R]):
    """What one caller submitted together. `results` grows until all of `items` are answered."""

    __slots__ = ("answer", "items", "origin", "results", "taken")

    def __init__(self, items: list[T], answer: "asyncio.Future[list[R]]") -> None:
        self.items = items
        self.answer = answer
        self.results: list[R] = []
        self.taken = 0
        self.origin = tracing.here()


class Batcher(Generic[T, R]):
    """Runs submitted items in batches, first come first served, one batch at a time.

    `run` takes a list of items and answers one result each, in order. If it raises, every item of that batch
    is refused with what the exception means, or INTERNAL. A submitter that gives up disturbs nobody: what was
    not taken yet is not run, and results that nobody awaits are dropped.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Awaitable[list[R]]],
        max_items: int = 256,
        max_pending: int = 10_000,
        linger_s: float = 0.002,
        *,
        name: str = "batch",
    ) -> None:
        """`name` is what its metrics are told apart by: one for all batchers of a kind."""
        self._run = run
        self._max_items = max_items
        self._max_pending = max_pending
        self._linger_s = linger_s
        self._groups: deque[_Group[T, R]] = deque()
        self._pending = 0
        # How many to wait for before the next run: as many as ran last, for they come back with more; in a
        # crowd as many as a run takes.
        self._wanted = 1
        # How many ran last.
        self._ran = 0
        self._enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._name = f"batch {name}"
        self._seen_items = metrics.BATCH_ITEMS.labels(name)
        self._seen_linger = metrics.BATCH_LINGER.labels(name)
        self._seen_run = metrics.BATCH_RUN.labels(name)

    async def submit(self, item: T) -> R:
        """The result of one item. Raises Refusal OVERLOADED if too much is pending already."""
        return (await self._enqueue([item]))[0]

    async def submit_many(self, items: Sequence[T]) -> list[R]:
        """The results of items that run in their order with nobody else's between them.

        They share one batch, or a few where they are more than one batch takes.
        """
        return await self.enqueue(items)

    def enqueue(self, items: Sequence[T]) -> "asyncio.Future[list[R]]":
        """As `submit_many`, standing in line at once: others may follow before the results are awaited."""
        if items:
            return self._enqueue(list(items))
        nothing: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()
        nothing.set_result([])
        return nothing

    def _enqueue(self, items: list[T]) -> "asyncio.Future[list[R]]":
        if self._pending + len(items) > self._max_pending:
            raise Refusal("OVERLOADED")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[R]] = loop.create_future()
        self._groups.append(_Group(items, answer))
        self._pending += len(items)
        if self._pending >= self._wanted:
            self._enough.set()
        if self._task is None:
            # The task serves whoever comes next too, so it carries nothing of this caller's context.
            self._task = loop.create_task(self._drain(), context=Context())
        return answer

    async def _drain(self) -> None:
        """Runs batches until nothing is pending and nobody is expected."""
        batch: list[T] = []
        shares: list[tuple[_Group[T, R], int]] = []
        try:
            while await self._gathered():
                batch, shares = self._take()
                if batch:
                    began = time.perf_counter()
                    with tracing.together(self._name, (group.origin for group, _ in shares)):
                        results = await self._results(batch)
                    self._seen_items.observe(len(batch))
                    self._seen_run.observe(time.perf_counter() - began)
                    self._settle(shares, results)
                self._ran = len(batch)
                crowd = self._pending >= CROWD
                self._wanted = self._max_items if crowd else min(max(self._ran, 1), self._max_items)
        finally:
            self._task = None
            # Left over only if the process ends in the middle.
            for group in [*(group for group, _ in shares), *self._groups]:
                group.answer.cancel()

    async def _gathered(self) -> bool:
        """Whether there is something to run, after lingering for those who came last time, or for a crowd."""
        if self._pending < self._wanted and self._wanted > 1:
            began = time.perf_counter()
            for _ in range(LINGERS):
                before = self._pending
                await self._linger()
                # While answers go out nobody can come: those who ran last are waited for, as they come back.
                more_come = self._pending > before or self._pending < self._ran
                if not more_come or not CROWD <= self._pending < self._wanted:
                    break
                # A short run is over before a crowd has come: then it comes while this lingers.
                self._wanted = self._max_items
            self._seen_linger.observe(time.perf_counter() - began)
        return bool(self._groups)

    async def _linger(self) -> None:
        """Returns when as many wait as are wanted, or after a while."""
        self._enough.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._linger_s):
                await self._enough.wait()

    def _take(self) -> tuple[list[T], list[tuple[_Group[T, R], int]]]:
        """The next batch, and whose its items are, in order. Groups that fit a batch are not split."""
        batch: list[T] = []
        shares: list[tuple[_Group[T, R], int]] = []
        while self._groups and len(batch) < self._max_items:
            group = self._groups[0]
            left = len(group.items) - group.taken
            room = self._max_items - len(batch)
            if group.answer.done():
                self._groups.popleft()
                self._pending -= left
                continue
            if left > room and batch:
                break
            share = min(left, room)
            batch += group.items[group.taken : group.taken + share]
            shares.append((group, share))
            group.taken += share
            self._pending -= share
            if share == left:
                self._groups.popleft()
        return batch, shares

    async def _results(self, batch: list[T]) -> list[R] | Refusal:
        try:
            results = await self._run(batch)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} items were answered with {len(results)} results")
            return results
        except Exception as error:
            refusal = refusal_for(error)
            if refusal is None:
                _log.exception("a batch failed", items=len(batch))
                return Refusal("INTERNAL")
            if refusal is not error:
                _log.warning("a batch was refused", items=len(batch), word=refusal.word, problem=repr(error))
            return refusal

    @staticmethod
    def _settle(shares: list[tuple[_Group[T, R], int]], results: list[R] | Refusal) -> None:
        start = 0
        for group, share in shares:
            if group.answer.done():
                start += share
                continue
            if isinstance(results, Refusal):
                group.answer.set_exception(results)
                continue
            share_of = results[start : start + share]
            start += share
            if share < len(group.items):
                group.results += share_of
                share_of = group.results
            if len(share_of) == len(group.items):
                group.answer.set_result(share_of)


class PerKey(Generic[K, V]):
    """One of something, a batcher say, per key (a sale), made when first asked for."""

    def __init__(self, factory: Callable[[K], V]) -> None:
        self._factory = factory
        self._kept: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        """The key's own. Ask for keys that exist only: each is kept until dropped."""
        if key not in self._kept:
            self._kept[key] = self._factory(key)
        return self._kept[key]

    def drop(self, key: K) -> None:
        """Forgets the key's own; who still has it may finish with it."""
        self._kept.pop(key, None)
