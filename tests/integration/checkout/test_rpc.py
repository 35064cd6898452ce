"""What buyers, BFFs and services may ask of checkout, and what they are refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from catraca.checkout.v1 import checkout_pb2 as api
from catraca.inventory.v1.inventory_pb2 import HoldItem

from services.checkout.rpc import OrderServicer, SettlementServicer
from services.checkout.states import OrderState
from services.checkout.tickets import verify_ticket
from services.kit.errors import Refusal
from services.kit.identity import Caller, set_caller
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import KEYS, Shop, buyer

AWAITING = OrderState.AWAITING_PAYMENT
CONTEXT = None


def as_caller(subject: str = "ada", *roles: str, speaks_for: str | None = None) -> None:
    """What follows in this test is called by this subject."""
    set_caller(Caller("public", subject, frozenset(roles or ("buyer",)), speaks_for, KEYS))


class Desk:
    """The servicers of a shop, and the calls in short."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.orders = OrderServicer(shop.intake, shop.store, shop.saga, shop.key)
        self.settlement = SettlementServicer(shop.intake, shop.store)

    async def place(self, key: str = "click-0001", quantity: int = 1, **fields: object) -> api.Order:
        """PlaceOrder."""
        request = api.PlaceOrderRequest(
            sale=self.shop.sale.sale,
            idempotency_key=key,
            items=[HoldItem(section="floor", quantity=quantity)],
        )
        request.MergeFrom(api.PlaceOrderRequest(**fields))  # type: ignore[arg-type]
        return (await self.orders.PlaceOrder(request, CONTEXT)).order

    async def get(self, order_id: str, sale: str = "") -> api.Order:
        """GetOrder."""
        request = api.GetOrderRequest(sale=sale or self.shop.sale.sale, order_id=order_id)
        return (await self.orders.GetOrder(request, CONTEXT)).order

    async def cancel(self, order_id: str) -> api.Order:
        """CancelOrder."""
        request = api.CancelOrderRequest(sale=self.shop.sale.sale, order_id=order_id)
        return (await self.orders.CancelOrder(request, CONTEXT)).order

    async def page(self, size: int = 0, token: str = "") -> api.ListOrdersResponse:
        """ListOrders."""
        request = api.ListOrdersRequest(sale=self.shop.sale.sale, page_size=size, page_token=token)
        return await self.orders.ListOrders(request, CONTEXT)

    async def count(self) -> api.CountOrdersResponse:
        """CountOrders."""
        return await self.settlement.CountOrders(api.CountOrdersRequest(sale=self.shop.sale.sale), CONTEXT)

    async def until(self, order_id: str, state: str) -> api.Order:
        """The order once GetOrder answers this state."""
        while (order := await self.get(order_id)).state != api.OrderState.Value(f"ORDER_STATE_{state}"):
            await asyncio.sleep(0.02)
        return order


async def test_an_order_is_read_before_and_after_a_worker_saw_it(shop_of: ShopOf) -> None:
    shop = await shop_of()
    as_caller()
    async with shop.open("relay") as shop:
        desk = Desk(shop)
        placed = await desk.place(quantity=2)
        assert placed.state == api.ORDER_STATE_ACCEPTED
        assert await desk.get(placed.order_id) == placed

    async with shop.open() as shop:
        desk = Desk(shop)
        waiting = await desk.until(placed.order_id, "AWAITING_PAYMENT")
        assert (waiting.version, waiting.amount, len(waiting.units)) == (2, 3000, 2)
        assert waiting.accepted_at == placed.accepted_at
        assert waiting.payment.url.startswith(shop.sandbox.url)
        known = await shop.store.load_one(placed.order_id)
        assert known is not None
        await shop.pay(known)
        confirmed = await desk.until(placed.order_id, "CONFIRMED")

        keys = await desk.orders.GetTicketKeys(api.GetTicketKeysRequest(), CONTEXT)
        public = {each.key_id: each.ed25519_public_key for each in keys.keys}
        assert [verify_ticket(ticket.code, public).ticket_id for ticket in confirmed.tickets] == [
            ticket.ticket_id for ticket in confirmed.tickets
        ]


