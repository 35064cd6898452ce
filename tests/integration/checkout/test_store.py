"""The store on a real Postgres: transitions are guarded, whole or not at all, and carry the invariants."""

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from services.checkout.records import Buyer, Change, Item, Order, Unit
from services.checkout.rules import order_id_of
from services.checkout.states import OrderState, PaymentState
from services.checkout.store import Collision, Stale, Store, UnitTaken
from services.checkout.transitions import Steps
from services.kit.buyers import short_hash

STEPS = Steps(5000)
NOW = 1_000_000


@pytest.fixture
async def pool(migrated: str) -> Any:
    """A few connections."""
    pool = await asyncpg.create_pool(migrated, min_size=0, max_size=6)
    yield pool
    await pool.close()


@pytest.fixture
def store(pool: Any) -> Store:
    """The store."""
    return Store(pool)


@pytest.fixture
def make(store: Store, sale_id: str) -> Any:
    """Writes an order of a buyer down, ACCEPTED or further on."""

    async def make(subject: str, state: OrderState = OrderState.ACCEPTED, unit: int = 0) -> Order:
        order = new_order(sale_id, subject)
        await store.insert([(order, Buyer(order.buyer, "public", f"{subject} {sale_id}"))])
        for following in path_to(state):
            order = await store.advance(Change(order, following(order, unit)))
        return order

    return make


def new_order(sale: str, subject: str) -> Order:
    """An order as it is taken in."""
    buyer = short_hash(sale, subject)
    order_id = order_id_of(sale, buyer, "click-0001")
    return Order(
        order_id=order_id,
        sale=sale,
        buyer=buyer,
        state=OrderState.ACCEPTED,
        idempotency_key="click-0001",
        request_hash=b"h" * 32,
        items=(Item("floor", "", 1, ("A 1",), True),),
        hold_id=order_id,
        accepted_at_ms=NOW,
        currency="BRL",
        place=7,
        joined_at_ms=NOW - 20,
        called_at_ms=NOW - 10,
        updated_at_ms=NOW,
    )


def held(order: Order, unit: int) -> Order:
    """ACCEPTED → HELD."""
    units = (Unit("floor", unit, "full", 1500),)
    return STEPS.held(
        order, units, held_at_ms=NOW, pay_until_ms=NOW + 1000, pin_until_ms=NOW + 2000, now_ms=NOW
    )


def path_to(state: OrderState) -> list[Any]:
    """The steps from ACCEPTED to a state."""
    steps = {
        OrderState.HELD: held,
        OrderState.AWAITING_PAYMENT: lambda order, _: STEPS.awaiting(
            order, "sandbox", f"cs_{order.order_id}", "http://pay", NOW
        ),
        OrderState.AUTHORIZED: lambda order, _: STEPS.authorized(order, NOW),
        OrderState.CAPTURING: lambda order, _: STEPS.capturing(order, NOW),
        OrderState.CONFIRMED: lambda order, _: STEPS.confirmed(
            order, {ticket.ticket_id: "code" for ticket in order.tickets}, NOW
        ),
    }
    names = list(steps)
    return [] if state is OrderState.ACCEPTED else [steps[name] for name in names[: names.index(state) + 1]]


async def test_what_is_read_is_what_was_written(store: Store, make: Any) -> None:
    for index, state in enumerate(
        (
            OrderState.ACCEPTED,
            OrderState.HELD,
            OrderState.AWAITING_PAYMENT,
            OrderState.AUTHORIZED,
            OrderState.CAPTURING,
            OrderState.CONFIRMED,
        )
    ):
        order = await make(f"buyer-{index}", state, unit=index)
        assert await store.load_one(order.order_id) == order


