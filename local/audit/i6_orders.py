"""I6: every accepted order reaches exactly one terminal state."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from local.audit.facts import Announced, Facts
from local.audit.findings import Finding
from services.checkout.states import TERMINAL, TRANSITIONS, OrderState


def check(facts: Facts) -> Finding:
    """Every order of INTAKE has its row and the other way round, and each went a legal way to its end."""
    finding = Finding("I6", "Every accepted order reaches exactly one terminal state")
    by_state = Counter(str(order.state) for order in facts.orders.values())
    finding.looked_at = {"accepted": len(facts.intake), **by_state}
    for intake in facts.intake:
        if intake.order is None:
            finding.wrong(f"INTAKE message {intake.stream_seq} ({intake.subject}) cannot be read")
        elif intake.order.order_id not in facts.orders:
            _open_or_wrong(facts, finding, f"order {intake.order.order_id} was accepted, but has no row")
    for order in facts.orders.values():
        if order.order_id not in facts.accepted:
            finding.wrong(f"order {order.order_id} has a row, but was never accepted")
        if not order.ended:
            _open_or_wrong(facts, finding, f"order {order.order_id} is still {order.state}")
        elif (order.state is OrderState.CONFIRMED) == bool(order.reason):
            finding.wrong(f"order {order.order_id} is {order.state} with the reason {order.reason!r}")
    for order_id, states in facts.announced.items():
        _check_way(order_id, states, finding)
    return finding


def _open_or_wrong(facts: Facts, finding: Finding, sentence: str) -> None:
    if facts.settled:
        finding.wrong(sentence)
    else:
        finding.under_way += 1


def _check_way(order_id: str, states: Sequence[Announced], finding: Finding) -> None:
    """Neighbouring versions are one legal transition apart; an order that ended stays as it ended."""
    late_payments = 0
    for before, after in pairwise(states):
        if before.state is None or after.state is None or after.version != before.version + 1:
            continue
        if before.state is OrderState.EXPIRED and after.state is OrderState.CAPTURING:
            late_payments += 1
            if late_payments > 1:
                finding.wrong(f"order {order_id} came back from {before.state} {late_payments} times")
            continue
        stays = before.state is after.state and before.state in TERMINAL
        if not stays and after.state not in TRANSITIONS[before.state]:
            finding.wrong(f"order {order_id} went from {before.state} to {after.state}")
