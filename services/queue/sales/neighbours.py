"""The ports to the services that hold a sale too: inventory's ledger and checkout's orders."""

from typing import Protocol

import grpc.aio
from catraca.checkout.v1.checkout_pb2 import CountOrdersRequest
from catraca.checkout.v1.checkout_pb2_grpc import SettlementServiceStub
from catraca.inventory.v1.inventory_pb2 import DropRequest, GetLedgerRequest, LoadRequest
from catraca.inventory.v1.inventory_pb2_grpc import LedgerServiceStub
from catraca.sale.v1.sale_pb2 import SaleCounts

from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger

log = get_logger("sales")

COUNTS_DEADLINE_S = 1.0
LOAD_DEADLINE_S = 15.0
DROP_DEADLINE_S = 30.0
# What inventory answers for a sale whose keys are gone already.
NOTHING_THERE = frozenset({"SALE_NOT_LOADED", "SALE_ARCHIVED", "SALE_NOT_FOUND"})


class Inventory(Protocol):
    """What the sales need of inventory. Raises Refusal."""

    async def load(self, sale: str, revision: int) -> None:
        """Returns once inventory holds at least this revision."""

    async def counts(self, sale: str) -> SaleCounts | None:
        """The sale's units by state; None where inventory cannot say."""

    async def drop(self, sale: str) -> None:
        """Frees the sale's keys; nothing to free is fine. SALE_NOT_SETTLED while something is under way."""


class Orders(Protocol):
    """What the sales need of checkout. Raises Refusal."""

    async def open_orders(self, sale: str) -> int:
        """How many orders have not ended."""


class GrpcInventory:
    """Inventory over its LedgerService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """`channel` carries this service's token."""
        self._stub = LedgerServiceStub(channel)

    async def load(self, sale: str, revision: int) -> None:
        await self._stub.Load(LoadRequest(sale=sale, revision=revision), timeout=LOAD_DEADLINE_S)

    async def counts(self, sale: str) -> SaleCounts | None:
        try:
            answer = await self._stub.GetLedger(GetLedgerRequest(sale=sale), timeout=COUNTS_DEADLINE_S)
        except (grpc.aio.AioRpcError, Refusal) as error:
            refusal = refusal_for(error)
            log.info("counts_missing", sale=sale, word=refusal.word if refusal else "INTERNAL")
            return None
        return answer.ledger.counts

    async def drop(self, sale: str) -> None:
        try:
            await self._stub.Drop(DropRequest(sale=sale), timeout=DROP_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_for(error)
            if refusal is None or refusal.word not in NOTHING_THERE:
                raise


class GrpcOrders:
    """Checkout over its SettlementService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """`channel` carries this service's token."""
        self._stub = SettlementServiceStub(channel)

    async def open_orders(self, sale: str) -> int:
        return (await self._stub.CountOrders(CountOrdersRequest(sale=sale))).open
