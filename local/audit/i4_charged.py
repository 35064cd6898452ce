"""I4: nobody is charged without a ticket: what was taken is what tickets cost, or was paid back in full."""

from local.audit.facts import Facts, Order, Session
from local.audit.findings import Finding


def check(facts: Facts) -> Finding:
    """Every session in the provider's own ledger, and every payment that checkout believes taken."""
    finding = Finding("I4", "Every captured payment has its tickets, or was refunded in full")
    finding.looked_at = {
        "sessions": len(facts.sessions),
        "captured": sum(session.captured > 0 for session in facts.sessions),
        "refunded": sum(session.refunded > 0 for session in facts.sessions),
    }
    for session in facts.sessions:
        _check_session(facts, session, finding)
    _check_payments(facts, finding)
    return finding


def _check_session(facts: Facts, session: Session, finding: Finding) -> None:
    order = facts.orders.get(session.order_id)
    charged = session.captured - session.refunded
    name = f"session {session.session_id} of order {session.order_id}"
    if session.refunded > session.captured or session.captured not in (0, session.amount):
        finding.wrong(f"{name} took {session.captured} of {session.amount}, paid back {session.refunded}")
    if facts.too_new(session.order_id):
        finding.under_way += 1
        return
    if order is None:
        if charged or session.state == "authorized":
            finding.wrong(f"{name} is {session.state} with {charged} charged, but there is no such order")
        return
    if session.amount != order.amount and (facts.settled or order.units):
        finding.wrong(f"{name} asks for {session.amount}, the order costs {order.amount}")
    if charged:
        _check_charged(facts, order, charged, finding)
    elif session.state == "authorized" and order.ended:
        _open_or_wrong(
            facts, order, finding, f"{name} keeps money reserved for an order that is {order.state}"
        )


def _check_charged(facts: Facts, order: Order, charged: int, finding: Finding) -> None:
    live = [ticket for ticket in facts.tickets_of.get(order.order_id, ()) if ticket.live]
    worth = sum(ticket.price for ticket in live)
    has_codes = all(ticket.code for ticket in live)
    if order.state == "CONFIRMED" and live and has_codes and worth >= charged:
        return
    sentence = (
        f"order {order.order_id} ({order.state}) is charged {charged} "
        f"for {len(live)} live tickets worth {worth}{'' if has_codes else ' that were never issued'}"
    )
    if order.ended:
        _open_or_wrong(facts, order, finding, sentence)
    elif facts.settled:
        finding.wrong(sentence)
    else:
        finding.under_way += 1


def _open_or_wrong(facts: Facts, order: Order, finding: Finding, sentence: str) -> None:
    """Money that checkout is about to give back is under way; any other is lost to its owner."""
    payment = facts.payments.get(order.order_id)
    is_going_back = payment is not None and payment.state in ("VOIDING", "REFUNDING", "OPEN", "LAPSED")
    if is_going_back and not facts.settled:
        finding.under_way += 1
    else:
        finding.wrong(sentence)


def _check_payments(facts: Facts, finding: Finding) -> None:
    known = {session.session_id: session for session in facts.sessions}
    for payment in facts.payments.values():
        session = known.get(payment.session_id)
        name = f"payment of order {payment.order_id}"
        if session is None or session.order_id != payment.order_id:
            finding.wrong(f"the {name} names session {payment.session_id}, which the provider has not for it")
        elif payment.state == "CAPTURED" and session.captured == 0:
            finding.wrong(f"the {name} is CAPTURED, but the provider took nothing")
        elif payment.state == "REFUNDED" and session.refunded < session.captured:
            finding.wrong(f"the {name} is REFUNDED, but the provider paid {session.refunded} back")
