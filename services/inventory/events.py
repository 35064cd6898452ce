"""The outbox's changes as the events of catraca.events.v1."""

from collections.abc import Mapping, Sequence
from typing import Any

from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1 import inventory_pb2

from services.inventory.house import House
from services.inventory.translate import unit_of

Change = Mapping[str, Any]

SUBJECT = "catraca.inventory.{sale}.units"

# Those that are copied as they are; the others are messages or enums.
_PLAIN = frozenset(
    {
        "sequence",
        "at_ms",
        "buyer",
        "place",
        "order_id",
        "hold_id",
        "quantity",
        "until_ms",
        "restored",
        "watermark",
        "repair",
        "block_id",
    }
)


def batch_of(sale: str, epoch: int, changes: Sequence[Change], house: House) -> pb.InventoryBatch:
    """Consecutive changes of one sale as they are published, with the names of its seats."""
    for change in changes:
        house.name_units(change.get("units") or ())
    return pb.InventoryBatch(sale=sale, epoch=epoch, changes=[change_of(change) for change in changes])


def act_name(act: int) -> str:
    """An act without its prefix."""
    return pb.InventoryAct.Name(pb.InventoryAct.ValueType(act)).removeprefix("INVENTORY_ACT_")


def change_of(change: Change) -> pb.InventoryChange:
    """One transition as the script made it."""
    return pb.InventoryChange(
        act=pb.InventoryAct.Value(f"INVENTORY_ACT_{change['act']}"),
        units=[unit_of(unit) for unit in change.get("units") or ()],
        items=[inventory_pb2.HoldItem(**item) for item in change.get("items") or ()],
        **{name: value for name, value in change.items() if name in _PLAIN},
    )
