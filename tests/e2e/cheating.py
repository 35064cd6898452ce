"""What the tests of cheats share: what a call is refused with, and that nothing has changed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as checkout
from redis.asyncio import Redis

from local.client import Buyer, item
from services.kit.errors import Refusal

AWAITING, CONFIRMED = checkout.ORDER_STATE_AWAITING_PAYMENT, checkout.ORDER_STATE_CONFIRMED
ONE = [item("floor", 1)]


async def waiting(house: Any, name: str) -> tuple[Buyer, checkout.Order]:
    """A buyer and their order, whose payment is open."""
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", ONE)
    return buyer, await house.told(buyer, placed.order_id, AWAITING)


async def word_of(attempt: Awaitable[Any]) -> str:
    """What a call is refused with, or that it was not."""
    try:
        await attempt
    except Refusal as refusal:
        return refusal.word
    return "FINE"


async def state_of(house: Any, sale: str) -> dict[str, Any]:
    """What the ledger, the line and checkout hold of a sale, the numbers of their changes with it."""
    ledger = await house.ledger(sale)
    orders = await house.organiser.orders_by_state(sale)
    redis = Redis.from_url(house.running.redis_url)
    try:
        line = await redis.hmget(f"q:{{{sale}}}:meta", "sequence", "count")
    finally:
        await redis.aclose()
    counted = {each.state: each.count for each in orders.counts}
    return {"ledger": ledger.sequence, "counts": str(ledger.counts), "line": line, "orders": counted}


@asynccontextmanager
async def nothing_changes(house: Any, sale: str, *, refused_orders: int = 0) -> AsyncIterator[None]:
    """Fails if the block changes anything but the number of orders that were kept as REJECTED."""
    before = await state_of(house, sale)
    yield
    async with asyncio.timeout(30):
        # An order that was refused is written down a moment later.
        while True:
            after = await state_of(house, sale)
            rejected = after["orders"].pop(checkout.ORDER_STATE_REJECTED, 0)
            of_before = {k: v for k, v in before["orders"].items() if k != checkout.ORDER_STATE_REJECTED}
            grown = rejected - before["orders"].get(checkout.ORDER_STATE_REJECTED, 0)
            if grown == refused_orders and after == before | {"orders": of_before}:
                return
            await asyncio.sleep(0.05)