async def test_inserting_again_changes_nothing(store: Store, make: Any, sale_id: str) -> None:
    order = await make("ada", OrderState.HELD)
    new, old = new_order(sale_id, "bob"), new_order(sale_id, "ada")
    owners = [Buyer(each.buyer, "public", each.order_id) for each in (new, old, new)]

    inserted = await store.insert(list(zip((new, old, new), owners, strict=True)))

    assert inserted == {new.order_id}
    assert await store.load_one(order.order_id) == order
    assert [row.announcement.version for row in (await store.outbox_of([new.order_id]))[new.order_id]] == [0]


async def test_a_change_from_an_old_view_writes_nothing(store: Store, make: Any, pool: Any) -> None:
    accepted = await make("ada")
    await store.advance(Change(accepted, held(accepted, 0)))
    before = await everything(pool, accepted.order_id)

    with pytest.raises(Stale):
        await store.advance(Change(accepted, STEPS.cancelled(accepted, NOW)))
    with pytest.raises(Stale):
        await store.advance(Change(accepted, held(accepted, 0)))

    assert await everything(pool, accepted.order_id) == before


async def test_of_two_changes_at_once_one_is_written(store: Store, make: Any, migrated: str) -> None:
    order = await make("ada", OrderState.AWAITING_PAYMENT)
    async with asyncpg.create_pool(migrated, min_size=0, max_size=2) as other_pool:
        stores = (store, Store(other_pool), store, store)
        changes = [
            Change(order, STEPS.authorized(order, NOW)),
            Change(order, STEPS.cancelled(order, NOW)),
            Change(order, STEPS.declined(order, NOW)),
            Change(order, STEPS.unpaid(order, NOW)),
        ]
        outcomes = await asyncio.gather(
            *(each.advance(change) for each, change in zip(stores, changes, strict=True)),
            return_exceptions=True,
        )

    (winner,) = [each for each in outcomes if isinstance(each, Order)]
    assert sum(isinstance(each, Stale) for each in outcomes) == 3
    assert await store.load_one(order.order_id) == winner


async def test_a_stale_change_does_not_hold_up_its_batch(store: Store, make: Any) -> None:
    fresh, old = await make("ada"), await make("bob")
    await store.advance(Change(old, held(old, 1)))

    moved, stale = await store.advance_many(
        [Change(fresh, held(fresh, 0)), Change(old, STEPS.cancelled(old, NOW))]
    )

    assert isinstance(moved, Order)
    assert isinstance(stale, Stale)


async def test_a_unit_has_one_live_ticket(store: Store, make: Any, pool: Any) -> None:
    first = await make("ada", OrderState.CAPTURING, unit=5)
    second = await make("bob", OrderState.AUTHORIZED, unit=5)
    third = await make("eve", OrderState.AUTHORIZED, unit=6)

    taken, moved = await store.advance_many(
        [Change(second, STEPS.capturing(second, NOW)), Change(third, STEPS.capturing(third, NOW))]
    )

    assert isinstance(taken, UnitTaken)
    assert isinstance(moved, Order)
    assert await store.load_one(second.order_id) == second
    # Once the first gives it up, it is free for another ticket.
    await store.advance(Change(first, STEPS.capture_refused(first, NOW)))
    again = await store.advance(Change(second, STEPS.capturing(second, NOW)))
    assert again.state is OrderState.CAPTURING


async def test_an_event_id_is_taken_once(store: Store, make: Any) -> None:
    first, second = (
        await make("ada", OrderState.AWAITING_PAYMENT),
        await make("bob", OrderState.AWAITING_PAYMENT),
    )
    event = f"ev_{first.order_id}"
    await store.advance(Change(first, STEPS.authorized(first, NOW), event))

    with pytest.raises(Collision):
        await store.advance(Change(second, STEPS.authorized(second, NOW), event))

    assert await store.load_one(second.order_id) == second
    assert await store.webhook_seen("sandbox", event)
    assert not await store.webhook_seen("another", event)


async def test_a_session_settles_one_order(store: Store, make: Any) -> None:
    first = await make("ada", OrderState.AWAITING_PAYMENT)
    second = await make("bob", OrderState.HELD, unit=1)
    assert first.payment is not None

    with pytest.raises(Collision):
        await store.advance(
            Change(second, STEPS.awaiting(second, "sandbox", first.payment.session_id, "http://pay", NOW))
        )


