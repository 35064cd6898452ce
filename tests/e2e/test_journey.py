"""A buyer's whole way: the lobby, the draw, the turn, the order, the payment, the ticket at the door."""

import asyncio
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale

from local.client import Buyer, item
from services.checkout.tickets import TicketInvalid, verify_ticket
from services.queue.draw import Permutation, draw_key

COMPANY = 4


async def test_from_the_lobby_to_the_door(house: Any) -> None:
    name = await house.sale(capacity=20, opens_in_s=2.0)
    buyer = house.buyer(name)
    others = [house.buyer(name) for _ in range(COMPANY)]

    first = await buyer.join()
    await asyncio.gather(*(other.join() for other in others))
    again = await buyer.join()
    assert first.state == queue.PLACE_STATE_WAITING and not first.HasField("place")
    assert again.index == first.index

    place = await house.called(buyer)
    await _check_draw(buyer, place, cohort=COMPANY + 1)

    admission = await buyer.enter()
    assert admission.allowance == 4 and admission.place == place.place
    assert await buyer.enter() == admission

    placed = await buyer.order("the-first-click", [item("floor", 4)], admission=admission.token)
    assert placed.state == checkout.ORDER_STATE_ACCEPTED

    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    assert asked.amount == 4 * 1500 and len(asked.units) == 4 and not asked.tickets
    assert await house.pay(asked) == "authorized"
    confirmed = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)

    await _check_door(buyer, confirmed)
    assert (await buyer.get_order(placed.order_id)).state == checkout.ORDER_STATE_CONFIRMED
    assert (await house.ledger(name)).counts.sold == 4
    assert (await buyer.place()).state == queue.PLACE_STATE_FINISHED


async def _check_draw(buyer: Buyer, place: queue.Place, cohort: int) -> None:
    """Anybody can recompute their place from what is published."""
    request = queue.GetDrawRequest(sale=buyer.sale)
    draw = (await buyer.at.queue.GetDraw(request, metadata=buyer.metadata)).draw
    found = await buyer.at.sales.GetSale(sale.GetSaleRequest(sale=buyer.sale), metadata=buyer.metadata)
    assert draw.commitment == found.sale.draw_commitment
    assert draw.cohort == cohort
    key = draw_key(bytes.fromhex(draw.seed), bytes.fromhex(draw.root), bytes.fromhex(draw.beacon))
    assert Permutation(key, draw.cohort).place(place.index) == place.place


async def _check_door(buyer: Buyer, order: checkout.Order) -> None:
    """The tickets verify with nothing but the public keys, which need no token."""
    answer = await buyer.at.orders.GetTicketKeys(checkout.GetTicketKeysRequest())
    keys = {key.key_id: key.ed25519_public_key for key in answer.keys}
    assert len(order.tickets) == 4
    for ticket in order.tickets:
        claims = verify_ticket(ticket.code, keys, sale=buyer.sale)
        assert (claims.ticket_id, claims.unit) == (ticket.ticket_id, ticket.unit)
        with pytest.raises(TicketInvalid):
            verify_ticket(ticket.code, keys, sale="another-sale")
    code = order.tickets[0].code
    with pytest.raises(TicketInvalid):
        verify_ticket(code.replace(code[5], "A" if code[5] != "A" else "B", 1), keys)


async def test_hold_first_then_order_the_hold(house: Any) -> None:
    name = await house.sale()
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    hold = await buyer.hold("my-hold-1", [item("floor", 2)], admission.token)
    assert await buyer.hold("my-hold-1", [item("floor", 2)], admission.token) == hold
    placed = await buyer.order("click-one", hold_id="my-hold-1", admission=admission.token)
    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    assert sorted(unit.unit for unit in asked.units) == sorted(unit.unit for unit in hold.units)


async def test_free_of_charge_is_confirmed_without_a_payment(house: Any) -> None:
    name = await house.sale(line=False, price=0)
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", [item("floor", 2)])
    confirmed = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)
    assert len(confirmed.tickets) == 2 and not confirmed.HasField("payment")


async def test_a_declined_card_may_be_followed_by_another(house: Any) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", [item("floor", 1)])
    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    assert await house.pay(asked, "decline") == "declined"
    assert await house.pay(asked, "approve") == "authorized"
    await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)


async def test_a_cancelled_order_gives_its_units_back(house: Any) -> None:
    name = await house.sale(line=False, capacity=1)
    buyer, next_one = house.buyer(name), house.buyer(name)
    placed = await buyer.order("click-one", [item("floor", 1)])
    await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    await buyer.cancel(placed.order_id)
    ended = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CANCELLED)
    assert ended.reason == "CANCELLED_ON_REQUEST"
    async with asyncio.timeout(30):
        while (await house.ledger(name)).counts.free == 0:
            await asyncio.sleep(0.05)
    assert (await next_one.order("click-one", [item("floor", 1)])).state == checkout.ORDER_STATE_ACCEPTED


async def test_whoever_buys_less_and_leaves_lets_the_next_one_in(house: Any) -> None:
    name = await house.sale(capacity=4)
    buyer, next_one = house.buyer(name), house.buyer(name)
    admission = await house.admitted(buyer)
    await next_one.join()
    assert (await next_one.place()).state == queue.PLACE_STATE_WAITING
    await buyer.order("click-one", [item("floor", 1)], admission=admission.token)
    assert (await buyer.leave()).state == queue.PLACE_STATE_LEFT
    assert (await house.called(next_one)).allowance == 3
