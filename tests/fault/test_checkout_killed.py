"""Parts are killed in the middle of a sale: every order ends as it should, and nobody pays twice."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from catraca.checkout.v1 import checkout_pb2 as api
from catraca.sale.v1 import sale_pb2

from local.client import Buyer, Connection, Organiser, Targets, item
from local.stack import Stack
from services.checkout.providers.sandbox import load_secrets
from tests.patience import PATIENCE_S, PAUSE_S, patiently

BUYERS = 40


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack of this test's own, as it kills its parts."""
    settings = {"CATRACA_RESUME_S": "1", "CATRACA_RELAY_STALE_S": "0.5"}
    async with Stack(tmp_path, settings=settings) as running:
        yield running


async def buy(buyer: Buyer, key: str) -> api.Order:
    """Order one ticket and pay for it."""
    placed = await patiently(lambda: buyer.order(key, [item("floor", 1)]))
    async with asyncio.timeout(PATIENCE_S):
        while True:
            order: api.Order = await patiently(lambda: buyer.get_order(placed.order_id))
            if order.state == api.ORDER_STATE_AWAITING_PAYMENT:
                await patiently(partial(pay, order.payment.url))
            elif order.state not in (
                api.ORDER_STATE_ACCEPTED,
                api.ORDER_STATE_HELD,
                api.ORDER_STATE_AUTHORIZED,
                api.ORDER_STATE_CAPTURING,
            ):
                return order
            await asyncio.sleep(PAUSE_S)


async def pay(url: str) -> None:
    """Pay on the session's page."""
    async with aiohttp.ClientSession() as browser, browser.post(url, json={"card": "approve"}) as answer:
        await answer.read()


async def sessions_of(stack: Stack, sale: str) -> list[dict[str, Any]]:
    """The provider's own ledger."""
    secret = load_secrets(stack.keys.files["sandbox"]).api_key
    headers = {"Authorization": f"Bearer {secret}"}
    url = f"{stack.running.sandbox_url}/v1/ledger"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(url, params={"sale": sale}) as answer,
    ):
        return list((await answer.json())["sessions"])


def sale_of(capacity: int) -> sale_pb2.SaleSpec:
    """A sale without a line that is open now."""
    section = sale_pb2.Section(id="floor", capacity=capacity)
    section.ticket_types.add(id="full", price=1500)
    spec = sale_pb2.SaleSpec(title="A test", currency="BRL", sections=[section])
    spec.window.opens_at.FromSeconds(int(time.time()) - 10)
    spec.window.closes_at.FromSeconds(int(time.time()) + 3600)
    spec.line.kind = sale_pb2.LINE_KIND_NONE
    return spec


@pytest.mark.parametrize(
    "killed", [("checkout", "sandbox", "checkout"), ("postgres", "nats"), ("inventory", "redis")]
)
async def test_everybody_who_ordered_gets_one_ticket(killed: Sequence[str], stack: Stack) -> None:
    minter = stack.running.minter()
    async with Connection(Targets(**stack.running.targets)) as connection:
        organiser = Organiser(connection, minter.mint("org", roles=["organiser", "service"]))
        sale = f"fault-{secrets.token_hex(4)}"
        await organiser.define(sale, sale_of(BUYERS))
        buyers = [Buyer(connection, sale, minter.mint(f"buyer-{index}")) for index in range(BUYERS)]
        buying: list[asyncio.Task[api.Order]] = []

        for number, part in enumerate(killed):
            crowd = buyers[number :: len(killed)]
            buying += [asyncio.create_task(buy(buyer, "click-0001")) for buyer in crowd]
            # One of them is through, the others are anywhere on their way.
            await asyncio.wait(buying[-len(crowd) :], return_when=asyncio.FIRST_COMPLETED)
            stack.kill9(part)
            await stack.restart(part)

        orders = await asyncio.gather(*buying)
        assert {api.OrderState.Name(order.state) for order in orders} == {"ORDER_STATE_CONFIRMED"}
        assert len({(ticket.section, ticket.unit) for order in orders for ticket in order.tickets}) == BUYERS
        counts = (await patiently(lambda: organiser.ledger(sale))).counts
        assert (counts.free, counts.held, counts.sold) == (0, 0, BUYERS)
        sessions = await patiently(lambda: sessions_of(stack, sale))
        assert [(each["state"], each["captured"]) for each in sessions] == [("captured", 1500)] * BUYERS
        answer = await patiently(lambda: organiser.orders_by_state(sale))
        assert (answer.open, [(each.state, each.count) for each in answer.counts]) == (
            0,
            [(api.ORDER_STATE_CONFIRMED, BUYERS)],
        )
