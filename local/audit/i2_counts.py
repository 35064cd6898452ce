"""I2: held + sold never exceeds capacity, promised never what is free to sell, and no counter is negative."""

from local.audit.facts import Facts, SectionCounts
from local.audit.findings import Finding
from local.audit.replay import Replay


def check(facts: Facts, replay: Replay) -> Finding:
    """Every step of the ledger, and Redis' own counters."""
    finding = Finding("I2", "held + sold ≤ capacity, promised ≤ sellable, no counter negative")
    finding.violations += replay.wrong["I2"]
    finding.looked_at = {
        "steps": replay.sequence,
        "sections": len(replay.sections),
        "promises": len(replay.promises),
    }
    _check_tickets(facts, finding)
    _check_sections(facts, replay, finding)
    _check_promises(facts, replay, finding)
    return finding


def _check_tickets(facts: Facts, finding: Finding) -> None:
    capacity = {section.id: section.capacity for section in facts.definition.spec.sections}
    live: dict[str, int] = {}
    for ticket in facts.tickets:
        live[ticket.section] = live.get(ticket.section, 0) + ticket.live
    for section, count in live.items():
        if count > capacity.get(section, 0):
            finding.wrong(f"section {section} has {count} live tickets for {capacity.get(section, 0)} units")


def _check_sections(facts: Facts, replay: Replay, finding: Finding) -> None:
    store = facts.inventory_store
    if store is None:
        return
    for name in sorted(replay.sections.keys() | store.sections.keys()):
        known = replay.sections.get(name)
        by_events = known and SectionCounts(
            known.capacity, known.held, known.sold, known.blocked, known.claimed
        )
        counted = store.sections.get(name)
        if counted != by_events:
            finding.wrong(f"section {name} is counted as {counted} in Redis, as {by_events} by the events")
        if counted and min(counted.held, counted.sold, counted.blocked, counted.claimed) < 0:
            finding.wrong(f"section {name} has a negative counter in Redis: {counted}")
    for name, is_now, should in (
        ("promised units", store.promised, replay.promised),
        ("running turns", store.turns, replay.turns),
        ("open claims", store.claims, len(replay.claims)),
    ):
        if is_now != should:
            finding.wrong(f"Redis counts {is_now} {name}, the events {should}")


def _check_promises(facts: Facts, replay: Replay, finding: Finding) -> None:
    store = facts.inventory_store
    if store is None:
        return
    for buyer in replay.promises.keys() | store.promises.keys():
        promise, stored = replay.promises.get(buyer), store.promises.get(buyer)
        by_events = promise and (promise.place, promise.left, promise.live)
        is_now = stored and (stored.place, stored.left, stored.state == "PROMISED")
        if by_events != is_now:
            finding.wrong(
                f"the promise of {buyer} (place, left, live) is {is_now} in Redis, {by_events} by the events"
            )
