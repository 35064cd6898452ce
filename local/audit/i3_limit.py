"""I3: a buyer never holds plus owns more than the sale's limit per buyer."""

from collections import Counter

from local.audit.facts import Facts
from local.audit.findings import Finding
from local.audit.replay import Replay


def check(facts: Facts, replay: Replay) -> Finding:
    """Every step of the ledger, Redis' counts by buyer, and the live tickets by buyer."""
    finding = Finding("I3", "No buyer holds and owns more than the limit")
    finding.violations += replay.wrong["I3"]
    # A limit may have been higher when the tickets were bought.
    limit = max(definition.spec.limits.per_buyer for definition in facts.definitions.values())
    owned = Counter(
        facts.orders[ticket.order_id].buyer
        for ticket in facts.tickets
        if ticket.live and ticket.order_id in facts.orders
    )
    finding.looked_at = {"buyers": len(replay.buyers), "owners": len(owned), "limit": limit}
    for buyer, count in owned.items():
        if count > limit:
            finding.wrong(f"{buyer} owns {count} live tickets, where {limit} is the limit")
    _check_store(facts, replay, finding)
    return finding


def _check_store(facts: Facts, replay: Replay, finding: Finding) -> None:
    store = facts.inventory_store
    if store is None:
        return
    nothing = (0, 0, 0)
    for buyer in replay.buyers.keys() | store.buyers.keys():
        has = replay.buyers.get(buyer)
        by_events = (has.held, has.owned, has.claimed) if has else nothing
        counted = store.buyers.get(buyer, nothing)
        if counted != by_events:
            finding.wrong(f"{buyer} has {counted} (held, owned, claimed) in Redis, {by_events} by the events")
