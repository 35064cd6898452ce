"""Calls Catraca as a buyer or an organiser: thin typed wrappers around the four services."""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.checkout.v1.checkout_pb2_grpc import OrderServiceStub, SettlementServiceStub
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.inventory.v1.inventory_pb2_grpc import InventoryServiceStub, LedgerServiceStub
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.notifier.v1.notifier_pb2_grpc import NotifierServiceStub
from catraca.queue.v1 import queue_pb2 as queue
from catraca.queue.v1.queue_pb2_grpc import QueueServiceStub
from catraca.sale.v1 import sale_pb2 as sales
from catraca.sale.v1.sale_pb2_grpc import SaleServiceStub

from services.kit.channels import BALANCED, name_for
from services.kit.errors import refusal_of

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

DEADLINE_S = 20.0
MAX_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Targets:
    """Where the services listen, a gRPC target each: `host:port`, or all replicas as `ipv4:host:port,…`."""

    queue: str
    inventory: str
    checkout: str
    notifier: str
    certificate: Mapping[str, str] = field(default_factory=dict)
    """Files `cert`, `key` and `ca` for TLS; empty where the services speak without."""


class Connection:
    """One connection to every replica of each service, shared by all who call through it.

    SaleService lives at the queue.
    """

    def __init__(self, targets: Targets) -> None:
        options = [
            *BALANCED,
            # Channels to one target share a TCP connection unless told otherwise; a crowd must not.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            # A proxy is for the world outside.
            ("grpc.enable_http_proxy", 0),
        ]
        self._channels = [
            _channel(target, targets.certificate, options)
            for target in (targets.queue, targets.inventory, targets.checkout, targets.notifier)
        ]
        at_queue, at_inventory, at_checkout, at_notifier = self._channels
        self.queue = QueueServiceStub(at_queue)
        self.sales = SaleServiceStub(at_queue)
        self.inventory = InventoryServiceStub(at_inventory)
        self.ledger = LedgerServiceStub(at_inventory)
        self.orders = OrderServiceStub(at_checkout)
        self.settlement = SettlementServiceStub(at_checkout)
        self.notifier = NotifierServiceStub(at_notifier)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connections, and with them every call that still runs."""
        for channel in self._channels:
            await channel.close()


def _channel(
    target: str, certificate: Mapping[str, str], options: Sequence[tuple[str, Any]]
) -> grpc.aio.Channel:
    if not certificate:
        return grpc.aio.insecure_channel(target, options=options)
    key, cert, ca = (Path(certificate[name]).read_bytes() for name in ("key", "cert", "ca"))
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return grpc.aio.secure_channel(target, credentials, options=[*options, *name_for(target)])


def bearer(token: str, *, buyer: str = "") -> Metadata:
    """A call's metadata: who calls, and (from a BFF) the subject of the buyer it speaks for."""
    if not token:
        return ()
    named = (("catraca-buyer", buyer),) if buyer else ()
    return (("authorization", f"Bearer {token}"), *named)


async def answered(call: Awaitable[T]) -> T:
    """The call's answer; a refusal is raised as `services.kit.errors.Refusal`."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error


async def streamed(call: AsyncIterable[T]) -> AsyncIterator[T]:
    """The stream's messages; a refusal is raised as `services.kit.errors.Refusal`."""
    try:
        async for message in call:
            yield message
    except grpc.aio.AioRpcError as error:
        refusal = refusal_of(error)
        if refusal is None:
            raise
        raise refusal from error


def item(section: str, quantity: int, ticket_type: str = "") -> inventory.HoldItem:
    """What is wanted of one section."""
    return inventory.HoldItem(section=section, quantity=quantity, ticket_type=ticket_type)


