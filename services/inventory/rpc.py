"""What buyers may do with units themselves: gRPC in, the ledger's commands out."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.inventory.v1 import inventory_pb2_grpc
from catraca.sale.v1 import sale_pb2

from services.inventory import rules, translate
from services.inventory.house import House
from services.inventory.seat_map import delta_of, map_of, message_of, reading
from services.inventory.snapshots import Snapshots
from services.inventory.store import Result, Store
from services.inventory.workers.availability import Availability
from services.kit import admission
from services.kit.definitions import Definitions
from services.kit.errors import Refusal
from services.kit.identity import buyer_of, caller
from services.kit.keys import Ring
from services.kit.per_buyer import StreamsPerBuyer

ORGANISER = "organiser"
FEW = ("bff", "organiser", "staff", "service")


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    """catraca.inventory.v1.InventoryService."""

    def __init__(
        self,
        store: Store,
        definitions: Definitions,
        admission_keys: Ring,
        availability: Availability,
        *,
        snapshot_s: float,
        streams_per_buyer: int,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._admission_keys = admission_keys
        self._availability = availability
        self._streams = StreamsPerBuyer(streams_per_buyer)
        self._snapshots: Snapshots[Result] = Snapshots(self._read, snapshot_s)
        self._maps: Snapshots[pb.SeatMap] = Snapshots(self._read_map, snapshot_s)

    async def Hold(self, request: pb.HoldRequest, context: Any) -> pb.HoldResponse:
        """FREE → HELD from the caller's own promise, or from what is free without a line."""
        buyer = buyer_of(context)
        # Each reading of a message's field makes it anew.
        name, hold_id = request.sale, request.hold_id
        rules.check_sale(name)
        rules.check_hold_id(hold_id)
        items = rules.items_of(request)
        sale = (self._definitions.here(name) or await self._definitions.found(name)).sale
        buyer_id = buyer.id_in(sale)
        house = await self._house(name)
        command: rules.Command = {
            "op": "hold",
            "buyer": buyer_id,
            "hold_id": hold_id,
            "items": house.with_units(items),
        }
        if rules.has_line(sale):
            command["place"] = self._admitted_place(request, buyer_id)
        result = await self._store.submit(name, command)
        # A hold that was made before is answered with its state, also where that ended since.
        if result["word"] == "HELD" or result.get("hold"):
            response = pb.HoldResponse()
            translate.fill_hold(response.hold, result["hold"])
            return response
        raise translate.refusal_of(result)

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        """HELD → FREE."""
        hold = await self._of_own_hold("release", request, context)
        return pb.ReleaseResponse(hold=hold)

    async def GetHold(self, request: pb.GetHoldRequest, context: Any) -> pb.GetHoldResponse:
        """Reads one of the caller's own holds."""
        hold = await self._of_own_hold("show", request, context)
        return pb.GetHoldResponse(hold=hold)

    async def GetAvailability(
        self, request: pb.GetAvailabilityRequest, context: Any
    ) -> pb.GetAvailabilityResponse:
        """Reads how many units are left; all callers share one reading."""
        caller(context)
        rules.check_sale(request.sale)
        await self._definitions.found(request.sale)
        read = await self._snapshots.get(request.sale)
        return pb.GetAvailabilityResponse(
            sections=[translate.section_of(counts) for counts in read["sections"]],
            total=sale_pb2.SaleCounts(**read["ledger"]["counts"]),
        )

    async def ListSeats(self, request: pb.ListSeatsRequest, context: Any) -> pb.ListSeatsResponse:
        """Reads the seats of a seated section, in the order of their units."""
        caller(context)
        rules.check_sale(request.sale)
        rules.check_section(request.section)
        first, end = rules.page_of(request)
        await self._definitions.found(request.sale)
        layout = (await self._house(request.sale)).layouts.get(request.section)
        if layout is None:
            raise Refusal("SECTION_NOT_FOUND", section=request.section)
        count = len(layout.ids)
        seats = [translate.seat_of(layout, unit) for unit in range(first, min(end, count))]
        return pb.ListSeatsResponse(seats=seats, next_unit=end if end < count else 0)

    async def GetSeatMap(self, request: pb.GetSeatMapRequest, context: Any) -> pb.GetSeatMapResponse:
        """Reads every seat's state; all callers share one reading."""
        caller(context)
        rules.check_sale(request.sale)
        await self._definitions.found(request.sale)
        read = await self._maps.get(request.sale)
        return pb.GetSeatMapResponse(map=read)

    async def WatchAvailability(
        self, request: pb.WatchAvailabilityRequest, context: Any
    ) -> AsyncIterator[pb.WatchAvailabilityResponse]:
        """Streams the sale's units: all of them, then what changes."""
        who = caller(context)
        who.need("buyer", *FEW)
        rules.check_sale(request.sale)
        await self._definitions.found(request.sale)
        with contextlib.ExitStack() as streams:
            # Who has no more than a buyer's token is one of many; the others are few, and watch for many.
            if who.roles.isdisjoint(FEW):
                streams.enter_context(self._streams.one_more(buyer_of(context).person))
            async for news in self._availability.watch(request.sale):
                if news.before is None:
                    yield pb.WatchAvailabilityResponse(map=message_of(news.now))
                else:
                    yield pb.WatchAvailabilityResponse(delta=delta_of(news.before, news.now))

    async def Block(self, request: pb.BlockRequest, context: Any) -> pb.BlockResponse:
        """FREE → BLOCKED."""
        caller(context).need(ORGANISER)
        rules.check_sale(request.sale)
        rules.check_block_id(request.block_id)
        items = rules.blocked_of(request)
        await self._definitions.found(request.sale)
        house = await self._house(request.sale)
        command = {"op": "block", "block_id": request.block_id, "items": house.to_block(items)}
        return pb.BlockResponse(block=await self._of_block(request.sale, command))

    async def Unblock(self, request: pb.UnblockRequest, context: Any) -> pb.UnblockResponse:
        """BLOCKED → FREE."""
        caller(context).need(ORGANISER)
        rules.check_sale(request.sale)
        rules.check_block_id(request.block_id)
        await self._definitions.found(request.sale)
        command = {"op": "unblock", "block_id": request.block_id}
        return pb.UnblockResponse(block=await self._of_block(request.sale, command))

    async def _of_block(self, sale: str, command: rules.Command) -> pb.Block:
        result = await self._store.submit(sale, command)
        if result.get("block"):
            return translate.block_of(result["block"])
        raise translate.refusal_of(result)

    async def _house(self, sale: str) -> House:
        if not self._store.is_loaded(sale):
            await self._store.loaded(sale)
        return self._store.house(sale)

    async def _read_map(self, sale: str) -> pb.SeatMap:
        return message_of(map_of(await self._store.submit(sale, reading(None))))

    def forget(self, sale: str) -> None:
        """Lets go of what is kept for an archived sale."""
        self._snapshots.forget(sale)
        self._maps.forget(sale)

    def _admitted_place(self, request: pb.HoldRequest, buyer: str) -> int:
        if not request.admission:
            raise Refusal("ADMISSION_REQUIRED")
        claims = admission.verify(request.admission, self._admission_keys, sale=request.sale, buyer=buyer)
        return int(claims.place)

    async def _of_own_hold(
        self, op: str, request: pb.ReleaseRequest | pb.GetHoldRequest, context: Any
    ) -> pb.Hold:
        buyer = buyer_of(context)
        rules.check_sale(request.sale)
        rules.check_hold_id(request.hold_id)
        sale = (await self._definitions.find(request.sale)).sale
        command = {"op": op, "buyer": buyer.id_in(sale), "hold_id": request.hold_id}
        result = await self._store.submit(request.sale, command)
        if result["word"] in ("RELEASED", "SHOWN", "HOLD_EXPIRED", "HOLD_LOST"):
            return translate.hold_of(result["hold"])
        raise translate.refusal_of(result)

    async def _read(self, sale: str) -> Result:
        return await self._store.submit(sale, {"op": "ledger"})
