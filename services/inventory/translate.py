"""The script's results as the contract's messages."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2

from services.kit.errors import Refusal, refuse_word
from services.kit.plans.layout import Layout

Result = Mapping[str, Any]

_TIME = "_at"
_HOLD_STATES = {name.removeprefix("HOLD_STATE_"): number for name, number in pb.HoldState.items()}


def fill_result(message: pb.Result, result: Result) -> None:
    """One command's outcome, into an empty message: one is filled for every command of a batch."""
    message.word = result["word"]
    message.at_ms = result["at_ms"]
    if hold := result.get("hold"):
        fill_hold(message.hold, hold)
    if result.get("detail"):
        message.detail.update(metadata_of(result))
    if result.get("granted"):
        message.granted = result["granted"]
    if result.get("claim_until_ms"):
        message.claim_until_ms = result["claim_until_ms"]
    if result.get("block"):
        message.block.CopyFrom(block_of(result["block"]))
    if result.get("promise"):
        message.promise.CopyFrom(pb.Promise(**result["promise"]))
    if result.get("ledger"):
        message.ledger.CopyFrom(ledger_of(result["ledger"]))


def fill_refused(message: pb.Result, refusal: Refusal) -> None:
    """The outcome of a command that never reached the script."""
    message.word = refusal.word
    message.detail.update(refusal.metadata)


def refusal_of(result: Result) -> Refusal:
    """The refusal that a result's word is."""
    return refuse_word(result["word"], metadata_of(result))


def metadata_of(result: Result) -> dict[str, str]:
    """A refusal's detail as text: moments as RFC 3339, everything else as it is."""
    detail = result.get("detail") or {}
    return {name: _moment(value) if name.endswith(_TIME) else str(value) for name, value in detail.items()}


def hold_of(hold: Result) -> pb.Hold:
    """Units kept for someone."""
    message = pb.Hold()
    fill_hold(message, hold)
    return message


def fill_hold(message: pb.Hold, hold: Result) -> None:
    """The same into an empty message that is there already."""
    message.hold_id = hold["hold_id"]
    message.state = _HOLD_STATES[hold["state"]]
    if hold.get("order_id"):
        message.order_id = hold["order_id"]
    add = message.units.add
    for unit in hold["units"]:
        fill_unit(add(), unit)
    if hold.get("expires_at_ms"):
        seconds, ms = divmod(hold["expires_at_ms"], 1000)
        message.expires_at.seconds, message.expires_at.nanos = seconds, ms * 1_000_000


def unit_of(unit: Result) -> pb.HeldUnit:
    """One unit in a hold, or in a block."""
    message = pb.HeldUnit()
    fill_unit(message, unit)
    return message


def fill_unit(message: pb.HeldUnit, unit: Result) -> None:
    """The same into a message that is there already."""
    message.section = unit["section"]
    message.unit = unit["unit"]
    # A blocked unit has neither, and only a seat has a name.
    if ticket_type := unit.get("ticket_type"):
        message.ticket_type = ticket_type
    if price := unit.get("price"):
        message.price = price
    if seat := unit.get("seat"):
        message.seat = seat


def seat_of(layout: Layout, unit: int) -> pb.Seat:
    """One seat of a section."""
    x, y = layout.points[unit]
    return pb.Seat(
        unit=unit,
        id=layout.ids[unit],
        name=layout.labels[unit],
        x=x,
        y=y,
        # Uses have the same numbers in a layout; an ordinary seat's is the enum's zero.
        use=pb.SeatUse.ValueType(layout.use_of(unit)),
    )


def block_of(block: Result) -> pb.Block:
    """Units taken out of the sale."""
    units = [unit_of(unit) for unit in block["units"]]
    return pb.Block(block_id=block["block_id"], blocked=block["blocked"], units=units)


def ledger_of(ledger: Result) -> pb.Ledger:
    """The ledger's own numbers."""
    return pb.Ledger(**{**ledger, "counts": sale_pb2.SaleCounts(**ledger["counts"])})


def section_of(counts: Result) -> pb.SectionCounts:
    """One section's counts."""
    return pb.SectionCounts(**counts)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
