"""gRPC in, domain out: translation only."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as api
from catraca.checkout.v1 import checkout_pb2_grpc
from catraca.sale.v1.sale_pb2 import Sale

from services.checkout import rules
from services.checkout.intake import Intake, Wish
from services.checkout.messages import buyer_of as buyer_of_intake
from services.checkout.messages import items_of, order_message, order_of, state_value, units_message_of
from services.checkout.records import Order
from services.checkout.saga import Saga
from services.checkout.states import TERMINAL
from services.checkout.store import Store
from services.kit import metrics, tracing
from services.kit.errors import Refusal, refusal_for
from services.kit.identity import Buyer, Caller, buyer_for, buyer_of, caller
from services.kit.logs import get_logger
from services.kit.signing import SigningKeys

log = get_logger(__name__)

MAX_PER_MESSAGE = 500
MAX_PAGE = 100
DEFAULT_PAGE = 20
NEWEST = (2**62, "~")
PLACE_ORDERS = "/catraca.checkout.v1.OrderService/PlaceOrders"


class OrderServicer(checkout_pb2_grpc.OrderServiceServicer):
    """What buyers ask for."""

    def __init__(self, intake: Intake, store: Store, saga: Saga, keys: SigningKeys) -> None:
        self._intake = intake
        self._store = store
        self._saga = saga
        self._keys = keys

    async def PlaceOrder(self, request: api.PlaceOrderRequest, context: Any) -> api.PlaceOrderResponse:
        """– → ACCEPTED."""
        order = await self._intake.place(buyer_of(context), _wish(request.sale, request))
        return api.PlaceOrderResponse(order=order_message(order))

    async def GetOrder(self, request: api.GetOrderRequest, context: Any) -> api.GetOrderResponse:
        """One of the caller's orders, also one that no worker has seen yet."""
        order = await self._own(buyer_of(context), request.sale, request.order_id)
        return api.GetOrderResponse(order=order_message(order))

    async def ListOrders(self, request: api.ListOrdersRequest, context: Any) -> api.ListOrdersResponse:
        """A page of the caller's orders, newest first."""
        buyer = buyer_of(context)
        definition = await self._intake.definition(request.sale)
        size = request.page_size or DEFAULT_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise Refusal("INVALID_FIELD", field="page_size", expected=f"1 to {MAX_PAGE}, or 0")
        before = _position(request.page_token)
        buyer_id = await self._id_of(buyer, definition.sale)
        orders = await self._store.page_of_buyer(buyer_id, request.sale, before, size + 1) if buyer_id else []
        page = orders[:size]
        token = _token(page[-1]) if len(orders) > size else ""
        return api.ListOrdersResponse(orders=[order_message(order) for order in page], next_page_token=token)

    async def CancelOrder(self, request: api.CancelOrderRequest, context: Any) -> api.CancelOrderResponse:
        """Ends an order before it is captured."""
        order = await self._own(buyer_of(context), request.sale, request.order_id, written=True)
        return api.CancelOrderResponse(order=order_message(await self._saga.cancel(order)))

    async def PlaceOrders(
        self, requests: AsyncIterator[api.PlaceOrdersRequest], context: Any
    ) -> AsyncIterator[api.PlaceOrdersResponse]:
        """Places a BFF's orders, one answer per message."""
        who = caller(context)
        who.need("bff")
        async for request in requests:
            if not 1 <= len(request.items) <= MAX_PER_MESSAGE:
                raise Refusal("INVALID_FIELD", field="items", expected=f"1 to {MAX_PER_MESSAGE}")
            results = await asyncio.gather(*(self._result(who, request.sale, item) for item in request.items))
            yield api.PlaceOrdersResponse(results=results)

    async def GetTicketKeys(
        self, request: api.GetTicketKeysRequest, context: Any
    ) -> api.GetTicketKeysResponse:
        """The public keys that tickets verify with."""
        return api.GetTicketKeysResponse(keys=self._keys.published())

    async def _result(self, who: Caller, sale: str, item: api.PlaceOrderItem) -> api.OrderResult:
        try:
            with tracing.beginning("checkout.v1.OrderService/PlaceOrders item"):
                order = await self._intake.place(buyer_for(who, item.subject), _wish(sale, item))
        except Exception as error:
            refusal = refusal_for(error)
            if refusal is None:
                log.exception("order_not_placed", sale=sale)
            word = refusal.word if refusal else "INTERNAL"
            metrics.count_item_refusals(PLACE_ORDERS, [word])
            return api.OrderResult(refusal=word)
        return api.OrderResult(order=order_message(order))

    async def _id_of(self, buyer: Buyer, sale: Sale) -> str | None:
        """The buyer's id in a sale; None for who has nothing there."""
        try:
            return buyer.id_in(sale)
        except Refusal as refusal:
            if refusal.word != "SALE_ARCHIVED":
                raise
            # The key that ids are made with went after the sale; whoever ordered is written down.
            return await self._store.id_in(sale.sale, buyer.namespace, buyer.subject)

    async def _own(self, buyer: Buyer, sale: str, order_id: str, *, written: bool = False) -> Order:
        """One of the buyer's own orders, from the database or else from INTAKE; `written` wants it in the
        database in any case. Raises ORDER_NOT_FOUND."""
        rules.order_id(order_id)
        definition = await self._intake.definition(sale)
        buyer_id = await self._id_of(buyer, definition.sale)
        if buyer_id is None:
            raise Refusal("ORDER_NOT_FOUND")
        order = await self._store.load_one(order_id)
        if order is None:
            asked = await self._intake.find(sale, buyer_id, order_id)
            if asked is None:
                raise Refusal("ORDER_NOT_FOUND")
            order = order_of(asked, definition.sale.spec.currency)
            if written:
                await self._store.insert([(order, buyer_of_intake(asked))])
                order = await self._store.load_one(order_id) or order
        if (order.sale, order.buyer) != (sale, buyer_id):
            raise Refusal("ORDER_NOT_FOUND")
        return order


