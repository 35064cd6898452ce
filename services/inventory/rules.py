"""What a request must look like before it reaches the ledger, and what the ledger's script sees of a sale."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.errors import Refusal
from services.kit.plans.layout import Layout

SALE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LABEL = SALE_ID
HOLD_ID = re.compile(r"[a-z0-9-]{8,64}")
BUYER_ID = re.compile(r"[a-z2-7]{26}")
ORDER_ID = BUYER_ID

ITEMS = 10
QUANTITY = 100
CALLEES = 1000
COMMANDS = 1000
# More than any hold has: every item of it at its largest.
UNITS = ITEMS * QUANTITY
# What one block may take: a run of the script serves nobody else meanwhile.
BLOCKED = 1000
SEAT_CHARS = 100
SEATS_PAGE, SEATS_LARGEST_PAGE = 2000, 5000
# Lua counts in doubles: integers beyond this are not exact there.
LARGEST = 2**53 - 1
# Moments are told as Timestamps, which end with the year 9999.
LAST_MS = 253_402_300_799_999

_USES = frozenset(pb.SeatUse.values())

Item = TypeVar("Item")
Command = dict[str, Any]
"""One command as the script takes it: `op` and named fields; what is absent is left out."""


def definition_for_script(sale: sale_pb2.Sale, layouts: Mapping[str, Layout]) -> dict[str, Any]:
    """The part of a sale's definition that the ledger goes by, times in milliseconds.

    `layouts` are those of the seated sections. Raises Refusal DEFINITION_INVALID for a sale without sections,
    and for a seated section without seats.
    """
    spec = sale.spec
    if not spec.sections:
        raise _not_kept("spec.sections", "a sale has at least one section")
    for place, section in enumerate(spec.sections):
        if section.kind == sale_pb2.SECTION_KIND_SEATED and section.id not in layouts:
            raise _not_kept(f"spec.sections[{place}].kind", "there is no seating plan")
    release_ms = release_ms_of(spec)
    return {
        **({} if release_ms is None else {"release_ms": release_ms}),
        "line": has_line(sale),
        "lobby_opens_ms": _ms(spec.window.lobby_opens_at),
        "opens_ms": _ms(spec.window.opens_at),
        "closes_ms": _ms(spec.window.closes_at),
        "paused": spec.paused,
        "rehearsal": spec.rehearsal,
        "concurrency": spec.line.concurrency,
        "turn_ms": _duration_ms(spec.line.turn_duration),
        "limit": spec.limits.per_buyer,
        "holds_per_turn": spec.limits.holds_per_turn,
        "hold_ms": _duration_ms(spec.holds.duration),
        "queue_max_ms": _duration_ms(spec.orders.queue_max),
        "sections": [
            {
                "id": section.id,
                "capacity": section.capacity,
                **({"seats": layouts[section.id].for_script()} if section.id in layouts else {}),
                "types": [
                    {"id": each.id, "price": each.price, "quota": each.quota} for each in section.ticket_types
                ],
            }
            for section in spec.sections
        ],
    }


def _not_kept(path: str, problem: str) -> Refusal:
    return Refusal("DEFINITION_INVALID", f"{path}: {problem}.", path=path, problem=problem)


def seats_of(spec: sale_pb2.SaleSpec) -> sale_pb2.SaleSpec:
    """The part of a spec that units follow from: the plan's digest and which seats are whose."""
    part = sale_pb2.SaleSpec()
    for section in spec.sections:
        if section.kind == sale_pb2.SECTION_KIND_SEATED and spec.HasField("seating_plan"):
            part.seating_plan.digest = spec.seating_plan.digest
            part.sections.add(id=section.id, kind=section.kind, seats=section.seats)
    return part


def release_ms_of(spec: sale_pb2.SaleSpec) -> int | None:
    """When accessible and companion seats become anyone's; None where they never do."""
    return _ms(spec.seating_plan.release_at) if spec.seating_plan.HasField("release_at") else None


def has_line(sale: sale_pb2.Sale) -> bool:
    """Whether buyers are called, rather than hold while the sale is open."""
    return bool(sale.spec.line.kind != sale_pb2.LINE_KIND_NONE)


def _ms(moment: Timestamp) -> int:
    return int(moment.ToMilliseconds())


def _duration_ms(duration: Duration) -> int:
    return int(duration.ToMilliseconds())


def check_sale(sale: str) -> None:
    """Raises Refusal INVALID_FIELD for what cannot be a sale's id."""
    _match(SALE_ID, sale, "sale", "a DNS label of at most 63 characters")


def check_hold_id(hold_id: str) -> None:
    """Raises Refusal INVALID_FIELD for what cannot be a hold's id."""
    _match(HOLD_ID, hold_id, "hold_id", "8 to 64 characters of a–z, 0–9 and hyphens")


