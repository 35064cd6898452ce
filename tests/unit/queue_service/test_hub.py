"""The one reader of a sale's standing: what it tells the watchers when the store was filled again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from services.kit.errors import Refusal
from services.queue.states import Entry, Standing
from services.queue.watchers import Watcher
from services.queue.workers.standing import Hub
from tests.unit.queue_service.test_streams import BUYER, STANDING


class Store:
    """Gives the standings that the test says, one after the other, and the last one for ever."""

    def __init__(self, standings: Sequence[Standing | Refusal]) -> None:
        self._left = list(standings)

    async def standing(self, sale: str) -> Standing:
        found = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(found, Refusal):
            raise found
        return found


class Line:
    """Places are indexes."""

    def place(self, sale: str, entry: Entry, standing: Standing) -> int:
        return entry.index


async def stale_after(*standings: Standing) -> bool:
    """Whether a watcher who was there from the first standing on is to read the place anew after the last."""
    nothing = cast(Any, None)
    hub = Hub("a-sale", cast(Any, Store(standings)), cast(Any, Line()), nothing, near=0, poll_s=0.001)
    watcher = Watcher(BUYER, Entry(5, 0))
    hub.watchers.add(watcher, standings[0])
    polling = asyncio.create_task(hub.poll())
    async with asyncio.timeout(5):
        while hub._standing is not standings[-1]:
            await asyncio.sleep(0.001)
    polling.cancel()
    return watcher.stale


async def test_everyone_reads_their_place_anew_once_the_store_was_filled_again() -> None:
    first = replace(STANDING, epoch=1)

    assert await stale_after(first, replace(first, epoch=2))
    assert not await stale_after(first, replace(first, joined=11))
