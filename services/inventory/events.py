"""The outbox's changes as the events of catraca.events.v1."""

from collections.abc import Mapping, Sequence
from typing import Any

from catraca.events.v1 import events_pb2 as pb

from services.inventory.house import House
from services.inventory.translate import fill_unit

Change = Mapping[str, Any]

_ACTS = {name.removeprefix("INVENTORY_ACT_"): number for name, number in pb.InventoryAct.items()}
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
        "block_id",
        "repair",
    }
)


def batch_of(sale: str, epoch: int, changes: Sequence[Change], house: House) -> pb.InventoryBatch:
    """Consecutive changes of one sale as they are published, with the names of its seats."""
    for change in changes:
        house.name_units(change.get("units") or ())
    batch = pb.InventoryBatch(sale=sale, epoch=epoch)
    for change in changes:
        _fill_change(batch.changes.add(), change)
    return batch


def act_name(act: int) -> str:
    """An act without its prefix."""
    return pb.InventoryAct.Name(pb.InventoryAct.ValueType(act)).removeprefix("INVENTORY_ACT_")


def change_of(change: Change) -> pb.InventoryChange:
    """One transition as the script made it."""
    message = pb.InventoryChange()
    _fill_change(message, change)
    return message


def _fill_change(message: pb.InventoryChange, change: Change) -> None:
    message.act = _ACTS[change["act"]]
    for name, value in change.items():
        if name in _PLAIN and value is not None:
            setattr(message, name, value)
    add = message.units.add
    for unit in change.get("units") or ():
        fill_unit(add(), unit)
    for item in change.get("items") or ():
        message.items.add(**item)
