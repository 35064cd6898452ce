"""Two queue processes that both believe to lead the same sale: nobody is promised what is not there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from redis.asyncio import Redis

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, item
from services.kit.tasks import stop
from services.queue.store import KEYS, keys_of

CAPACITY, BUYERS, EACH = 40, 40, 2
PATIENCE_S = 60.0


async def test_two_leaders_at_once_promise_nothing_twice(house: Any) -> None:
    name = await house.sale(capacity=CAPACITY, opens_in_s=1.5, price=0)
    buyers = [house.buyer(name) for _ in range(BUYERS)]
    await asyncio.gather(*(buyer.join() for buyer in buyers))
    async with _lease_lost_all_the_time(house, name) as leaders, _counts_watched(house, name) as wrong:
        async with asyncio.timeout(PATIENCE_S):
            bought = await asyncio.gather(*(_buy(house, buyer) for buyer in buyers))
    assert len(leaders) == 2, "both processes led"
    assert not wrong
    assert sum(bought) == CAPACITY
    verdict = await _settled(house, name)
    assert verdict.ok, verdict.findings


async def _buy(house: Any, buyer: Buyer) -> int:
    """Buy a few when called, then make room; 0 for who is told that all is sold."""
    async for message in buyer.watch():
        if message.standing.availability == queue.AVAILABILITY_SOLD_OUT:
            return 0
        if message.place.state == queue.PLACE_STATE_CALLED:
            break
    admission = await buyer.enter()
    count = min(EACH, admission.allowance)
    order = await buyer.order("click-one", [item("floor", count)], admission=admission.token)
    if admission.allowance > count:
        await buyer.leave()
    await house.told(buyer, order.order_id, checkout.ORDER_STATE_CONFIRMED)
    return count


@asynccontextmanager
async def _lease_lost_all_the_time(house: Any, sale: str) -> AsyncIterator[set[bytes]]:
    """Takes the lease away from whoever has it, so that the other one takes it while the first goes on."""
    leaders: set[bytes] = set()
    key = keys_of(sale)[KEYS.index("lease")]
    redis = Redis.from_url(house.running.redis_url)

    async def lose() -> None:
        while True:
            holder = await redis.getdel(key)
            if holder:
                leaders.add(holder)
            await asyncio.sleep(0.003)

    losing = asyncio.create_task(lose())
    try:
        yield leaders
    finally:
        await stop(losing)
        await redis.aclose()


@asynccontextmanager
async def _counts_watched(house: Any, sale: str) -> AsyncIterator[list[str]]:
    """Notes every moment at which more is promised, held and sold than there is."""
    wrong: list[str] = []

    async def watch() -> None:
        while True:
            counts = (await house.ledger(sale)).counts
            if counts.promised > counts.free or counts.held + counts.sold > counts.capacity:
                wrong.append(str(counts))
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    try:
        yield wrong
    finally:
        watched = not watching.done()
        await stop(watching)
        assert watched, "the counts could not be watched"


async def _settled(house: Any, sale: str) -> Any:
    for _ in range(10):
        verdict = await audit(Sources.of(house.running), sale, settled=True)
        if verdict.ok:
            break
        await asyncio.sleep(1)
    return verdict