class Buyer:
    """One buyer of one sale, with a token of their own or through a BFF's."""

    def __init__(self, connection: Connection, sale: str, token: str, *, subject: str = "") -> None:
        self.at = connection
        self.sale = sale
        self.metadata = bearer(token, buyer=subject)

    async def join(
        self, *, access_code: str = "", challenge: str = "", turn_news: bool = False
    ) -> queue.Place:
        """Take a place, or learn the one taken before; with `turn_news` to be told of its turn."""
        request = queue.JoinRequest(
            sale=self.sale, access_code=access_code, challenge=challenge, turn_news=turn_news
        )
        return (await answered(self.at.queue.Join(request, metadata=self.metadata, timeout=DEADLINE_S))).place

    async def challenge(self) -> queue.GetChallengeResponse:
        """Work to do before joining, where the sale wants some."""
        request = queue.GetChallengeRequest(sale=self.sale)
        call = self.at.queue.GetChallenge(request, metadata=self.metadata, timeout=DEADLINE_S)
        return await answered(call)

    async def receipt(self) -> queue.GetReceiptResponse:
        """The buyer's receipt, and once there is a draw the path to its root."""
        request = queue.GetReceiptRequest(sale=self.sale)
        call = self.at.queue.GetReceipt(request, metadata=self.metadata, timeout=DEADLINE_S)
        return await answered(call)

    async def place(self) -> queue.Place:
        """Where the buyer stands."""
        request = queue.GetPlaceRequest(sale=self.sale)
        call = self.at.queue.GetPlace(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).place

    def watch(self) -> AsyncIterator[queue.WatchResponse]:
        """The buyer's place, at once and on every change."""
        request = queue.WatchRequest(sale=self.sale)
        return streamed(self.at.queue.Watch(request, metadata=self.metadata))

    async def enter(self) -> queue.Admission:
        """Trade a running turn for an admission."""
        request = queue.EnterRequest(sale=self.sale)
        call = self.at.queue.Enter(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).admission

    async def leave(self) -> queue.Place:
        """Give the place up."""
        request = queue.LeaveRequest(sale=self.sale)
        call = self.at.queue.Leave(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).place

    async def hold(
        self, hold_id: str, items: Sequence[inventory.HoldItem], admission: str = ""
    ) -> inventory.Hold:
        """Take units for a while."""
        request = inventory.HoldRequest(sale=self.sale, hold_id=hold_id, items=items, admission=admission)
        call = self.at.inventory.Hold(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).hold

    async def release(self, hold_id: str) -> inventory.Hold:
        """Give held units back."""
        request = inventory.ReleaseRequest(sale=self.sale, hold_id=hold_id)
        call = self.at.inventory.Release(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).hold

    async def availability(self) -> inventory.GetAvailabilityResponse:
        """How many units are left, by section."""
        request = inventory.GetAvailabilityRequest(sale=self.sale)
        call = self.at.inventory.GetAvailability(request, metadata=self.metadata, timeout=DEADLINE_S)
        return await answered(call)

    async def order(
        self, key: str, items: Sequence[inventory.HoldItem] = (), *, hold_id: str = "", admission: str = ""
    ) -> checkout.Order:
        """Place an order under an idempotency key."""
        request = checkout.PlaceOrderRequest(
            sale=self.sale, idempotency_key=key, items=items, hold_id=hold_id, admission=admission
        )
        call = self.at.orders.PlaceOrder(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).order

    async def get_order(self, order_id: str) -> checkout.Order:
        """One of the buyer's own orders."""
        request = checkout.GetOrderRequest(sale=self.sale, order_id=order_id)
        call = self.at.orders.GetOrder(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).order

    async def cancel(self, order_id: str) -> checkout.Order:
        """End an order before it is captured."""
        request = checkout.CancelOrderRequest(sale=self.sale, order_id=order_id)
        call = self.at.orders.CancelOrder(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).order

    def subscribe(self) -> AsyncIterator[notifier.SubscribeResponse]:
        """The buyer's orders: the last state of each, then every newer one."""
        request = notifier.SubscribeRequest(sale=self.sale)
        return streamed(self.at.notifier.Subscribe(request, metadata=self.metadata))


class Organiser:
    """Defines sales and follows them; its token carries the organiser role, and service for the ledger."""

    def __init__(self, connection: Connection, token: str) -> None:
        self.at = connection
        self.metadata = bearer(token)

    async def define(self, name: str, spec: sales.SaleSpec) -> sales.Sale:
        """Create or change a sale; answers when queue and inventory hold it."""
        request = sales.DefineRequest(sale=name, spec=spec)
        call = self.at.sales.Define(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).sale

    async def sale(self, name: str) -> sales.Sale:
        """One sale's definition, phase and counts."""
        call = self.at.sales.GetSale(
            sales.GetSaleRequest(sale=name), metadata=self.metadata, timeout=DEADLINE_S
        )
        return (await answered(call)).sale

    async def pause(self, name: str, paused: bool) -> sales.Sale:
        """Stop or resume calling."""
        request = sales.PauseRequest(sale=name, paused=paused)
        call = self.at.sales.Pause(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).sale

    async def put_codes(self, name: str, codes: Sequence[str], uses: int) -> sales.PutAccessCodesResponse:
        """Let access codes be used so often in all; at most 1000 in one call."""
        request = sales.PutAccessCodesRequest(sale=name, codes=codes, uses=uses)
        return await answered(
            self.at.sales.PutAccessCodes(request, metadata=self.metadata, timeout=DEADLINE_S)
        )

    async def ledger(self, name: str) -> inventory.Ledger:
        """The promise ledger's watermark and counts."""
        request = inventory.GetLedgerRequest(sale=name)
        call = self.at.ledger.GetLedger(request, metadata=self.metadata, timeout=DEADLINE_S)
        return (await answered(call)).ledger

    async def orders_by_state(self, name: str) -> checkout.CountOrdersResponse:
        """How many orders are in each state."""
        request = checkout.CountOrdersRequest(sale=name)
        return await answered(
            self.at.settlement.CountOrders(request, metadata=self.metadata, timeout=DEADLINE_S)
        )
