"""I7: same idempotency key, same request: same order, one effect."""

from collections import Counter

from local.audit.facts import Facts, Intake
from local.audit.findings import Finding
from local.audit.replay import Replay
from services.checkout import rules
from services.checkout.messages import items_of
from services.checkout.states import OrderState


def check(facts: Facts, replay: Replay) -> Finding:
    """One message, one row, one hold, one session and one set of tickets for each (buyer, key)."""
    finding = Finding("I7", "One key, one request, one order, one effect")
    finding.violations += replay.wrong["I7"]
    finding.looked_at = {
        "keys": len(facts.intake),
        "orders": len(facts.orders),
        "holds of orders": sum(map(len, replay.holds_of_order.values())),
    }
    for subject, count in Counter(intake.subject for intake in facts.intake).items():
        if count > 1:
            finding.wrong(f"{count} orders were accepted on {subject}")
    for intake in facts.intake:
        _check_intake(facts, intake, finding)
    _check_orders(facts, finding)
    _check_effects(facts, replay, finding)
    return finding


def _check_intake(facts: Facts, intake: Intake, finding: Finding) -> None:
    asked = intake.order
    if asked is None:
        return
    order_id = rules.order_id_of(facts.sale, asked.buyer, asked.idempotency_key)
    if (asked.order_id, intake.subject) != (
        order_id,
        rules.intake_subject(facts.sale, asked.buyer, order_id),
    ):
        finding.wrong(
            f"INTAKE message {intake.stream_seq} of key {asked.idempotency_key} is not order {order_id}"
        )
    request_hash = rules.request_hash(
        facts.sale, asked.buyer, asked.idempotency_key, items_of(asked.items), asked.hold_id
    )
    if asked.request_hash != request_hash:
        finding.wrong(f"the request of order {asked.order_id} does not have the hash that INTAKE says")
    order = facts.orders.get(asked.order_id)
    if order is None:
        return
    if order.request_hash != asked.request_hash:
        finding.wrong(f"order {order.order_id} has another request's hash than it was accepted with")
    if (order.buyer, order.idempotency_key) != (asked.buyer, asked.idempotency_key):
        finding.wrong(f"order {order.order_id} has another buyer or key than it was accepted with")


def _check_orders(facts: Facts, finding: Finding) -> None:
    keys = Counter((order.buyer, order.idempotency_key) for order in facts.orders.values())
    for (buyer, key), count in keys.items():
        if count > 1:
            finding.wrong(f"key {key} of {buyer} made {count} orders")
    for order in facts.orders.values():
        if order.state is not OrderState.CONFIRMED:
            continue
        units = Counter((ticket.section, ticket.unit) for ticket in facts.tickets_of.get(order.order_id, ()))
        if units != Counter(order.units):
            count = units.total()
            finding.wrong(
                f"order {order.order_id} has {count} tickets that are not its {len(order.units)} units"
            )


def _check_effects(facts: Facts, replay: Replay, finding: Finding) -> None:
    for order_id, holds in replay.holds_of_order.items():
        if len(holds) > 1:
            finding.wrong(f"order {order_id} has {len(holds)} holds")
        order = facts.orders.get(order_id)
        if order is not None and holds != {order.hold_id}:
            finding.wrong(f"order {order_id} says its hold is {order.hold_id}, the ledger {sorted(holds)}")
    for order_id, sessions in facts.sessions_of.items():
        if len(sessions) > 1:
            finding.wrong(f"order {order_id} has {len(sessions)} payment sessions")
