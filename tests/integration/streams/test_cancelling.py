"""A task that is told to stop stops, whatever it waits for at that moment."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.kit.tasks import raise_if_cancelled


@pytest.mark.parametrize("turns", range(12))
async def test_a_command_to_redis_keeps_a_cancellation(redis: Redis, sale_id: str, turns: int) -> None:
    await redis.ping()

    async def read_and_go_on() -> None:
        await redis.xrange(sale_id, count=3)
        await asyncio.sleep(3600)

    task = asyncio.create_task(read_and_go_on())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


async def test_a_lost_cancellation_is_noticed_at_the_next_turn() -> None:
    async def deaf() -> None:
        while True:
            raise_if_cancelled()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()
