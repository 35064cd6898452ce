"""The pages of metrics of a running system: what a sale did is found there."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue

from local.client import item
from services.kit.errors import Refusal
from tests.e2e.pages import Samples, read, total

PATIENCE_S = 20.0


async def until(house: Any, service: str, holds: Callable[[Samples], bool]) -> Samples:
    """The page once it shows what it must; it may lag behind what the buyer was told."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            samples = await read(house, service)
            if holds(samples):
                return samples
            await asyncio.sleep(0.2)


async def test_what_a_sale_did_is_on_the_pages(house: Any) -> None:
    before = await read(house, "checkout")
    name = await house.sale(capacity=20)
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    placed = await buyer.order("the-first-click", [item("floor", 3)], admission=admission.token)
    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    await house.pay(asked)
    await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)

    line = await until(house, "queue", lambda at: total(at, "catraca_line_serving_place", sale=name) == 2)
    # Two replicas show the same line, and one of them leads it.
    assert total(line, "catraca_line_joined_buyers", sale=name) == 2
    assert total(line, "catraca_line_waiting_buyers", sale=name) == 0
    assert total(line, "catraca_line_leader", sale=name) == 1
    assert total(line, "catraca_line_phase", sale=name, phase="OPEN") == 2
    assert total(line, "catraca_rpc_duration_seconds_count", method="/catraca.queue.v1.QueueService/Join") > 0

    units = await until(
        house, "inventory", lambda at: total(at, "catraca_relay_unpublished_changes", sale=name) == 0
    )
    states = {
        state: total(units, "catraca_units", sale=name, state=state) for state in ("free", "held", "sold")
    }
    assert states == {"free": 17, "held": 0, "sold": 3}
    assert total(units, "catraca_promised_units", sale=name) == 1
    assert total(units, "catraca_ledger_commands_total", command="commit", word="COMMITTED") >= 1
    assert total(units, "catraca_script_seconds_count", script="inventory") > 0
    assert total(units, "catraca_relay_delay_seconds_count", stream="INVENTORY") > 0

    orders = await until(
        house, "checkout", lambda at: total(at, "catraca_orders", sale=name, state="CONFIRMED") == 1
    )
    for family, labels in {
        "catraca_order_transitions_total": {"state": "CONFIRMED", "reason": ""},
        "catraca_order_age_seconds_count": {"state": "CONFIRMED"},
        "catraca_saga_step_seconds_count": {"step": "capture", "outcome": "moved"},
        "catraca_provider_call_seconds_count": {"call": "authorize", "outcome": "answered"},
        "catraca_webhooks_total": {"provider": "sandbox", "outcome": "taken"},
        "catraca_consumer_outcomes_total": {"durable": "checkout-intake", "outcome": "done"},
        "catraca_relay_delay_seconds_count": {"stream": "CHECKOUT"},
    }.items():
        assert total(orders, family, **labels) > total(before, family, **labels), family
    assert total(orders, "catraca_consumer_pending_messages", durable="checkout-intake") == 0

    told = await read(house, "notifier")
    assert total(told, "catraca_notifier_updates_total") > 0
    assert total(told, "catraca_notifier_news_delay_seconds_count") > 0


async def test_a_refusal_is_counted_by_method_and_reason(house: Any) -> None:
    name = await house.sale()
    method = "/catraca.checkout.v1.OrderService/PlaceOrder"
    labels = {"method": method, "reason": "ADMISSION_INVALID"}
    before = total(await read(house, "checkout"), "catraca_rpc_refusals_total", **labels)

    with pytest.raises(Refusal, match="ADMISSION_INVALID"):
        await house.buyer(name).order("the-first-click", [item("floor", 1)], admission="forged")

    assert total(await read(house, "checkout"), "catraca_rpc_refusals_total", **labels) == before + 1


async def test_a_refused_item_of_a_batch_is_counted(house: Any) -> None:
    name = await house.sale()
    method = "/catraca.queue.v1.QueueService/JoinMany"
    labels = {"method": method, "reason": "INVALID_FIELD"}
    before = total(await read(house, "queue"), "catraca_rpc_item_refusals_total", **labels)
    bff = (("authorization", f"Bearer {house.minter.mint('shop', roles=['bff'])}"),)
    subjects = ["ana", "", "a\x00b"]

    call = house.at.queue.JoinMany(metadata=bff)
    await call.write(queue.JoinManyRequest(sale=name, items=[queue.JoinItem(subject=s) for s in subjects]))
    answer = await call.read()
    call.cancel()

    assert [result.refusal for result in answer.results] == ["", "INVALID_FIELD", "INVALID_FIELD"]
    after = total(await read(house, "queue"), "catraca_rpc_item_refusals_total", **labels)
    assert after == before + 2


async def test_what_alerts_wait_for_is_there_before_it_happens(house: Any) -> None:
    dead = (
        "catraca_consumer_outcomes_total",
        frozenset({"durable": "checkout-intake", "outcome": "dead"}.items()),
    )
    for service in house.running.metrics:
        samples = await read(house, service)
        of_defects = [labels for name, labels in samples if ("reason", "INTERNAL") in labels]
        assert of_defects, service
        assert service != "checkout" or dead in samples


async def test_no_label_names_a_buyer_or_an_order(house: Any) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name)
    order = await buyer.order("the-first-click", [item("floor", 1)])
    await house.told(buyer, order.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)

    for service in house.running.metrics:
        values = {value for _, labels in await read(house, service) for _, value in labels}
        assert not values & {order.order_id, order.buyer, "the-first-click"}, service
