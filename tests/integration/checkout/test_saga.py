"""An order's way to its end, against real Postgres, NATS and sandbox, on both ledgers."""

import asyncio

import pytest
from catraca.checkout.v1 import checkout_pb2

from services.checkout.records import Order
from services.checkout.states import OrderState, PaymentState
from services.checkout.tickets import verify_ticket
from services.kit.errors import Refusal
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop

AWAITING, CONFIRMED = OrderState.AWAITING_PAYMENT, OrderState.CONFIRMED


async def states_published(shop: Shop, order: Order) -> list[str]:
    """The states that buyers were told, each version once and in order."""
    published = await shop.until_published(order)
    assert [each.order.version for each in published] == list(range(len(published)))
    prefix = "ORDER_STATE_"
    return [checkout_pb2.OrderState.Name(each.order.state).removeprefix(prefix) for each in published]


async def test_a_paid_order_is_confirmed_with_tickets(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        order = await shop.place(quantity=2)
        waiting = await shop.until(order, AWAITING)
        assert waiting.amount == 3000
        assert waiting.payment is not None
        assert waiting.pay_until_ms == waiting.payment.pay_until_ms < waiting.pin_until_ms

        assert await shop.pay(waiting) == "authorized"
        confirmed = await shop.until(order, CONFIRMED)

        public = {key.id: key.public for key in shop.key.keys}
        claims = [verify_ticket(each.code, public) for each in confirmed.tickets]
        assert [claim.unit for claim in claims] == [unit.unit for unit in confirmed.units]
        assert await states_published(shop, order) == [
            "ACCEPTED",
            "HELD",
            "AWAITING_PAYMENT",
            "AUTHORIZED",
            "CAPTURING",
            "CONFIRMED",
        ]
        # Nobody sees a code before the money is taken (I5).
        published = await shop.published(order)
        assert [len(each.order.tickets) for each in published] == [0, 0, 0, 0, 0, 2]
        assert await shop.counts() == {"free": 8, "held": 0, "sold": 2}
        session = await shop.session_of(order)
        assert (session["state"], session["captured"]) == ("captured", 3000)


async def test_after_a_decline_another_card_may_pay(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        order = await shop.place()
        waiting = await shop.until(order, AWAITING)

        assert await shop.pay(waiting, "decline") == "declined"
        while (known := await shop.store.load_one(order.order_id)) and known.version == waiting.version:
            await asyncio.sleep(0.02)
        assert known is not None
        assert known.payment is not None
        assert (known.state, known.payment.declines) == (AWAITING, 1)

        await shop.pay(waiting)
        await shop.until(order, CONFIRMED)


@pytest.mark.parametrize(
    ("declined", "state", "reason"),
    [
        (False, OrderState.EXPIRED, "PAYMENT_TIMEOUT"),
        (True, OrderState.PAYMENT_FAILED, "PAYMENT_DECLINED"),
    ],
)
async def test_units_come_back_when_nobody_pays_in_time(
    declined: bool, state: OrderState, reason: str, shop_on: ShopOf
) -> None:
    async with (await shop_on(window_s=1.5, grace_s=30)).open() as shop:
        order = await shop.place(quantity=3)
        waiting = await shop.until(order, AWAITING)
        if declined:
            await shop.pay(waiting, "decline")

        ended = await shop.until_rest(order)

        assert (ended.state, ended.reason) == (state, reason)
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}
        assert await shop.pay(waiting) == "expired"


async def test_what_costs_nothing_needs_no_payment(shop_on: ShopOf) -> None:
    async with (await shop_on(price=0)).open() as shop:
        order = await shop.place(quantity=2)

        confirmed = await shop.until(order, CONFIRMED)

        assert confirmed.payment is None
        assert all(ticket.code for ticket in confirmed.tickets)
        assert await states_published(shop, order) == ["ACCEPTED", "HELD", "CAPTURING", "CONFIRMED"]
        assert await shop.sandbox.ledger(order.sale) == []


async def test_the_ledgers_refusal_is_the_orders_end(shop_on: ShopOf) -> None:
    async with (await shop_on(capacity=1)).open() as shop:
        with pytest.raises(Refusal) as refused:
            await shop.place(quantity=2, key="click-0001")
        word = refused.value.word
        assert word in ("SOLD_OUT", "SECTION_SOLD_OUT")

        # Asked again it is refused again, and the worker writes the same reason down.
        with pytest.raises(Refusal, match=word):
            await shop.place(quantity=2, key="click-0001")
        ended = await shop.until_rest(await shop.order_under("click-0001"))
        assert (ended.state, ended.reason) == (OrderState.REJECTED, word)
        assert await shop.counts() == {"free": 1, "held": 0, "sold": 0}


async def test_a_refused_capture_gives_everything_back(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        order = await shop.place(quantity=2)
        await shop.pay(await shop.until(order, AWAITING), "approve-no-capture")

        ended = await shop.until_rest(order)

        assert (ended.state, ended.reason) == (OrderState.PAYMENT_FAILED, "CAPTURE_REFUSED")
        assert (
            await shop.pool.fetchval("select count(*) from orders.tickets where sale = $1", order.sale) == 0
        )
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}
        session = await shop.session_of(order)
        assert (session["state"], session["captured"]) == ("voided", 0)


# ---- cancelling ----


async def test_an_order_that_no_worker_saw_is_cancelled(shop_on: ShopOf) -> None:
    shop = await shop_on()
    async with shop.open("relay"):
        order = await shop.place(quantity=2)
        await shop.write_down(order)

        cancelled = await shop.saga.cancel(order)
        await shop.saga.idle()
        assert cancelled.state is OrderState.CANCELLED

    # The worker comes late, and must not hold anything for it.
    async with shop.open() as shop:
        await asyncio.sleep(0.3)
        ended = await shop.until_rest(order)
        assert (ended.state, ended.reason) == (OrderState.CANCELLED, "CANCELLED_ON_REQUEST")
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}
        assert await states_published(shop, order) == ["ACCEPTED", "CANCELLED"]


