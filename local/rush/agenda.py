"""What is planned, in the order of its time: one heap for all buyers instead of a task for each."""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator

from local.rush.intent import Do

# What is due within this time is taken together: it lets batches form and spares wake-ups.
GRAIN_S = 0.005
# After so many the loop turns to the answers.
SLICE = 1_000


class Agenda:
    """Everything that buyers mean to do later."""

    def __init__(self, clock: Callable[[], float], perform: Callable[[Do], None]) -> None:
        self._clock = clock
        self._perform = perform
        self._heap: list[Do] = []
        self._wake = asyncio.Event()

    def __iter__(self) -> Iterator[Do]:
        return iter(self._heap)

    def plan(self, does: Iterable[Do]) -> None:
        """Put these into their places."""
        for do in does:
            if not self._heap or do < self._heap[0]:
                self._wake.set()
            heapq.heappush(self._heap, do)

    async def run(self) -> None:
        """Performs what is due, for ever."""
        while True:
            self._wake.clear()
            self._perform_due()
            pause = self._heap[0].at - self._clock() if self._heap else None
            if pause is not None and pause <= GRAIN_S:
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _perform_due(self) -> None:
        due = self._clock() + GRAIN_S
        for _ in range(SLICE):
            if not self._heap or self._heap[0].at > due:
                return
            self._perform(heapq.heappop(self._heap))
