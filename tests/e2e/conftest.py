"""The whole system for the end-to-end tests, started once: they reach it as any client does, over gRPC."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from local.client import Buyer, Connection, Organiser, Targets, item
from local.discovery import RunningStack
from local.issuer.tokens import Minter
from local.stack import Stack
from tests.drand import Chain, Relay
from tests.patience import patiently
from tests.resting import resting_after

PATIENCE_S = 30.0
"""For what must come; a test that needs all of it has failed."""


@pytest.fixture(scope="session")
async def drand() -> AsyncIterator[Relay]:
    """The relay that the stack's queue asks for public randomness."""
    async with Relay(Chain()).serving() as relay:
        yield relay


@pytest.fixture(scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, drand: Relay, pytestconfig: pytest.Config
) -> AsyncIterator[Stack]:
    """Every server and service, healthy. Tests that kill a part restart it, and wait for `House.found_again`
    before they end.

    Two processes of the queue, so that a leader always has somebody who would take its place.
    """
    settings = {"CATRACA_DRAND_URLS": drand.url}
    async with Stack(tmp_path_factory.mktemp("stack"), replicas={"queue": 2}, settings=settings) as running:
        with resting_after(Path(__file__).parent, running, pytestconfig):
            yield running


@pytest.fixture
def running(stack: Stack) -> RunningStack:
    """Addresses, keys and a token minter of the running stack."""
    return stack.running


@pytest.fixture(scope="session")
async def house(stack: Stack) -> AsyncIterator["House"]:
    """A connection to the running stack, with sales, buyers and waiting made short."""
    async with Connection(Targets(**stack.running.targets)) as connection:
        yield House(stack, connection)


@dataclass
class House:
    """Defines sales and makes buyers; waits for what must come."""

    stack: Stack
    at: Connection

    @property
    def running(self) -> RunningStack:
        """Addresses, keys and a token minter of the stack."""
        return self.stack.running

    @cached_property
    def minter(self) -> Minter:
        """Makes tokens that the services accept. Loading its key takes a while, so it is kept."""
        return self.running.minter()

    @cached_property
    def organiser(self) -> Organiser:
        """Defines sales, and may look at the ledger."""
        return Organiser(self.at, self.minter.mint("org", roles=["organiser", "service"]))

    async def sale(
        self,
        *,
        capacity: int = 10,
        line: bool = True,
        opens_in_s: float = 0.0,
        closes_in_s: float = 3600.0,
        lobby_in_s: float | None = None,
        turn_s: float = 60.0,
        window_s: float = 60.0,
        limit: int = 4,
        price: int = 1500,
        sections: Sequence[str] = ("floor",),
        codes: bool = False,
        challenge: bool = False,
        beacon: str = "",
    ) -> str:
        """A new sale with equal sections; open at once unless said otherwise. Answers its id."""
        name = f"e2e-{secrets.token_hex(5)}"
        now = time.time()
        window = sale.Window(opens_at=_timestamp(now + opens_in_s), closes_at=_timestamp(now + closes_in_s))
        if lobby_in_s is not None:
            window.lobby_opens_at.CopyFrom(_timestamp(now + lobby_in_s))
        spec = sale.SaleSpec(
            title="A test",
            currency="BRL",
            sections=[
                sale.Section(
                    id=section, capacity=capacity, ticket_types=[sale.TicketType(id="full", price=price)]
                )
                for section in sections
            ],
            window=window,
            line=sale.Line(
                kind=sale.LINE_KIND_DRAW if line else sale.LINE_KIND_NONE,
                turn_duration=_duration(turn_s),
                access_code_required=codes,
                challenge_required=challenge,
                beacon=beacon,
            ),
            limits=sale.Limits(per_buyer=limit),
            payment=sale.Payment(window=_duration(window_s), grace=_duration(1)),
        )
        await self.organiser.define(name, spec)
        return name

    def buyer(self, sale: str, subject: str = "", **token: Any) -> Buyer:
        """A buyer with a token of their own; `token` goes to the minter."""
        who = subject or f"someone-{secrets.token_hex(5)}"
        return Buyer(self.at, sale, self.minter.mint(who, **token))

    async def called(self, buyer: Buyer) -> queue.Place:
        """Wait until the buyer is called, on the buyer's own stream."""
        async with asyncio.timeout(PATIENCE_S):
            async for message in buyer.watch():
                if message.place.state == queue.PLACE_STATE_CALLED:
                    return message.place
        raise AssertionError("the stream ended before the buyer was called")

    async def admitted(self, buyer: Buyer) -> queue.Admission:
        """Join, wait for the turn, enter."""
        await buyer.join()
        await self.called(buyer)
        return await buyer.enter()

    async def told(self, buyer: Buyer, order_id: str, *states: "checkout.OrderState") -> checkout.Order:
        """Wait until the buyer's stream tells that the order is in one of the states."""
        async with asyncio.timeout(PATIENCE_S):
            async for message in buyer.subscribe():
                order = message.update.order
                if order.order_id == order_id and order.state in states:
                    return order
        raise AssertionError("the stream ended before it told")

    async def pay(self, order: checkout.Order, card: str = "approve") -> str:
        """Pay as a buyer's browser does; answers what the provider says."""
        async with (
            aiohttp.ClientSession() as browser,
            browser.post(order.payment.url, json={"card": card}) as answer,
        ):
            said = await answer.json()
            return str(said["result"])

    async def found_again(self) -> None:
        """Wait until everybody has found what was restarted: whoever calls through `at`, and the services
        each other. A free ticket goes through all of them.
        """

        async def sell() -> None:
            buyer = self.buyer(await self.sale(capacity=1, line=False, price=0, closes_in_s=60))
            placed = await buyer.order("click-one", [item("floor", 1)])
            await self.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)

        await patiently(sell)

    async def ledger(self, sale: str) -> inventory.Ledger:
        """The promise ledger's own numbers."""
        return await self.organiser.ledger(sale)


def _timestamp(seconds: float) -> Timestamp:
    value = Timestamp()
    value.FromMilliseconds(round(seconds * 1000))
    return value


def _duration(seconds: float) -> Duration:
    value = Duration()
    value.FromMilliseconds(round(seconds * 1000))
    return value
