"""Where providers call: what is wrong changes nothing, what is right has its effect once."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from services.checkout.providers.sandbox import SIGNATURE_HEADER, signature
from services.checkout.records import Order
from services.checkout.states import OrderState, PaymentState
from services.kit.errors import Refusal
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop

AWAITING, CONFIRMED = OrderState.AWAITING_PAYMENT, OrderState.CONFIRMED


def event_of(order: Order, type: str = "authorized", **changes: Any) -> dict[str, Any]:
    """What the sandbox would send about the order's payment."""
    assert order.payment is not None
    return {
        "event_id": f"ev_{order.order_id}_{type}",
        "type": type,
        "session_id": order.payment.session_id,
        "order_id": order.order_id,
        "amount": order.payment.amount,
        "currency": "BRL",
        **changes,
    }


async def call(
    shop: Shop, event: dict[str, Any], *, secret: bytes | None = None, path: str = ""
) -> tuple[int, Any]:
    """Send an event as the sandbox does; status and answer."""
    body = json.dumps(event).encode()
    headers = {
        SIGNATURE_HEADER: signature(secret or shop.sandbox.secrets.webhook_secret, int(time.time()), body)
    }
    url = shop.webhook_url.replace("/webhooks/sandbox", path or "/webhooks/sandbox")
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def waiting_order(shop: Shop, subject: str = "ada") -> Order:
    """An order whose payment is open."""
    return await shop.until(await shop.place(subject), AWAITING)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": 1},
        {"amount": 1501},
        {"currency": "USD"},
        {"session_id": "cs_of_nobody"},
        {"order_id": "a" * 26},
    ],
)
async def test_an_event_of_another_payment_changes_nothing(changes: dict[str, Any], shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        order = await waiting_order(shop)

        status, answer = await call(shop, event_of(order, **changes))

        assert (status, answer["reason"]) == (400, "WEBHOOK_FOREIGN")
        assert await shop.store.load_one(order.order_id) == order


async def test_a_session_of_another_order_settles_nothing(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        mine, theirs = await waiting_order(shop, "ada"), await waiting_order(shop, "bob")
        assert theirs.payment is not None

        status, _ = await call(shop, event_of(mine, session_id=theirs.payment.session_id))

        assert status == 400
        assert await shop.store.load_one(mine.order_id) == mine
        assert await shop.store.load_one(theirs.order_id) == theirs


async def test_an_unsigned_event_changes_nothing(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        order = await waiting_order(shop)

        status, answer = await call(shop, event_of(order), secret=b"guessed")

        assert (status, answer["reason"]) == (401, "WEBHOOK_SIGNATURE")
        assert await shop.store.load_one(order.order_id) == order


async def test_malformed_calls_are_refused_with_a_reason(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("webhooks") as shop:
        assert (await call(shop, {}))[0] == 400
        assert (await call(shop, {"type": "gift"}))[1]["reason"] == "INVALID_FIELD"
        assert (await call(shop, {}, path="/webhooks/another"))[0] == 404
        async with aiohttp.ClientSession() as http:
            async with http.post(shop.webhook_url, data=b"x" * 100_000) as answer:
                assert answer.status == 413
            async with http.get(shop.webhook_url) as answer:
                assert answer.status == 405


async def test_an_event_has_its_effect_once(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("intake", "webhooks", "relay") as shop:
        order = await waiting_order(shop)

        statuses = await asyncio.gather(*(call(shop, event_of(order, "declined")) for _ in range(8)))

        assert [status for status, _ in statuses] == [200] * 8
        known = await shop.store.load_one(order.order_id)
        assert known is not None
        assert known.payment is not None
        assert (known.payment.declines, known.version) == (1, order.version + 1)
        # Another event of the same kind is another decline.
        await call(shop, event_of(order, "declined", event_id="ev_second"))
        known = await shop.store.load_one(order.order_id)
        assert known is not None
        assert known.payment is not None
        assert known.payment.declines == 2


async def test_an_event_id_of_another_order_is_refused(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("intake", "webhooks", "relay") as shop:
        mine, theirs = await waiting_order(shop, "ada"), await waiting_order(shop, "bob")
        await call(shop, event_of(mine, "declined", event_id="ev_same"))

        await call(shop, event_of(theirs, "declined", event_id="ev_same"))

        known = await shop.store.load_one(theirs.order_id)
        assert known == theirs


@pytest.mark.parametrize(
    ("problem", "status"),
    [
        (ConnectionError("the database is gone"), 503),
        # A defect may reach a batch and is then told to all in it. The provider is to send it again.
        (Refusal("INTERNAL"), 500),
        (ValueError("a defect"), 500),
    ],
    ids=repr,
)
async def test_an_answer_waits_for_the_database(shop_of: ShopOf, problem: Exception, status: int) -> None:
    async with (await shop_of()).open("intake", "webhooks", "relay") as shop:
        order = await waiting_order(shop)

        async def broken(*_: object) -> None:
            raise problem

        works = shop.store.advance
        shop.store.advance = broken  # type: ignore[method-assign, assignment]
        assert (await call(shop, event_of(order)))[0] == status

        shop.store.advance = works  # type: ignore[method-assign]
        assert (await call(shop, event_of(order)))[0] == 200
        known = await shop.until(order, OrderState.AUTHORIZED, OrderState.CAPTURING, CONFIRMED)
        assert known.payment is not None
        assert known.payment.state in (PaymentState.AUTHORIZED, PaymentState.CAPTURED)


async def test_an_event_that_is_faster_than_our_own_note_is_sent_again(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("webhooks", "relay") as shop:
        order = await shop.place()
        await shop.write_down(order)
        held = await shop.store.load_one(order.order_id)
        assert held is not None
        from tests.integration.checkout.test_relay import advance

        (held,) = await advance(shop, held, state=OrderState.HELD, amount=1500)
        event = {
            "event_id": "ev_fast",
            "type": "authorized",
            "session_id": "cs_new",
            "order_id": order.order_id,
            "amount": 1500,
            "currency": "BRL",
        }
        assert (await call(shop, event))[0] == 503
        assert await shop.store.load_one(order.order_id) == held
