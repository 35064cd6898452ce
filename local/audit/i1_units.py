"""I1: a unit is sold to at most one live ticket; ledger, its Redis and the tickets agree on every unit."""

from local.audit.facts import Facts
from local.audit.findings import Finding
from local.audit.replay import NAMES, Replay, Section
from services.checkout.states import OrderState

WITH_TICKETS = frozenset({OrderState.CAPTURING, OrderState.CONFIRMED})
UNITS_PER_BYTE = 4


def check(facts: Facts, replay: Replay) -> Finding:
    """Every unit: by the events, by Redis, by the tickets."""
    finding = Finding("I1", "A unit is sold to at most one live ticket")
    finding.violations += replay.wrong["I1"]
    finding.looked_at = {
        "units": sum(section.capacity for section in replay.sections.values()),
        "holds": len(replay.holds),
        "live tickets": sum(ticket.live for ticket in facts.tickets),
    }
    sold = _sold(replay)
    _check_tickets(facts, sold, finding)
    _check_sold(facts, sold, finding)
    _check_store(facts, replay, finding)
    return finding


def _sold(replay: Replay) -> dict[tuple[str, int], str]:
    """Which order each SOLD unit belongs to."""
    return {unit: hold.order_id for hold in replay.holds.values() for unit in hold.sold_units}


def _check_tickets(facts: Facts, sold: dict[tuple[str, int], str], finding: Finding) -> None:
    owner: dict[tuple[str, int], str] = {}
    for ticket in facts.tickets:
        if not ticket.live:
            continue
        unit = (ticket.section, ticket.unit)
        name = f"unit {ticket.section}/{ticket.unit}"
        if unit in owner:
            finding.wrong(f"{name} has two live tickets, {owner[unit]} and {ticket.ticket_id}")
        owner[unit] = ticket.ticket_id
        order = facts.orders.get(ticket.order_id)
        if order is None or order.state not in WITH_TICKETS:
            state = "does not exist" if order is None else f"is {order.state}"
            finding.wrong(f"ticket {ticket.ticket_id} is live, but its order {ticket.order_id} {state}")
        elif unit not in order.units:
            finding.wrong(f"ticket {ticket.ticket_id} is for {name}, which its order never held")
        if sold.get(unit) != ticket.order_id:
            of = f"sold to order {sold[unit]}" if unit in sold else "not sold in the ledger"
            finding.wrong(f"{name} has ticket {ticket.ticket_id} of order {ticket.order_id}, but is {of}")


def _check_sold(facts: Facts, sold: dict[tuple[str, int], str], finding: Finding) -> None:
    ticketed = {(ticket.section, ticket.unit) for ticket in facts.tickets if ticket.live}
    for unit, order_id in sold.items():
        if unit in ticketed:
            continue
        order = facts.orders.get(order_id)
        if not facts.settled and (order is None or not order.ended or order.owes_units):
            finding.under_way += 1
        else:
            state = "unknown" if order is None else order.state
            finding.wrong(f"unit {unit[0]}/{unit[1]} is sold to order {order_id} ({state}) without a ticket")


def _check_store(facts: Facts, replay: Replay, finding: Finding) -> None:
    store = facts.inventory_store
    if store is None:
        return
    for name, section in replay.sections.items():
        _check_map(name, section, store.units.get(name, b""), finding)
    for key, hold in replay.holds.items():
        stored = store.holds.get(key)
        units = [unit[:2] for unit in hold.units]
        if stored is None or (stored.state, stored.order_id) != (hold.state, hold.order_id):
            is_now = "absent" if stored is None else f"{stored.state} of order {stored.order_id or 'none'}"
            finding.wrong(
                f"hold {key[1]} of {key[0]} is {is_now} in Redis, "
                f"{hold.state} of order {hold.order_id or 'none'} by the events"
            )
        elif stored.units != units:
            finding.wrong(f"hold {key[1]} of {key[0]} has other units in Redis than by the events")
    for buyer, hold_id in store.holds.keys() - replay.holds.keys():
        finding.wrong(f"hold {hold_id} of {buyer} is in Redis, but no event made it")


def _check_map(name: str, section: Section, found: bytes, finding: Finding) -> None:
    """A section's map of units, two bits each."""
    expected = bytearray(-(-section.capacity // UNITS_PER_BYTE))
    for unit, state in section.units.items():
        if 0 <= unit < section.capacity:
            expected[unit >> 2] |= state << _shift(unit)
    found = found.ljust(len(expected), b"\0")
    if found == expected:
        return
    for unit in range(len(expected) * UNITS_PER_BYTE):
        is_now, should = found[unit >> 2] >> _shift(unit) & 3, expected[unit >> 2] >> _shift(unit) & 3
        if is_now != should:
            finding.wrong(f"unit {name}/{unit} is {NAMES[is_now]} in Redis, {NAMES[should]} by the events")
    # The map may be longer than the section, as it is written in pieces; but nothing is taken there.
    if any(found[len(expected) :]):
        finding.wrong(f"section {name} has units beyond its capacity in Redis")


def _shift(unit: int) -> int:
    """Where a unit's two bits stand in its byte: Redis counts from the highest."""
    return 6 - 2 * (unit & 3)
