"""The port to checkout: what a sale's orders have to do with its units."""

from typing import Protocol

import grpc.aio
from catraca.checkout.v1.checkout_pb2 import OrderUnits, ReadOrdersRequest
from catraca.checkout.v1.checkout_pb2_grpc import SettlementServiceStub

from services.kit.errors import refusal_for


class Orders(Protocol):
    """What inventory needs of checkout."""

    async def read(self, sale: str) -> dict[str, OrderUnits]:
        """Every order of a sale by its id. Raises Refusal where checkout does not answer."""


class GrpcOrders:
    """Checkout over its SettlementService."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        """`channel` leads to checkout and carries this service's token."""
        self._stub = SettlementServiceStub(channel)
        self._timeout_s = timeout_s

    async def read(self, sale: str) -> dict[str, OrderUnits]:
        """Every order of a sale by its id."""
        found: dict[str, OrderUnits] = {}
        try:
            async for page in self._stub.ReadOrders(ReadOrdersRequest(sale=sale), timeout=self._timeout_s):
                found |= {order.order_id: order for order in page.orders}
        except grpc.aio.AioRpcError as error:
            refusal = refusal_for(error)
            if refusal is None:
                raise
            raise refusal from error
        return found