async def test_due_orders_are_shared_and_put_off(store: Store, make: Any, migrated: str) -> None:
    orders = [await make(f"buyer-{index}", OrderState.HELD, unit=index) for index in range(6)]
    ids = {order.order_id for order in orders}
    async with asyncpg.create_pool(migrated, min_size=0, max_size=2) as other_pool:
        taken = await asyncio.gather(
            *(each.due(NOW + 5000, 1000, 4000, 3) for each in (store, Store(other_pool)) for _ in range(3))
        )
    ours = [order_id for group in taken for order_id in group if order_id in ids]
    assert len(ours) == len(set(ours))

    async def visits(until_ms: int) -> list[int]:
        """When the first order is due, looking every 100 ms."""
        found = []
        for now_ms in range(NOW + 6000, until_ms, 100):
            if orders[0].order_id in await store.due(now_ms, 1000, 4000, 1000):
                found.append(now_ms)
        return found

    moments = await visits(NOW + 20_000)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 4000

    # Whoever moves it starts the count anew.
    order = orders[0]
    moved = await store.advance(Change(order, replace(held_again(order), due_at_ms=NOW + 30_000)))
    assert moved.due_at_ms == NOW + 30_000
    assert order.order_id not in await store.due(NOW + 29_999, 1000, 4000, 1000)
    assert order.order_id in await store.due(NOW + 30_000, 1000, 4000, 1000)


def held_again(order: Order) -> Order:
    """The same order, open for payment."""
    return STEPS.awaiting(order, "sandbox", f"cs_{order.order_id}", "http://pay", NOW)


async def test_a_page_of_a_buyers_orders(store: Store, sale_id: str) -> None:
    buyer = short_hash(sale_id, "ada")
    orders = [
        replace(
            new_order(sale_id, "ada"),
            order_id=order_id_of(sale_id, buyer, f"click-{index:04}"),
            idempotency_key=f"click-{index:04}",
            # Several at the same moment: the id decides.
            accepted_at_ms=NOW + index // 2,
        )
        for index in range(7)
    ]
    await store.insert([(order, Buyer(buyer, "public", f"ada {sale_id}")) for order in orders])
    expected = sorted(orders, key=lambda order: (order.accepted_at_ms, order.order_id), reverse=True)

    seen: list[Order] = []
    before = (2**62, "~")
    while page := await store.page_of_buyer(buyer, sale_id, before, 3):
        seen += page
        before = (page[-1].accepted_at_ms, page[-1].order_id)

    assert [order.order_id for order in seen] == [order.order_id for order in expected]
    assert await store.page_of_buyer(short_hash(sale_id, "bob"), sale_id, (2**62, "~"), 3) == []


async def test_counts_by_state_and_what_is_unsettled(store: Store, make: Any, sale_id: str) -> None:
    await make("ada", OrderState.HELD)
    waiting = await make("bob", OrderState.AWAITING_PAYMENT, unit=1)
    cancelled = await store.advance(Change(waiting, STEPS.cancelled(waiting, NOW)))

    assert await store.count(sale_id) == ({OrderState.HELD: 1, OrderState.CANCELLED: 1}, 1)

    returned = await store.advance(Change(cancelled, STEPS.returned(cancelled)))
    assert (await store.count(sale_id))[1] == 1
    await store.advance(Change(returned, STEPS.settled(returned, PaymentState.VOIDED)))
    assert (await store.count(sale_id))[1] == 0


async def everything(pool: Any, order_id: str) -> list[Any]:
    """All rows of an order."""
    tables = ("orders.orders", "orders.outbox", "orders.tickets", "payments.payments", "payments.webhooks")
    return [
        [tuple(row) for row in await pool.fetch(f"select * from {table} where order_id = $1", order_id)]
        for table in tables
    ]
