"""Many at once: the last units, the same click twice, another body under the same key."""

import asyncio
from typing import Any

import grpc
import pytest

from local.client import Buyer, item
from services.kit.errors import Refusal

RACERS, UNITS = 10, 2


@pytest.mark.parametrize("how", ["hold", "order"])
async def test_ten_race_for_the_last_two_without_a_line(house: Any, how: str) -> None:
    name = await house.sale(capacity=UNITS, line=False, limit=1)

    async def grab(buyer: Buyer) -> str:
        try:
            if how == "hold":
                await buyer.hold("my-hold-1", [item("floor", 1)])
            else:
                await buyer.order("click-one", [item("floor", 1)])
        except Refusal as refusal:
            return refusal.word
        return "WON"

    answers = await asyncio.gather(*(grab(house.buyer(name)) for _ in range(RACERS)))
    assert answers.count("WON") == UNITS
    assert answers.count("SOLD_OUT") == RACERS - UNITS
    counts = (await house.ledger(name)).counts
    assert counts.free == 0 and counts.capacity == UNITS


async def test_sold_out_says_that_units_may_come_back(house: Any) -> None:
    name = await house.sale(capacity=1, line=False)
    await house.buyer(name).hold("my-hold-1", [item("floor", 1)])
    with pytest.raises(Refusal) as refused:
        await house.buyer(name).hold("my-hold-1", [item("floor", 1)])
    assert refused.value.word == "SOLD_OUT"
    assert refused.value.metadata["left"] == "0"
    assert refused.value.retry_after_s is not None


async def test_the_same_order_twice_is_one_order(house: Any) -> None:
    name = await house.sale()
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    items = [item("floor", 2)]
    clicks = [buyer.order("click-one", items, admission=admission.token) for _ in range(5)]
    orders = {order.order_id for order in await asyncio.gather(*clicks)}
    assert len(orders) == 1
    counts = (await house.ledger(name)).counts
    assert counts.promised == 2, "the allowance of 4 was spent once"


async def test_another_body_under_the_same_key_is_refused(house: Any) -> None:
    name = await house.sale()
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    placed = await buyer.order("click-one", [item("floor", 2)], admission=admission.token)
    before = (await house.ledger(name)).counts.promised
    with pytest.raises(Refusal) as refused:
        await buyer.order("click-one", [item("floor", 1)], admission=admission.token)
    assert refused.value.word == "IDEMPOTENCY_KEY_REUSED"
    assert refused.value.code is grpc.StatusCode.ALREADY_EXISTS
    assert (await buyer.get_order(placed.order_id)).items[0].quantity == 2
    assert (await house.ledger(name)).counts.promised == before


async def test_a_key_belongs_to_its_buyer(house: Any) -> None:
    name = await house.sale(line=False)
    one, other = house.buyer(name), house.buyer(name)
    first = await one.order("click-one", [item("floor", 1)])
    second = await other.order("click-one", [item("floor", 2)])
    assert first.order_id != second.order_id
    with pytest.raises(Refusal, match="ORDER_NOT_FOUND"):
        await other.get_order(first.order_id)


async def test_the_limit_counts_what_is_held_claimed_and_owned(house: Any) -> None:
    name = await house.sale(line=False, limit=3)
    buyer = house.buyer(name)
    await buyer.order("click-one", [item("floor", 1)])
    await buyer.hold("my-hold-1", [item("floor", 1)])
    with pytest.raises(Refusal, match="LIMIT_REACHED"):
        await buyer.order("click-two", [item("floor", 2)])
    await buyer.order("click-three", [item("floor", 1)])
