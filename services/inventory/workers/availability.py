"""Follows every watched sale's units: one reading for all who watch, and to each what changed for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.inventory.seat_map import SeatMap, map_of
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.tasks import stop

log = get_logger(__name__)

# What a sale cannot come back from for those who watch it here; everything else is waited out.
ENDS = frozenset({"SALE_NOT_FOUND", "SALE_ARCHIVED"})
BACKOFF_S = 1.0

Read = Callable[[str, int], Awaitable[dict[str, Any]]]
"""The MAP of a sale if anything changed since a sequence."""


@dataclass(frozen=True, slots=True)
class News:
    """What a watcher is told: where it stood and where it stands; equal where nothing changed for a while."""

    before: SeatMap | None
    """Nothing at first, and where the sale's sequence went back: then all is told."""
    now: SeatMap


class _Hub:
    """What the watchers of one sale share."""

    def __init__(self, sale: str, read: Read, every_s: float) -> None:
        self._sale = sale
        self._read = read
        self._every_s = every_s
        self.users = 0
        self.task: asyncio.Task[None] | None = None
        self.map: SeatMap | None = None
        self.problem: Refusal | None = None
        # Set, and replaced by the next one, with every map.
        self.changed = asyncio.Event()

    def tell(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()

    async def run(self) -> None:
        """Reads until cancelled, or until the sale is no more."""
        while self.problem is None:
            wait_s = self._every_s
            try:
                result = await self._read(self._sale, self.map.sequence if self.map else -1)
            except Exception as error:
                refusal = refusal_for(error)
                if refusal is not None and (refusal.word in ENDS or self.map is None):
                    self.problem = refusal
                    self.tell()
                log.warning("map_unread", sale=self._sale, problem=refusal.word if refusal else repr(error))
                wait_s = BACKOFF_S
            else:
                if result["word"] == "MAP":
                    self.map = map_of(result)
                    self.tell()
            await asyncio.sleep(wait_s)


class Availability:
    """The watchers of all sales in this process."""

    def __init__(self, read: Read, every_s: float, heartbeat_s: float) -> None:
        """A watched sale is read every `every_s`; after `heartbeat_s` without news there is an empty one."""
        self._read = read
        self._every_s = every_s
        self._heartbeat_s = heartbeat_s
        self._hubs: dict[str, _Hub] = {}
        self._draining = False

    def drain(self) -> None:
        """Ends every stream: their clients begin anew elsewhere."""
        self._draining = True
        for hub in self._hubs.values():
            hub.tell()

    async def close(self) -> None:
        """Stop reading."""
        await stop(*(hub.task for hub in self._hubs.values() if hub.task is not None))

    async def watch(self, sale: str) -> AsyncIterator[News]:
        """All of the sale, then what changes. Raises Refusal once the sale is archived, or on draining."""
        async with self._hub(sale) as hub:
            seen: SeatMap | None = None
            while True:
                changed = hub.changed
                if hub.problem is not None:
                    raise hub.problem
                if self._draining:
                    raise Refusal("UNAVAILABLE")
                now = hub.map
                if now is not None and now is not seen:
                    went_back = seen is not None and now.sequence < seen.sequence
                    yield News(None if went_back else seen, now)
                    seen = now
                elif not await _happens(changed, self._heartbeat_s) and seen is not None:
                    yield News(seen, seen)

    @contextlib.asynccontextmanager
    async def _hub(self, sale: str) -> AsyncIterator[_Hub]:
        hub = self._hubs.get(sale)
        if hub is None or hub.problem is not None:
            hub = self._hubs[sale] = _Hub(sale, self._read, self._every_s)
            hub.task = asyncio.create_task(hub.run(), name=f"availability {sale}")
        hub.users += 1
        try:
            yield hub
        finally:
            hub.users -= 1
            if not hub.users:
                if self._hubs.get(sale) is hub:
                    del self._hubs[sale]
                assert hub.task is not None
                hub.task.cancel()


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
