"""Money that comes late, units that are gone, providers that fall silent: nobody pays without a ticket."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from services.checkout.messages import state_value
from services.checkout.records import Change
from services.checkout.saga import now_ms
from services.checkout.states import OrderState, PaymentState
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.ledgers import MemoryLedger
from tests.integration.checkout.shop import Sandbox

AWAITING, CONFIRMED, EXPIRED = OrderState.AWAITING_PAYMENT, OrderState.CONFIRMED, OrderState.EXPIRED
SandboxThat = Callable[..., Sandbox]


async def test_a_card_that_is_decided_within_the_grace_still_counts(
    shop_of: ShopOf, sandbox_that: SandboxThat
) -> None:
    shop = await shop_of(sandbox=sandbox_that(delay_s=1.5), window_s=1, grace_s=30)
    async with shop.open() as shop:
        order = await shop.place()
        assert await shop.pay(await shop.until(order, AWAITING)) == "processing"

        confirmed = await shop.until(order, CONFIRMED)

        assert confirmed.updated_at_ms > confirmed.pay_until_ms


async def test_money_that_comes_late_still_buys_what_is_free(
    shop_of: ShopOf, sandbox_that: SandboxThat
) -> None:
    shop = await shop_of(sandbox=sandbox_that(delay_s=4), window_s=2, grace_s=0.3)
    async with shop.open() as shop:
        order = await shop.place(quantity=2)
        await shop.pay(await shop.until(order, AWAITING))
        expired = await shop.until(order, EXPIRED)

        confirmed = await shop.until(order, CONFIRMED)

        assert (confirmed.reason, confirmed.version) == ("", expired.version + 2)
        assert (await shop.session_of(order))["captured"] == confirmed.amount
        assert len(await shop.tickets()) == 2
        told = [each.order.state for each in await shop.until_published(order)]
        assert told[-3:] == [state_value(state) for state in (EXPIRED, OrderState.CAPTURING, CONFIRMED)]


async def test_money_that_comes_after_the_end_is_voided(shop_of: ShopOf, sandbox_that: SandboxThat) -> None:
    shop = await shop_of(sandbox=sandbox_that(delay_s=2.5), window_s=1, grace_s=0.3)
    async with shop.open() as shop:
        order = await shop.place()
        await shop.pay(await shop.until(order, AWAITING))
        expired = await shop.until(order, EXPIRED)
        await shop.until_rest(order)
        shop.ledger.sell_out()

        while (session := await shop.session_of(order))["state"] != "voided":
            await asyncio.sleep(0.05)

        ended = await shop.until_rest(order)
        assert session["captured"] == 0
        assert ended.payment is not None
        assert ended.payment.state is PaymentState.VOIDED
        # One end, told once (I6).
        assert (ended.state, ended.version) == (EXPIRED, expired.version)


async def test_a_payment_whose_webhook_never_came_is_found_by_looking_it_up(shop_of: ShopOf) -> None:
    shop = await shop_of(window_s=1, grace_s=30)
    async with shop.open("intake", "sweeper", "relay") as shop:
        order = await shop.place()
        await shop.pay(await shop.until(order, AWAITING))

        await shop.until(order, CONFIRMED)


async def test_units_that_are_gone_are_not_charged(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        order = await shop.place(quantity=2)
        waiting = await shop.until(order, AWAITING)
        # The ledger's clock is past the pin: whatever the reason, COMMIT answers HOLD_EXPIRED.
        shop.ledger.skew_ms = 200_000
        shop.ledger.sell_out()
        await shop.pay(waiting)

        ended = await shop.until_rest(order)

        assert (ended.state, ended.reason) == (EXPIRED, "HOLD_EXPIRED")
        assert (await shop.session_of(order))["state"] == "voided"
        assert await shop.tickets() == []


async def test_postgres_has_the_last_word_on_a_unit(shop_of: ShopOf) -> None:
    async with (await shop_of(capacity=1)).open() as shop:
        first = await shop.place("ada")
        await shop.pay(await shop.until(first, AWAITING))
        await shop.until(first, CONFIRMED)

        # A ledger that lost its tail sells the same unit once more.
        shop.ledger.claims.clear()
        shop.ledger.holds.clear()
        shop.ledger.taken.clear()
        second = await shop.place("bob")
        await shop.pay(await shop.until(second, AWAITING))
        ended = await shop.until_rest(second)

        assert (ended.state, ended.reason) == (EXPIRED, "SOLD_OUT")
        assert (await shop.session_of(second))["state"] == "voided"
        assert [row["order_id"] for row in await shop.tickets()] == [first.order_id]
        # The unit is the first buyer's: the ledger must not sell it a third time.
        assert await shop.counts() == {"free": 0, "held": 0, "sold": 1}


async def test_nothing_is_lost_while_the_provider_is_down(shop_of: ShopOf, sandbox_that: SandboxThat) -> None:
    sandbox = sandbox_that()
    async with (await shop_of(sandbox=sandbox)).open() as shop:
        sandbox.kill9()
        orders = [await shop.place(f"buyer-{index}") for index in range(8)]
        await asyncio.sleep(1)

        sandbox.start()
        await sandbox.until_ready()
        for order in orders:
            await shop.pay(await shop.until(order, AWAITING))
        for order in orders:
            await shop.until(order, CONFIRMED)


async def test_money_that_a_silent_provider_took_is_found_and_voided(
    shop_of: ShopOf, sandbox_that: SandboxThat
) -> None:
    sandbox = sandbox_that()
    shop = await shop_of(sandbox=sandbox, window_s=0.8, grace_s=0.6)
    async with shop.open("intake", "sweeper") as shop:
        order = await shop.place()
        await shop.pay(await shop.until(order, AWAITING))
        sandbox.kill9()

        expired = await shop.until(order, EXPIRED)
        assert expired.payment is not None
        assert expired.payment.state is PaymentState.VOIDING

        sandbox.start()
        await sandbox.until_ready()
        await shop.until_rest(order)
        assert (await shop.session_of(order))["state"] == "voided"


async def test_money_that_was_taken_for_an_ended_order_is_refunded(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("intake", "relay") as shop:
        order = await shop.place()
        waiting = await shop.until(order, AWAITING)
        await shop.pay(waiting)
        assert waiting.payment is not None
        await shop.providers["sandbox"].capture(order.order_id, waiting.payment.session_id, 1500)
        authorized = await shop.authorize(waiting)

        await shop.saga.drive(await shop.saga.cancel(authorized))
        ended = await shop.until_rest(order)

        assert ended.payment is not None
        assert (ended.state, ended.payment.state) == (OrderState.CANCELLED, PaymentState.REFUNDED)
        session = await shop.session_of(order)
        assert (session["captured"], session["refunded"]) == (1500, 1500)


async def test_lost_and_doubled_answers_charge_once(shop_of: ShopOf, sandbox_that: SandboxThat) -> None:
    sandbox = sandbox_that(lost_answer_rate=0.4, duplicate_rate=1)
    async with (await shop_of(sandbox=sandbox, capacity=20)).open() as shop:
        orders = [await shop.place(f"buyer-{index}") for index in range(12)]
        for order in orders:
            await shop.pay(await shop.until(order, AWAITING))
        for order in orders:
            await shop.until(order, CONFIRMED)

        sessions = await sandbox.ledger(shop.sale.sale)
        assert [(each["state"], each["captured"]) for each in sessions] == [("captured", 1500)] * 12
        assert len(await shop.tickets()) == 12
        assert await shop.counts() == {"free": 8, "held": 0, "sold": 12}


async def test_a_ledger_that_does_not_answer_is_asked_again(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        order = await shop.place()
        waiting = await shop.until(order, AWAITING)
        ledger: MemoryLedger = shop.ledger
        ledger.fail = lambda _: ConnectionError("no answer")
        await shop.pay(waiting)
        await shop.until(order, OrderState.AUTHORIZED)
        await asyncio.sleep(0.5)

        ledger.fail = lambda _: None
        await shop.until(order, CONFIRMED)


async def test_two_processes_lead_one_order_to_one_end(shop_of: ShopOf) -> None:
    one = await shop_of()
    async with one.open() as one, one.another().open("sweeper", "relay") as two:
        order = await one.place()
        waiting = await one.until(order, AWAITING)
        await one.pay(waiting)

        while (known := await one.store.load_one(order.order_id)) and not known.ended:
            one.saga.start(known)
            two.saga.start(known)
            await asyncio.sleep(0.01)

        published = await one.until_published(order)
        assert [each.order.version for each in published] == list(range(len(published)))
        assert known is not None
        assert known.state is CONFIRMED
        # A view from before cannot be written over it.
        stale = Change(waiting, one.steps.cancelled(waiting, now_ms()))
        (outcome,) = await two.store.advance_many([replace(stale)])
        assert isinstance(outcome, Exception)
