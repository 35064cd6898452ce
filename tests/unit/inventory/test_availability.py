"""Who watches a sale's units is told all, then what changes; outages are waited out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.inventory.workers import availability
from services.inventory.workers.availability import Availability, News
from services.kit.errors import Refusal

COUNTS = {"section": "hall", "capacity": 4, "free": 4, "held": 0, "sold": 0, "blocked": 0}


class Sale:
    """What the store says of one sale."""

    def __init__(self) -> None:
        self.sequence = 1
        self.readings = 0
        self.problem: Exception | None = None
        self.read_again = asyncio.Event()

    async def read(self, sale: str, since: int) -> dict[str, Any]:
        self.readings += 1
        self.read_again.set()
        if self.problem is not None:
            raise self.problem
        if since == self.sequence:
            return {"word": "UNCHANGED"}
        return {"word": "MAP", "sequence": self.sequence, "sections": [COUNTS], "states": {"hall": "\0"}}

    async def passed(self) -> None:
        """Wait for one more reading."""
        self.read_again.clear()
        await self.read_again.wait()


@pytest.fixture
def sale() -> Sale:
    return Sale()


@pytest.fixture
async def watching(sale: Sale) -> AsyncIterator[Availability]:
    made = Availability(sale.read, every_s=0.001, heartbeat_s=30)
    yield made
    await made.close()


async def soon(news: AsyncIterator[News]) -> News:
    async with asyncio.timeout(10):
        return await anext(news)


async def test_all_of_it_and_then_what_changes(sale: Sale, watching: Availability) -> None:
    news = watching.watch("show")
    first = await soon(news)
    sale.sequence = 2
    second = await soon(news)
    assert first.before is None
    assert second.before is first.now
    assert (first.now.sequence, second.now.sequence) == (1, 2)


async def test_many_watchers_share_one_reading(sale: Sale, watching: Availability) -> None:
    every = [watching.watch("show") for _ in range(5)]
    seen = [(await soon(news)).now for news in every]
    assert all(each is seen[0] for each in seen)


async def test_who_was_slow_gets_one_step(sale: Sale, watching: Availability) -> None:
    news = watching.watch("show")
    first = await soon(news)
    for sale.sequence in (2, 3, 4):
        await sale.passed()
        await sale.passed()
    later = await soon(news)
    assert (later.before, later.now.sequence) == (first.now, 4)


async def test_a_store_that_was_rebuilt_is_told_whole(sale: Sale, watching: Availability) -> None:
    news = watching.watch("show")
    sale.sequence = 7
    assert (await soon(news)).now.sequence == 7
    sale.sequence = 3
    again = await soon(news)
    assert (again.before, again.now.sequence) == (None, 3)


async def test_an_outage_is_waited_out(
    sale: Sale, watching: Availability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "BACKOFF_S", 0.001)
    news = watching.watch("show")
    await soon(news)
    sale.problem = ConnectionError()
    await sale.passed()
    sale.problem, sale.sequence = None, 2
    assert (await soon(news)).now.sequence == 2


@pytest.mark.parametrize("word", ["SALE_ARCHIVED", "SALE_NOT_FOUND"])
async def test_a_sale_that_is_no_more_ends_it(sale: Sale, watching: Availability, word: str) -> None:
    news = watching.watch("show")
    await soon(news)
    sale.problem = Refusal(word)
    with pytest.raises(Refusal, match=word):
        await soon(news)


async def test_a_sale_that_cannot_be_read_at_first_is_refused(sale: Sale, watching: Availability) -> None:
    sale.problem = Refusal("SALE_NOT_LOADED")
    with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
        await soon(watching.watch("show"))
    sale.problem = None
    assert (await soon(watching.watch("show"))).now.sequence == 1


async def test_draining_ends_every_stream(sale: Sale, watching: Availability) -> None:
    news = watching.watch("show")
    await soon(news)
    watching.drain()
    with pytest.raises(Refusal, match="UNAVAILABLE"):
        await soon(news)


async def test_what_is_quiet_beats(sale: Sale) -> None:
    watching = Availability(sale.read, every_s=0.001, heartbeat_s=0.01)
    news = watching.watch("show")
    first = await soon(news)
    beat = await soon(news)
    assert beat == News(first.now, first.now)
    await watching.close()


async def test_nothing_is_read_when_nobody_watches(sale: Sale, watching: Availability) -> None:
    news = watching.watch("show")
    await soon(news)
    await news.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    before = sale.readings
    for _ in range(20):
        await asyncio.sleep(0.002)
    assert sale.readings <= before + 1