async def test_a_session_of_a_cancelled_order_takes_no_money(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        order = await shop.place(quantity=2)
        waiting = await shop.until(order, AWAITING)

        cancelled = await shop.saga.cancel(waiting)
        assert cancelled.state is OrderState.CANCELLED
        # Asked again, also with an old view of the order, nothing changes.
        assert (await shop.saga.cancel(waiting)).version == cancelled.version

        ended = await shop.until_rest(order)
        assert ended.payment is not None
        assert ended.payment.state is PaymentState.VOIDED
        assert await shop.pay(waiting) == "voided"
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}


async def test_reserved_money_is_voided_when_the_order_is_cancelled(shop_on: ShopOf) -> None:
    shop = await shop_on()
    # Without sweeper and webhooks nobody leads the order on between the steps of this test.
    async with shop.open("intake", "relay") as shop:
        order = await shop.place(quantity=2)
        waiting = await shop.until(order, AWAITING)
        await shop.pay(waiting)
        authorized = await shop.authorize(waiting)

        cancelled = await shop.saga.cancel(authorized)
        assert cancelled.state is OrderState.VOIDING
        await shop.saga.idle()

        ended = await shop.until_rest(order)
        assert (ended.state, ended.reason) == (OrderState.CANCELLED, "CANCELLED_ON_REQUEST")
        session = await shop.session_of(order)
        assert (session["state"], session["captured"]) == ("voided", 0)
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}
        assert (await states_published(shop, order))[-3:] == ["AUTHORIZED", "VOIDING", "CANCELLED"]


async def test_what_is_confirmed_cannot_be_cancelled(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        order = await shop.place()
        waiting = await shop.until(order, AWAITING)
        await shop.pay(waiting)
        await shop.until(order, CONFIRMED)

        # Even with a view of the order from before it was paid.
        with pytest.raises(Refusal) as refused:
            await shop.saga.cancel(waiting)

        assert (refused.value.word, refused.value.metadata["state"]) == ("ORDER_STATE", "CONFIRMED")


async def test_cancelling_races_with_paying(shop_on: ShopOf) -> None:
    async with (await shop_on(capacity=20)).open() as shop:
        orders = [await shop.place(f"buyer-{index}") for index in range(10)]
        waiting = [await shop.until(order, AWAITING) for order in orders]

        async def cancel(order: Order) -> None:
            try:
                await shop.saga.cancel(order)
            except Refusal as refusal:
                assert refusal.word == "ORDER_STATE"

        await asyncio.gather(*(act for each in waiting for act in (shop.pay(each), cancel(each))))
        ended = [await shop.until_rest(order) for order in orders]

        sessions = {each["order_id"]: each for each in await shop.sandbox.ledger(shop.sale.sale)}
        for order in ended:
            session = sessions[order.order_id]
            if order.state is CONFIRMED:
                assert (session["state"], len(order.tickets)) == ("captured", 1)
            else:
                assert (order.state, session["state"]) == (OrderState.CANCELLED, "voided")
        sold = sum(order.state is CONFIRMED for order in ended)
        assert await shop.counts() == {"free": 20 - sold, "held": 0, "sold": sold}