def items_of(items: "pb.HoldRequest | pb.ClaimCommand | pb.HoldCommand | OrderUnits") -> list[dict[str, Any]]:
    """The items of a request or command, which the sale's House makes into those that the script takes.

    Raises Refusal INVALID_FIELD or INVALID_QUANTITY.
    """
    asked = items.items
    if not 1 <= len(asked) <= ITEMS:
        raise _invalid("items", f"1 to {ITEMS} items")
    return _each(asked, _item_of)


def _each(items: Iterable[Item], read: Callable[[Item], dict[str, Any]]) -> list[dict[str, Any]]:
    """Every item as `read` makes it; what one is refused for is told with the item's place."""
    found: list[dict[str, Any]] = []
    try:
        for item in items:
            found.append(read(item))
    except Refusal as refusal:
        refusal.metadata["field"] = f"items[{len(found)}].{refusal.metadata['field']}"
        raise
    return found


def _item_of(item: pb.HoldItem) -> dict[str, Any]:
    wanted = _some_of(item, QUANTITY)
    if ticket_type := item.ticket_type:
        _match(LABEL, ticket_type, "ticket_type", "a ticket type's id")
        wanted["ticket_type"] = ticket_type
    if item.together:
        wanted["together"] = True
    if use := item.use:
        if use not in _USES:
            raise _invalid("use", "one of the uses")
        wanted["use"] = pb.SeatUse.Name(use).removeprefix("SEAT_USE_")
    return wanted


def blocked_of(request: "pb.BlockRequest | pb.BlockCommand") -> list[dict[str, Any]]:
    """The items of a block, as `items_of`."""
    if not 1 <= len(request.items) <= ITEMS:
        raise _invalid("items", f"1 to {ITEMS} items")
    items = _each(request.items, lambda item: _some_of(item, BLOCKED))
    if sum(item["quantity"] for item in items) > BLOCKED:
        raise Refusal("INVALID_QUANTITY", field="items", expected=f"{BLOCKED} units together at most")
    return items


def _some_of(item: pb.HoldItem | pb.BlockItem, most: int) -> dict[str, Any]:
    """So many units of a section, or its seats."""
    section, quantity = item.section, item.quantity
    _match(LABEL, section, "section", "a section's id")
    if not 1 <= quantity <= most:
        raise Refusal("INVALID_QUANTITY", field="quantity", expected=f"1 to {most}")
    wanted: dict[str, Any] = {"section": section, "quantity": quantity}
    if seats := item.seats:
        if len(seats) > most or not all(_is_seat(seat) for seat in seats):
            raise _invalid("seats", f"at most {most} ids of seats")
        wanted["seats"] = list(seats)
    return wanted


def _is_seat(seat: str) -> bool:
    return 0 < len(seat) <= SEAT_CHARS and seat.isprintable()


def check_section(section: str) -> None:
    """Raises Refusal INVALID_FIELD for what cannot be a section's id."""
    _match(LABEL, section, "section", "a section's id")


def check_block_id(block_id: str) -> None:
    """Raises Refusal INVALID_FIELD for what cannot be a block's id."""
    _match(HOLD_ID, block_id, "block_id", "8 to 64 characters of a–z, 0–9 and hyphens")


def page_of(request: pb.ListSeatsRequest) -> tuple[int, int]:
    """The first unit of a page and the one after its last. Raises Refusal INVALID_FIELD."""
    if request.first_unit < 0:
        raise _invalid("first_unit", "0 or more")
    if not 0 <= request.page_size <= SEATS_LARGEST_PAGE:
        raise _invalid("page_size", f"0 to {SEATS_LARGEST_PAGE}")
    return request.first_unit, request.first_unit + (request.page_size or SEATS_PAGE)


def command_of(command: pb.Command) -> Command:
    """One command of the contract as the script takes it, once the sale's House has made seats into units.

    Raises Refusal for one that cannot be.
    """
    kind = command.WhichOneof("command")
    if kind is None:
        raise _invalid("command", "one of the commands")
    read = _TRANSLATORS[kind](getattr(command, kind))
    read["op"] = kind
    return read


def _call(command: pb.CallCommand) -> Command:
    start, end = getattr(command, "from"), command.to
    _bounded(start, "from")
    _bounded(end, "to")
    if len(command.callees) > CALLEES:
        raise _invalid("callees", f"at most {CALLEES}")
    return {"from": start, "to": end, "callees": [_callee(callee) for callee in command.callees]}


def _callee(callee: pb.Callee) -> dict[str, Any]:
    _match(BUYER_ID, callee.buyer, "callees.buyer", "an internal buyer id")
    _bounded(callee.place, "callees.place")
    _bounded(callee.joined_at_ms, "callees.joined_at_ms", most=LAST_MS)
    _bounded(callee.want, "callees.want", most=QUANTITY)
    called = {"buyer": callee.buyer, "place": callee.place, "joined_at_ms": callee.joined_at_ms}
    return called | ({"want": callee.want} if callee.want else {})