class SettlementServicer(checkout_pb2_grpc.SettlementServiceServicer):
    """What other services and organisers ask of a whole sale."""

    def __init__(self, intake: Intake, store: Store) -> None:
        self._intake = intake
        self._store = store

    async def CountOrders(self, request: api.CountOrdersRequest, context: Any) -> api.CountOrdersResponse:
        """A sale's orders by state."""
        caller(context).need("service", "organiser")
        await self._intake.definition(request.sale)
        # Read in this order, what a worker writes in between is never missed.
        taken_in = await self._intake.count(request.sale)
        by_state, unsettled = await self._store.count(request.sale)
        running = sum(count for state, count in by_state.items() if state not in TERMINAL)
        unseen = max(0, taken_in - sum(by_state.values()))
        counts = [api.OrderCount(state=state_value(state), count=count) for state, count in by_state.items()]
        return api.CountOrdersResponse(counts=counts, open=running + unsettled + unseen)

    async def ReadOrders(
        self, request: api.ReadOrdersRequest, context: Any
    ) -> AsyncIterator[api.ReadOrdersResponse]:
        """Every order's part in the sale's units: the rows, then what waits in INTAKE."""
        caller(context).need("service")
        await self._intake.definition(request.sale)
        written: set[str] = set()
        page: list[api.OrderUnits] = []
        async for order in self._store.units_of_sale(request.sale):
            written.add(order.order_id)
            page.append(order)
            if len(page) >= MAX_PER_MESSAGE:
                yield api.ReadOrdersResponse(orders=page)
                page = []
        # Read in this order, every order is in one of the two: INTAKE keeps them all.
        async for asked in self._intake.all_of(request.sale):
            if asked.order_id not in written:
                page.append(units_message_of(asked))
            if len(page) >= MAX_PER_MESSAGE:
                yield api.ReadOrdersResponse(orders=page)
                page = []
        yield api.ReadOrdersResponse(orders=page)


def _wish(sale: str, request: api.PlaceOrderRequest | api.PlaceOrderItem) -> Wish:
    return Wish(sale, request.idempotency_key, items_of(request.items), request.hold_id, request.admission)


def _token(order: Order) -> str:
    return base64.urlsafe_b64encode(f"{order.accepted_at_ms}:{order.order_id}".encode()).decode()


def _position(token: str) -> tuple[int, str]:
    if not token:
        return NEWEST
    try:
        at, _, order_id = base64.urlsafe_b64decode(token.encode("ascii")).decode("ascii").partition(":")
        position = int(at), rules.order_id(order_id)
    except (ValueError, binascii.Error, Refusal):
        position = None
    if position is None or not 0 <= position[0] < 2**62:
        raise Refusal("INVALID_FIELD", field="page_token", expected="the next_page_token of an answer")
    return position
