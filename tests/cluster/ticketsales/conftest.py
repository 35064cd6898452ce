"""What tests of the operator stand on: the real services, a namespace as the chart would fill it, buyers."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sales

from local.audit.load import Sources
from local.audit.report import audit
from local.client import DEADLINE_S, Buyer, Connection, Organiser, Targets, answered, item
from local.discovery import RunningStack
from local.stack import Stack
from tests.cluster.estate import Estate
from tests.cluster.keda import Keda
from tests.cluster.plane.api import Api, Json
from tests.cluster.plane.control_plane import ControlPlane


@pytest.fixture
def estate(
    plane: ControlPlane, namespace: str, ticket_sales: Json, stack: Stack, tmp_path: Path
) -> Iterator[Estate]:
    """A namespace with the services' Deployments and HPAs, at rest."""
    made = Estate(plane, namespace, stack.running, tmp_path)
    made.lay_out()
    yield made
    for process in made.operators:
        process.stop()
    for name in made.names():
        made.remove(name)


@pytest.fixture
def without_keda(api: Api) -> Iterator[Keda]:
    """KEDA, which is not installed yet; it is gone after the test."""
    made = Keda(api)
    yield made
    made.uninstall()


@pytest.fixture
def keda(without_keda: Keda) -> Keda:
    """KEDA, installed for the test."""
    without_keda.install()
    return without_keda


@pytest.fixture
def name() -> str:
    """A sale that no other test has."""
    return f"sale-{secrets.token_hex(4)}"


@pytest.fixture
async def shop(stack: Stack) -> AsyncIterator["Shop"]:
    """Buyers and an organiser of the running services."""
    async with Connection(Targets(**stack.running.targets)) as connection:
        yield Shop(stack.running, connection)


class Shop:
    """Buys, and asks the services themselves."""

    def __init__(self, running: RunningStack, connection: Connection) -> None:
        self._at = connection
        self._running = running
        self._minter = running.minter()
        self.organiser = Organiser(connection, self._minter.mint("org", roles=["organiser", "service"]))

    def buyer(self, name: str) -> Buyer:
        """Somebody new."""
        return Buyer(self._at, name, self._minter.mint(f"someone-{secrets.token_hex(4)}"))

    async def admitted(self, buyer: Buyer) -> queue.Admission:
        """Join, wait for the turn, enter."""
        await buyer.join()
        async for message in buyer.watch():
            if message.place.state == queue.PLACE_STATE_CALLED:
                return await buyer.enter()
        raise AssertionError("the stream ended before the buyer was called")

    async def ordered(self, buyer: Buyer, units: int) -> checkout.Order:
        """Join, be called, enter and order; the order as it waits for its payment."""
        admission = await self.admitted(buyer)
        await buyer.order("one-order", [item("floor", units)], admission=admission.token)
        return await self.told(buyer, checkout.ORDER_STATE_AWAITING_PAYMENT)

    async def bought(self, name: str, units: int) -> checkout.Order:
        """The whole path, to the tickets."""
        buyer = self.buyer(name)
        await self.pay(await self.ordered(buyer, units))
        return await self.told(buyer, checkout.ORDER_STATE_CONFIRMED)

    async def told(self, buyer: Buyer, state: "checkout.OrderState.ValueType") -> checkout.Order:
        """Wait until the buyer's stream tells of an order in this state."""
        async for message in buyer.subscribe():
            if message.update.order.state == state:
                return message.update.order
        raise AssertionError("the stream ended before it told")

    async def asked(self, name: str) -> sales.GetSaleResponse:
        """A sale with the time at which it was so."""
        request = sales.GetSaleRequest(sale=name)
        call = self._at.sales.GetSale(request, metadata=self.organiser.metadata, timeout=DEADLINE_S)
        return await answered(call)

    async def audited(self, name: str) -> None:
        """Judge what the sale left behind, once everything of it has come to its end."""
        verdict = await audit(Sources.of(self._running), name, settled=True)
        assert verdict.ok, verdict.to_json()

    async def pay(self, order: checkout.Order) -> None:
        """Pay as a buyer's browser does."""
        async with (
            aiohttp.ClientSession() as browser,
            browser.post(order.payment.url, json={"card": "approve"}),
        ):
            pass


async def aside(wait: Any, *arguments: Any, **options: Any) -> Any:
    """A wait that blocks, while buyers go on."""
    return await asyncio.to_thread(wait, *arguments, **options)
