"""What the operator asks of the services: definitions, the line's standing, open orders; as an organiser."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import grpc.aio
from catraca.checkout.v1.checkout_pb2 import CountOrdersRequest
from catraca.checkout.v1.checkout_pb2_grpc import SettlementServiceStub
from catraca.queue.v1.queue_pb2 import SaleStanding, WatchSaleRequest
from catraca.queue.v1.queue_pb2_grpc import QueueServiceStub
from catraca.sale.v1.sale_pb2 import (
    LINE_KIND_DRAW,
    SALE_PHASE_CLOSED,
    SALE_PHASE_LOBBY,
    SALE_PHASE_OPEN,
    SALE_PHASE_PAUSED,
    ArchiveRequest,
    DefineRequest,
    GetSaleRequest,
    PauseRequest,
    Sale,
    SalePhase,
    SaleSpec,
)
from catraca.sale.v1.sale_pb2_grpc import SaleServiceStub

from catraca_operator.clock import Clock, own_ms
from services.kit.channels import Channels
from services.kit.errors import Refusal, refusal_for, refusal_of

T = TypeVar("T")

DEFINE_DEADLINE_S = 20.0
ARCHIVE_DEADLINE_S = 45.0
LOOK_DEADLINE_S = 5.0
# Until the lobby opens there is nobody to see.
WITH_PEOPLE = (SALE_PHASE_LOBBY, SALE_PHASE_OPEN, SALE_PHASE_PAUSED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A sale as the services have it."""

    sale: Sale
    standing: SaleStanding | None
    open_orders: int | None


class Sales:
    """A client of SaleService, of the line and of the settlement. Every method raises Refusal."""

    def __init__(self, channels: Channels, queue_target: str, checkout_target: str, clock: Clock) -> None:
        """`channels` carry the organiser's token; `clock` learns the services' time from their answers."""
        at_queue = channels.channel(queue_target)
        self._sales = SaleServiceStub(at_queue)
        self._queue = QueueServiceStub(at_queue)
        self._orders = SettlementServiceStub(channels.channel(checkout_target))
        self._clock = clock

    async def define(self, name: str, spec: SaleSpec) -> None:
        """The sale under this definition, held by queue and inventory; the same again changes nothing."""
        await _answered(self._sales.Define(DefineRequest(sale=name, spec=spec), timeout=DEFINE_DEADLINE_S))

    async def pause(self, name: str, paused: bool) -> None:
        """Stop the calling or go on with it, whatever else is asked for; the same again changes nothing."""
        await _answered(self._sales.Pause(PauseRequest(sale=name, paused=paused), timeout=DEFINE_DEADLINE_S))

    async def archive(self, name: str) -> None:
        """CLOSED → ARCHIVED. Raises SALE_NOT_SETTLED while something is under way."""
        await _answered(self._sales.Archive(ArchiveRequest(sale=name), timeout=ARCHIVE_DEADLINE_S))

    async def look(self, name: str) -> Seen | None:
        """The sale with its counts, its line while there are people in it, its orders once it is closed."""
        sale = await self.sale(name)
        if sale is None:
            return None
        standing = open_orders = None
        if sale.phase in WITH_PEOPLE and sale.spec.line.kind == LINE_KIND_DRAW:
            standing = await self._standing(name)
        if sale.phase == SALE_PHASE_CLOSED:
            call = self._orders.CountOrders(CountOrdersRequest(sale=name), timeout=LOOK_DEADLINE_S)
            open_orders = int((await _answered(call)).open)
        return Seen(sale, standing, open_orders)

    async def sale(self, name: str) -> Sale | None:
        """The sale with its counts; None where there is none."""
        asked_ms = own_ms()
        try:
            answer = await _answered(self._sales.GetSale(GetSaleRequest(sale=name), timeout=LOOK_DEADLINE_S))
        except Refusal as refusal:
            if refusal.word != "SALE_NOT_FOUND":
                raise
            return None
        self._clock.learn(answer.now.ToMilliseconds(), asked_ms)
        sale: Sale = answer.sale
        return sale

    async def phase(self, name: str) -> "tuple[SalePhase.ValueType, int]":
        """The sale's phase, and the time at the services at which it was that."""
        answer = await _answered(self._sales.GetSale(GetSaleRequest(sale=name), timeout=LOOK_DEADLINE_S))
        return answer.sale.phase, answer.now.ToMilliseconds()

    async def _standing(self, name: str) -> SaleStanding | None:
        """The first message of the stream that everyone may watch; None while the line is being loaded."""
        stream = self._queue.WatchSale(WatchSaleRequest(sale=name), timeout=LOOK_DEADLINE_S)
        try:
            async for message in stream:
                standing: SaleStanding = message.standing
                return standing
        except grpc.aio.AioRpcError as error:
            refusal = _refusal(error)
            if refusal.word != "SALE_NOT_LOADED":
                raise refusal from error
        finally:
            stream.cancel()
        return None


async def _answered(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise _refusal(error) from error


def _refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """What the services answered, also where it is about the operator's own token: a person reads it."""
    return refusal_of(error) or refusal_for(error) or Refusal("INTERNAL")
