"""One reading for many callers."""

import asyncio

import pytest

from services.inventory.snapshots import Snapshots


class Source:
    """Counts how often each key is read, and fails when told to."""

    def __init__(self) -> None:
        self.readings: list[str] = []
        self.broken = False

    async def read(self, key: str) -> int:
        self.readings.append(key)
        await asyncio.sleep(0.01)
        if self.broken:
            raise ConnectionError("no store")
        return len(self.readings)


async def test_all_who_ask_at_once_share_one_reading() -> None:
    source = Source()
    snapshots = Snapshots(source.read, 60)

    answers = await asyncio.gather(*(snapshots.get("a") for _ in range(50)), snapshots.get("b"))

    assert source.readings == ["a", "b"]
    assert set(answers[:50]) == {answers[0]}


async def test_an_old_reading_is_not_told() -> None:
    source = Source()
    snapshots = Snapshots(source.read, 0)

    first, second = await snapshots.get("a"), await snapshots.get("a")

    assert (first, second) == (1, 2)


async def test_a_failed_reading_is_told_and_tried_again() -> None:
    source = Source()
    snapshots = Snapshots(source.read, 60)
    source.broken = True
    with pytest.raises(ConnectionError):
        await snapshots.get("a")
    source.broken = False

    assert await snapshots.get("a") == 2


async def test_who_gives_up_takes_it_from_nobody() -> None:
    source = Source()
    snapshots = Snapshots(source.read, 60)
    impatient = asyncio.create_task(snapshots.get("a"))
    await asyncio.sleep(0)
    patient = asyncio.create_task(snapshots.get("a"))
    await asyncio.sleep(0)

    impatient.cancel()

    assert await patient == 1


async def test_what_is_forgotten_is_read_anew() -> None:
    source = Source()
    snapshots = Snapshots(source.read, 60)
    await snapshots.get("a")

    snapshots.forget("a")

    assert await snapshots.get("a") == 2