def _claim(command: pb.ClaimCommand) -> Command:
    fields = _of_buyer(command) | _of_order(command) | _place_of(command)
    if command.hold_id:
        check_hold_id(command.hold_id)
        if command.items:
            raise _invalid("items", "none beside a hold_id")
        return fields | {"hold_id": command.hold_id}
    return fields | {"items": items_of(command)}


def _hold(command: pb.HoldCommand) -> Command:
    fields = _of_hold(command)
    if command.order_id:
        if command.items or command.HasField("place"):
            raise _invalid("items", "neither items nor place beside an order_id")
        return fields | _of_order(command)
    if command.HasField("place"):
        fields |= _place_of(command)
    fields["items"] = items_of(command)
    return fields


def _pin(command: pb.PinCommand) -> Command:
    if command.until_ms < 1:
        raise _invalid("until_ms", "milliseconds since 1970")
    _bounded(command.until_ms, "until_ms", most=LAST_MS)
    return _of_hold(command) | _of_order(command) | {"until_ms": command.until_ms}


def _release(command: pb.ReleaseCommand) -> Command:
    return _of_hold(command) | (_of_order(command) if command.order_id else {})


def _commit(command: pb.CommitCommand) -> Command:
    return _of_hold(command) | _of_order(command)


def _return(command: pb.ReturnCommand) -> Command:
    if len(command.units) > UNITS:
        raise _invalid("units", f"at most {UNITS}")
    units = []
    for unit in command.units:
        _match(LABEL, unit.section, "units.section", "a section's id")
        _bounded(unit.unit, "units.unit")
        units.append({"section": unit.section, "unit": unit.unit})
    return _of_hold(command) | _of_order(command) | {"units": units}


def _block(command: pb.BlockCommand) -> Command:
    check_block_id(command.block_id)
    return {"block_id": command.block_id, "items": blocked_of(command)}


def _unblock(command: pb.UnblockCommand) -> Command:
    check_block_id(command.block_id)
    return {"block_id": command.block_id}


def _reacquire(command: pb.ReacquireCommand) -> Command:
    if not 1 <= len(command.units) <= UNITS:
        raise _invalid("units", f"1 to {UNITS}")
    units = []
    for unit in command.units:
        _match(LABEL, unit.section, "units.section", "a section's id")
        _match(LABEL, unit.ticket_type, "units.ticket_type", "a ticket type's id")
        _bounded(unit.unit, "units.unit")
        _bounded(unit.price, "units.price")
        units.append(
            {
                "section": unit.section,
                "unit": unit.unit,
                "ticket_type": unit.ticket_type,
                "price": unit.price,
            }
        )
    if len({(unit["section"], unit["unit"]) for unit in units}) < len(units):
        raise _invalid("units", "each unit once")
    return _of_hold(command) | _of_order(command) | {"units": units}


def _turn(command: pb.LapseCommand | pb.LookCommand) -> Command:
    _bounded(command.place, "place")
    return _of_buyer(command) | {"place": command.place}


_TRANSLATORS: Mapping[str, Callable[[Any], Command]] = {
    "call": _call,
    "claim": _claim,
    "hold": _hold,
    "pin": _pin,
    "release": _release,
    "commit": _commit,
    "return": _return,
    "reacquire": _reacquire,
    "lapse": _turn,
    "look": _turn,
    "block": _block,
    "unblock": _unblock,
}


def _of_buyer(command: Any) -> Command:
    buyer = command.buyer
    _match(BUYER_ID, buyer, "buyer", "an internal buyer id")
    return {"buyer": buyer}


def _of_hold(command: Any) -> Command:
    hold_id, fields = command.hold_id, _of_buyer(command)
    check_hold_id(hold_id)
    fields["hold_id"] = hold_id
    return fields


def _of_order(command: Any) -> Command:
    _match(ORDER_ID, command.order_id, "order_id", "an order's id")
    return {"order_id": command.order_id}


def _place_of(command: pb.ClaimCommand | pb.HoldCommand) -> Command:
    if not command.HasField("place"):
        return {}
    _bounded(command.place, "place")
    return {"place": command.place}


def _bounded(value: int, field: str, most: int = LARGEST) -> None:
    if not 0 <= value <= most:
        raise _invalid(field, f"0 to {most}")


def _match(pattern: "re.Pattern[str]", text: str, field: str, expected: str) -> None:
    if not pattern.fullmatch(text):
        raise _invalid(field, expected)


def _invalid(field: str, expected: str) -> Refusal:
    return Refusal("INVALID_FIELD", field=field, expected=expected)
