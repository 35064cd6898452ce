"""What a lost store is filled with: a replayed ledger as parts for the script. Pure: no I/O, no clock."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from catraca.checkout.v1 import checkout_pb2 as api
from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem

from services.inventory.house import House
from services.inventory.replay import Block, Claim, Hold, Promise, Replay
from services.inventory.rules import Command, items_of
from services.inventory.states import WORDS
from services.kit.errors import Refusal

# One part is one run of the script: it must not keep Redis from others for long.
RECORDS = 100
UNITS = 2000

T = TypeVar("T")


def parts_of(replay: Replay, orders: Mapping[str, OrderUnits], house: House, stamp: int) -> Iterator[Command]:
    """The commands that fill the store, numbered from 1, the last one with `last`; `stamp` is the last
    message's.
    """
    for number, part in enumerate(_parts(replay, orders, house, stamp), 1):
        yield {**part, "number": number}


def _parts(replay: Replay, orders: Mapping[str, OrderUnits], house: House, stamp: int) -> Iterator[Command]:
    yield from (_part(sections=[each]) for each in _sections(replay, house))
    # One may have as many units as a part can take.
    for block in replay.blocks.values():
        yield _part(blocks=[_block(block, house)])
    promises = [_promise(buyer, promise) for buyer, promise in replay.promises.items()]
    for records in _some(promises, RECORDS):
        yield _part(promises=records)
    for records in _some([_hold(hold) for hold in replay.holds.values()], RECORDS):
        yield _part(holds=records)
    for records in _some(_claims(replay, orders, house), RECORDS):
        yield _part(claims=records)
    last = {
        "sequence": replay.sequence,
        "watermark": replay.watermark,
        "at_ms": replay.at_ms,
        "stamp": stamp,
    }
    yield _part(last=last)


def _part(**filled: Any) -> Command:
    nothing: dict[str, Any] = {"sections": [], "blocks": [], "promises": [], "holds": [], "claims": []}
    return {"op": "fill", **nothing, **filled}


def _sections(replay: Replay, house: House) -> Iterator[dict[str, Any]]:
    """Where each standing section's units that were never taken begin, and which below are free.

    Of a seated one the states of its seats are all there is to know.
    """
    taken: dict[str, set[int]] = defaultdict(set)
    for section, unit in (*replay.taken, *replay.blocked):
        taken[section].add(unit)
    for section, units in taken.items():
        if section in house.layouts:
            continue
        fresh = max(units) + 1
        back = [unit for unit in range(fresh) if unit not in units]
        for some in _some(back, UNITS) if back else [[]]:
            yield {"id": section, "fresh": fresh, "returned": some}


def _promise(buyer: str, promise: Promise) -> dict[str, Any]:
    record = {
        "buyer": buyer,
        "state": promise.state,
        "place": promise.place,
        "allowance": promise.allowance,
        "left": promise.left,
        "called_at": promise.called_at_ms,
        "turn_ends": promise.turn_ends_ms,
        # Neither is published: what was taken in this turn before is not counted against it.
        "joined_at": 0,
        "holds": 0,
    }
    return record | ({"ended": promise.ended_ms} if promise.ended_ms else {})


def _hold(hold: Hold) -> dict[str, Any]:
    record: dict[str, Any] = {
        "buyer": hold.buyer,
        "hold_id": hold.hold_id,
        "state": hold.state,
        "ends": hold.ends_ms,
        "units": [
            _unit(unit) | ({"returned": True} if (unit.section, unit.unit) in hold.returned else {})
            for unit in hold.units
        ],
    }
    optional = {"order_id": hold.order_id, "pinned": hold.pinned, "waiting": hold.waiting}
    record |= {name: value for name, value in optional.items() if value}
    return record | ({} if hold.place is None else {"place": hold.place})


def _unit(unit: HeldUnit) -> dict[str, Any]:
    return {
        "section": unit.section,
        "unit": unit.unit,
        "ticket_type": unit.ticket_type,
        "price": unit.price,
    }


def _block(block: Block, house: House) -> dict[str, Any]:
    """`items` are what was asked for, as its units tell it: so many of each section, or its seats."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for unit in block.units:
        numbers[unit.section].append(unit.unit)
    return {
        "block_id": block.block_id,
        "state": block.state,
        "units": [{"section": unit.section, "unit": unit.unit} for unit in block.units],
        "items": [
            {"section": section, "quantity": len(units)}
            | ({"units": units} if section in house.layouts else {})
            for section, units in numbers.items()
        ],
    }


def _claims(replay: Replay, orders: Mapping[str, OrderUnits], house: House) -> list[dict[str, Any]]:
    """Every claim that the ledger had, and one for each order that must have had one: for repeats."""
    filled = [_claim(claim, orders.get(claim.order_id), house) for claim in replay.claims.values()]
    for order in orders.values():
        if order.order_id not in replay.claims and order.state != api.ORDER_STATE_ACCEPTED:
            filled.append(_claim_of(order, house))
    return filled


def _claim(claim: Claim, order: OrderUnits | None, house: House) -> dict[str, Any]:
    record: dict[str, Any] = {
        "order_id": claim.order_id,
        "buyer": claim.buyer,
        "word": "CLAIMED",
        "state": claim.state,
        "ends": claim.ends_ms,
        "lines": _lines(claim),
        "quantity": claim.quantity,
        "items": _asked(order, house) if order is not None and order.items else _items(claim.lines),
    }
    record |= {"hold_id": claim.hold_id} if claim.hold_id else {}
    return record | ({} if claim.place is None else {"place": claim.place})


def _claim_of(order: OrderUnits, house: House) -> dict[str, Any]:
    """The claim of an order that was taken on: spent, or refused as the order says."""
    refused = order.state == api.ORDER_STATE_REJECTED and order.reason in WORDS["claim"]
    record: dict[str, Any] = {
        "order_id": order.order_id,
        "buyer": order.buyer,
        "word": order.reason if refused else "CLAIMED",
        "state": "SPENT",
        "ends": order.accepted_at_ms,
        "lines": [],
        "quantity": 0,
        "items": _asked(order, house),
    }
    return record | ({} if order.items else {"hold_id": order.hold_id})


def _lines(claim: Claim) -> list[dict[str, Any]]:
    """The claim's lines, each of a seated section with the next of the seats that are kept."""
    lines, kept = _items(claim.lines), deque(claim.kept)
    for line in lines:
        if kept and kept[0].section == line["section"]:
            line["units"] = [kept.popleft().unit for _ in range(line["quantity"])]
    return lines


def _asked(order: OrderUnits, house: House) -> list[dict[str, Any]]:
    """What an order asks for as its commands bring it to the script: they must ask for the same again."""
    try:
        return house.with_units(items_of(order))
    except Refusal:
        # Such commands never reach it.
        return []


def _items(items: Iterable[HoldItem]) -> list[dict[str, Any]]:
    return [
        {"section": item.section, "quantity": item.quantity}
        | ({"ticket_type": item.ticket_type} if item.ticket_type else {})
        for item in items
    ]


def _some(records: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(records), most):
        yield records[start : start + most]
