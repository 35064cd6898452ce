"""I5: no ticket is issued (signed, announced, verifiable) without a captured payment, or a price of zero."""

from collections.abc import Sequence

from local.audit.facts import Facts, Order, Ticket
from local.audit.findings import Finding
from services.checkout.states import OrderState
from services.checkout.tickets import TicketInvalid, verify_ticket


def check(facts: Facts) -> Finding:
    """Every ticket with a code, and every order that told of one."""
    finding = Finding("I5", "No ticket is issued without a captured payment, or a price of zero")
    issued = {
        order_id: [ticket for ticket in tickets if ticket.code]
        for order_id, tickets in facts.tickets_of.items()
    }
    told = {order_id for order_id, states in facts.announced.items() if any(each.tickets for each in states)}
    finding.looked_at = {
        "issued tickets": sum(map(len, issued.values())),
        "orders that told of tickets": len(told),
    }
    for order_id, tickets in issued.items():
        if tickets:
            _check_paid(facts, order_id, tickets, finding)
    for order_id in told:
        order = facts.orders.get(order_id)
        if facts.too_new(order_id):
            finding.under_way += 1
        elif order is None or order.state is not OrderState.CONFIRMED:
            state = "is not there" if order is None else f"is {order.state}"
            if facts.settled or order is None or order.ended:
                finding.wrong(f"order {order_id} told of issued tickets, but {state}")
        elif order.amount and not _captured(facts, order_id):
            finding.wrong(f"order {order_id} told of issued tickets, but nothing was captured for it")
    _check_codes(facts, [ticket for tickets in issued.values() for ticket in tickets], finding)
    return finding


def _captured(facts: Facts, order_id: str) -> int:
    return sum(session.captured for session in facts.sessions_of.get(order_id, ()))


def _check_paid(facts: Facts, order_id: str, tickets: Sequence[Ticket], finding: Finding) -> None:
    order: Order | None = facts.orders.get(order_id)
    cost = sum(ticket.price for ticket in tickets)
    captured = _captured(facts, order_id)
    if order is None or order.state is not OrderState.CONFIRMED:
        state = "is not there" if order is None else f"is {order.state}"
        finding.wrong(f"order {order_id} has {len(tickets)} issued tickets, but {state}")
    if captured < cost:
        finding.wrong(f"order {order_id} has issued tickets worth {cost}, captured for it are {captured}")


def _check_codes(facts: Facts, tickets: Sequence[Ticket], finding: Finding) -> None:
    """Each code verifies and says what its row says; without keys only that no code is used twice."""
    by_code: dict[str, str] = {}
    for ticket in tickets:
        other = by_code.setdefault(ticket.code, ticket.ticket_id)
        if other != ticket.ticket_id:
            finding.wrong(f"tickets {other} and {ticket.ticket_id} have the same code")
        if not facts.ticket_keys:
            continue
        try:
            claims = verify_ticket(ticket.code, facts.ticket_keys, sale=facts.sale)
        except TicketInvalid as problem:
            finding.wrong(f"the code of ticket {ticket.ticket_id} does not verify: {problem}")
            continue
        says = (claims.ticket_id, claims.order_id, claims.section, claims.unit)
        if says != (ticket.ticket_id, ticket.order_id, ticket.section, ticket.unit):
            finding.wrong(f"the code of ticket {ticket.ticket_id} is another ticket's")
