"""The relay: every state of an order is published once, in order, whoever dies or races."""

import asyncio
from dataclasses import replace
from typing import Any

from catraca.events.v1.events_pb2 import OrderChanged
from nats.js import JetStreamContext

from services.checkout.messages import announcement
from services.checkout.records import Change, Order
from services.checkout.saga import now_ms
from services.checkout.states import OrderState
from services.checkout.workers.relay import Relay
from services.kit.streams import read_all
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop, Tuning

AWAITING = OrderState.AWAITING_PAYMENT


async def written(shop: Shop, count: int, declines: int, whose: int = 0) -> list[Order]:
    """Orders in the database with several states each, published by nobody yet."""
    orders = []
    for index in range(count):
        order = await shop.place(f"buyer-{whose}-{index}")
        await shop.write_down(order)
        (held,) = await advance(shop, order, state=OrderState.HELD, amount=1500)
        steps = shop.steps
        moved = await shop.store.advance(
            Change(held, steps.awaiting(held, "sandbox", f"cs_{order.order_id}", "http://pay", now_ms()))
        )
        for _ in range(declines):
            moved = await shop.store.advance(Change(moved, steps.declined(moved, now_ms())))
        orders.append(moved)
    return orders


async def advance(shop: Shop, order: Order, **fields: Any) -> list[Order]:
    """One step with these fields."""
    after = replace(order, version=order.version + 1, updated_at_ms=now_ms(), **fields)
    return [await shop.store.advance(Change(order, after))]


async def check(shop: Shop, orders: list[Order]) -> None:
    """Each order's versions are published once and in order, and every row knows where."""
    for order in orders:
        published = await shop.until_published(order)
        assert [each.order.version for each in published] == list(range(order.version + 1))
    query = (
        "select o.order_id, o.version, published, stream_sequence"
        " from orders.outbox o join orders.orders using (order_id) where sale = $1"
    )
    rows = await shop.pool.fetch(query, shop.sale.sale)
    while not all(row["published"] for row in rows):
        await asyncio.sleep(0.02)
        rows = await shop.pool.fetch(query, shop.sale.sale)
    noted = {(row["order_id"], row["version"]): row["stream_sequence"] for row in rows}
    subject = f"catraca.checkout.{shop.sale.sale}.order.>"
    async for message in read_all(shop.js, "CHECKOUT", subject):
        order = OrderChanged.FromString(message.data).order
        assert noted[order.order_id, order.version] in (message.seq, None)
        assert message.headers["Catraca-Version"] == str(order.version)


async def test_what_a_dead_process_left_is_published(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=50)
    async with shop.open("sweeper") as dying:
        orders = await written(dying, 8, declines=3)

    async with shop.open("relay") as shop:
        await check(shop, orders)


async def test_racing_relays_publish_nothing_twice(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=50, tuning=Tuning(relay_stale_s=0.001))
    async with shop.open("relay") as one, shop.another().open("relay") as two, shop.another().open("relay"):
        groups = await asyncio.gather(*(written(each, 6, 4, whose) for whose, each in enumerate((one, two))))
        await check(one, [order for group in groups for order in group])


async def test_a_state_that_is_out_but_not_noted_is_not_sent_again(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=50)
    async with shop.open("sweeper") as dying:
        # It publishes, and dies before it can note that.
        relay = Relay(dying.store, dying.js, dying.tuning)
        dying.store.mark_published = forget  # type: ignore[method-assign, assignment]
        task = asyncio.create_task(relay.run())
        orders = await written(dying, 5, declines=2)
        for order in orders:
            await dying.until_published(order)
        task.cancel()

    async with shop.open("relay") as shop:
        await check(shop, orders)


async def forget(_: object) -> None:
    """What a process that died notes."""


async def test_states_beyond_the_memory_bound_are_published_from_the_outbox(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=50, tuning=Tuning(relay_pending=3))
    async with shop.open("relay") as shop:
        await check(shop, await written(shop, 6, declines=3))


async def test_an_answer_that_was_lost_is_found_on_the_subject(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=50)
    async with shop.open("sweeper") as shop:
        relay = Relay(shop.store, Forgetful(shop.js), shop.tuning)  # type: ignore[arg-type]
        task = asyncio.create_task(relay.run())
        await check(shop, await written(shop, 5, declines=3))
        task.cancel()


class Forgetful:
    """A JetStream that stores every other message without saying so."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._js, name)

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        answer = await self._js.publish(*arguments, **options)
        self._count += 1
        if self._count % 2:
            raise TimeoutError
        return answer


async def test_a_state_is_published_moments_after_it_was_written(shop_of: ShopOf) -> None:
    # Far below the time after which the outbox is read: the writer itself wakes the relay.
    shop = await shop_of(tuning=Tuning(relay_stale_s=60))
    async with shop.open("relay") as shop:
        (order,) = await written(shop, 1, declines=0)
        published = await asyncio.wait_for(shop.until_published(order), 5)
        assert announcement(order).payload == published[-1].SerializeToString()
