"""What buyers may do with units themselves: gRPC in, the ledger's commands out."""

from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.inventory.v1 import inventory_pb2_grpc
from catraca.sale.v1 import sale_pb2

from services.inventory import rules, translate
from services.inventory.snapshots import Snapshots
from services.inventory.store import Result, Store
from services.kit import admission
from services.kit.definitions import Definitions
from services.kit.errors import Refusal
from services.kit.identity import buyer_of, caller
from services.kit.keys import Ring


class InventoryService(inventory_pb2_grpc.InventoryServiceServicer):
    """catraca.inventory.v1.InventoryService."""

    def __init__(
        self, store: Store, definitions: Definitions, admission_keys: Ring, snapshot_s: float
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._admission_keys = admission_keys
        self._snapshots: Snapshots[Result] = Snapshots(self._read, snapshot_s)

    async def Hold(self, request: pb.HoldRequest, context: Any) -> pb.HoldResponse:
        """FREE → HELD from the caller's own promise, or from what is free without a line."""
        buyer = buyer_of(context)
        rules.check_sale(request.sale)
        rules.check_hold_id(request.hold_id)
        items = rules.items_of(request)
        sale = (await self._definitions.found(request.sale)).sale
        buyer_id = buyer.id_in(sale)
        command: rules.Command = {
            "op": "hold",
            "buyer": buyer_id,
            "hold_id": request.hold_id,
            "items": items,
        }
        if rules.has_line(sale):
            command["place"] = self._admitted_place(request, buyer_id)
        result = await self._store.submit(request.sale, command)
        # A hold that was made before is answered with its state, also where that ended since.
        if result["word"] == "HELD" or result.get("hold"):
            return pb.HoldResponse(hold=translate.hold_of(result["hold"]))
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

    def forget(self, sale: str) -> None:
        """Lets go of what is kept for an archived sale."""
        self._snapshots.forget(sale)

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
