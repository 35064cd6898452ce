"""Where the ledger and checkout's orders disagree about what is sold. Pure: no I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as api
from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.inventory.v1.inventory_pb2 import HeldUnit

from services.inventory.rebuild import TICKETED, UNSOLD, units_wanted
from services.inventory.replay import UnitId, id_of
from services.inventory.rules import Command


@dataclass(frozen=True, slots=True)
class SoldHold:
    """A hold that the ledger has SOLD, with those of its units that were not returned."""

    buyer: str
    hold_id: str
    order_id: str
    units: frozenset[UnitId]

    @classmethod
    def of(cls, hold: Mapping[str, Any]) -> "SoldHold":
        """As the command `sold` tells it."""
        units = ((unit["section"], unit["unit"]) for unit in hold["units"] if not unit.get("returned"))
        return cls(hold["buyer"], hold["hold_id"], hold.get("order_id") or "", frozenset(units))


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One hold that is not what the orders say. Equal ones are the same one, seen again."""

    act: str
    """RETURNED where the ledger has too much, REACQUIRED where it has too little."""
    buyer: str
    hold_id: str
    order_id: str
    units: frozenset[UnitId]

    def commands(self, order: OrderUnits | None) -> list[Command]:
        """What leads the ledger to the orders, each refused where the hold is not what it was."""
        of_order = {"hold_id": self.hold_id, "buyer": self.buyer, "order_id": self.order_id}
        if self.act == "RETURNED":
            named = [{"section": section, "unit": unit} for section, unit in sorted(self.units)]
            return [{"op": "return", **of_order, "units": named, "repair": True}]
        paid = [unit for unit in (order.units if order else ()) if id_of(unit) in self.units]
        # One of the two fits: the hold is HELD still, or its units are free.
        return [
            {"op": "commit", **of_order, "repair": True},
            {"op": "reacquire", **of_order, "units": [_unit(unit) for unit in paid], "repair": True},
        ]


def disagreements(orders: Mapping[str, OrderUnits], sold: Sequence[SoldHold]) -> Iterator[Disagreement]:
    """Every disagreement. Much of it may be work in flight: only what lasts is one."""
    sold_to = {hold.order_id: hold for hold in sold}
    for hold in sold:
        extra = hold.units - _may_have(orders.get(hold.order_id), hold)
        if extra:
            yield Disagreement("RETURNED", hold.buyer, hold.hold_id, hold.order_id, extra)
    for order in orders.values():
        if order.state not in TICKETED:
            continue
        wanted = frozenset(id_of(unit) for unit in units_wanted(order))
        known = sold_to.get(order.order_id)
        if wanted and (known is None or not known.units):
            yield Disagreement("REACQUIRED", order.buyer, order.hold_id, order.order_id, wanted)


def _may_have(order: OrderUnits | None, hold: SoldHold) -> frozenset[UnitId]:
    """Which of a hold's units its order may have SOLD."""
    if order is None or (order.state in UNSOLD and not order.owes_units):
        return frozenset()
    if order.state == api.ORDER_STATE_CONFIRMED:
        return frozenset(id_of(unit) for unit in units_wanted(order))
    return hold.units


def _unit(unit: HeldUnit) -> dict[str, Any]:
    return {
        "section": unit.section,
        "unit": unit.unit,
        "ticket_type": unit.ticket_type,
        "price": unit.price,
    }