async def test_nobody_reads_or_ends_another_buyers_order(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        desk = Desk(shop)
        as_caller("ada")
        order = await desk.place()
        await desk.until(order.order_id, "AWAITING_PAYMENT")

        as_caller("bob")
        for call in (desk.get, desk.cancel):
            with pytest.raises(Refusal, match="ORDER_NOT_FOUND"):
                await call(order.order_id)
        assert list((await desk.page()).orders) == []

        as_caller("shop", "bff", speaks_for="ada")
        assert (await desk.get(order.order_id)).order_id == order.order_id
        as_caller("shop", "bff")
        with pytest.raises(Refusal, match="NOT_YOUR_BUYER"):
            await desk.get(order.order_id)
        as_caller("clerk", "staff")
        with pytest.raises(Refusal, match="ROLE_REQUIRED"):
            await desk.get(order.order_id)


async def test_an_order_that_no_worker_saw_is_cancelled_at_once(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("relay") as shop:
        desk = Desk(shop)
        as_caller()
        order = await desk.place(quantity=3)

        cancelled = await desk.cancel(order.order_id)

        assert (cancelled.state, cancelled.reason) == (
            api.ORDER_STATE_CANCELLED,
            "CANCELLED_ON_REQUEST",
        )
        assert await desk.cancel(order.order_id) == cancelled
        await shop.saga.idle()
        assert shop.ledger.claims[order.order_id].state == "RELEASED"


async def test_pages_of_orders(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        desk = Desk(shop)
        as_caller()
        placed = [(await desk.place(f"click-{index:04}")).order_id for index in range(5)]
        for order_id in placed:
            await desk.until(order_id, "AWAITING_PAYMENT")

        first = await desk.page(2)
        second = await desk.page(2, first.next_page_token)
        third = await desk.page(2, second.next_page_token)

        listed = [order.order_id for page in (first, second, third) for order in page.orders]
        assert sorted(listed) == sorted(placed)
        moments = [
            order.accepted_at.ToMilliseconds() for page in (first, second, third) for order in page.orders
        ]
        assert moments == sorted(moments, reverse=True)
        assert third.next_page_token == ""


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda desk: desk.place("x"), "INVALID_FIELD"),
        (lambda desk: desk.place(quantity=0), "INVALID_QUANTITY"),
        (lambda desk: desk.place(quantity=-5), "INVALID_QUANTITY"),
        (lambda desk: desk.place(hold_id="my-hold-01"), "INVALID_FIELD"),
        (lambda desk: desk.place(sale="nowhere"), "SALE_NOT_FOUND"),
        (lambda desk: desk.place(sale="no.where"), "INVALID_FIELD"),
        (lambda desk: desk.place(admission="k1.forged"), "ADMISSION_INVALID"),
        (lambda desk: desk.get("a" * 26), "ORDER_NOT_FOUND"),
        (lambda desk: desk.get("not an order"), "INVALID_FIELD"),
        (lambda desk: desk.get("a" * 26, sale="nowhere"), "SALE_NOT_FOUND"),
        (lambda desk: desk.cancel("a" * 26), "ORDER_NOT_FOUND"),
        (lambda desk: desk.cancel(">"), "INVALID_FIELD"),
        (lambda desk: desk.page(-1), "INVALID_FIELD"),
        (lambda desk: desk.page(101), "INVALID_FIELD"),
        (lambda desk: desk.page(token="é"), "INVALID_FIELD"),
        (lambda desk: desk.page(token="bm90IGEgdG9rZW4="), "INVALID_FIELD"),
        (lambda desk: desk.count(), "ROLE_REQUIRED"),
    ],
)
async def test_bad_input_is_refused_by_name_and_changes_nothing(
    call: Callable[[Desk], object], word: str, shop_of: ShopOf
) -> None:
    async with (await shop_of()).open() as shop:
        as_caller()
        with pytest.raises(Refusal) as refused:
            await call(Desk(shop))  # type: ignore[misc]
        assert refused.value.word == word
        assert await shop.intake.count(shop.sale.sale) == 0


async def test_a_bff_places_many_orders_at_once(shop_of: ShopOf) -> None:
    async with (await shop_of(capacity=5)).open() as shop:
        desk = Desk(shop)
        as_caller("shop", "bff")
        wish = [HoldItem(section="floor", quantity=1)]
        items = [
            api.PlaceOrderItem(subject=f"buyer-{index}", idempotency_key="click-0001", items=wish)
            for index in range(8)
        ]
        bad = [
            api.PlaceOrderItem(subject="", idempotency_key="click-0001", items=wish),
            api.PlaceOrderItem(subject="eve", idempotency_key="x", items=wish),
        ]

        first, again = await place_many(desk, [*items, *bad], items)

        refusals = [result.refusal for result in first]
        assert refusals[8:] == ["INVALID_FIELD", "INVALID_FIELD"]
        assert sorted(refusals[:8]) == [""] * 5 + ["SOLD_OUT"] * 3
        assert again == first[:8]
        as_caller("someone", "service")
        expected = {"ORDER_STATE_AWAITING_PAYMENT": 5, "ORDER_STATE_REJECTED": 3}
        counts = await desk.count()
        while {api.OrderState.Name(each.state): each.count for each in counts.counts} != expected:
            await asyncio.sleep(0.02)
            counts = await desk.count()
        assert counts.open == 5


async def test_a_batch_has_a_bound_and_needs_the_role(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("relay") as shop:
        desk = Desk(shop)
        as_caller("shop", "bff")
        with pytest.raises(Refusal, match="INVALID_FIELD"):
            await place_many(desk, [api.PlaceOrderItem()] * 501)
        as_caller("ada")
        with pytest.raises(Refusal, match="ROLE_REQUIRED"):
            await place_many(desk, [])


async def test_orders_that_no_worker_saw_are_counted_as_open(shop_of: ShopOf) -> None:
    async with (await shop_of(capacity=50)).open("relay") as shop:
        desk = Desk(shop)
        for index in range(30):
            await shop.intake.place(buyer(f"buyer-{index}"), shop.wish())
        as_caller("archivist", "organiser")

        counts = await desk.count()

        assert (counts.open, len(counts.counts)) == (30, 0)


async def place_many(desk: Desk, *batches: Sequence[api.PlaceOrderItem]) -> list[list[api.OrderResult]]:
    """PlaceOrders with these messages."""

    async def requests() -> AsyncIterator[api.PlaceOrdersRequest]:
        for items in batches:
            yield api.PlaceOrdersRequest(sale=desk.shop.sale.sale, items=items)

    answers = desk.orders.PlaceOrders(requests(), CONTEXT)
    return [list(answer.results) async for answer in answers]
