"""Between orders and the rows of the database: what a column holds. No I/O."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem, UnitRef

from services.checkout.messages import Announcement, state_value
from services.checkout.records import Buyer, Change, Item, Order, Payment, Ticket, Unit
from services.checkout.states import OrderState, PaymentState, TicketState

Columns = tuple[list[Any], ...]


def columns(rows: Sequence[tuple[Any, ...]], width: int) -> Columns:
    """Rows turned into one array per column, as unnest takes them; empty arrays where there is no row."""
    return (
        tuple(list(column) for column in zip(*rows, strict=True)) if rows else tuple([] for _ in range(width))
    )


def inserted(arrivals: Sequence[tuple[Order, Buyer]], announced: Sequence[Announcement]) -> Columns:
    """The arrays of `insert_orders`."""
    rows = []
    for (order, buyer), first in zip(arrivals, announced, strict=True):
        rows.append(
            (
                order.order_id,
                order.sale,
                order.buyer,
                order.idempotency_key,
                order.request_hash,
                _json(order.items),
                order.hold_id,
                order.currency,
                order.place,
                order.joined_at_ms,
                order.called_at_ms,
                order.accepted_at_ms,
                buyer.namespace,
                buyer.subject,
                first.subject,
                first.payload,
                order.traceparent,
            )
        )
    return columns(rows, 17)


def advanced(changes: Sequence[Change], announced: Sequence[Announcement]) -> Columns:
    """The arrays of `advance_orders`, in its order: orders, outbox, payments, tickets, webhooks."""
    orders = [_order_row(change) for change in changes]
    outbox = [
        (a.order_id, a.version, a.subject, a.decided_at_ms, a.payload, a.traceparent) for a in announced
    ]
    payments = [row for change in changes for row in _payment_rows(change)]
    claimed = [row for change in changes for row in _claimed_rows(change)]
    signed = [row for change in changes for row in _signed_rows(change)]
    dropped = [(each.after.order_id,) for each in changes if each.before.tickets and not each.after.tickets]
    webhooks = [
        (_provider(change.after), change.event_id, change.after.order_id, change.after.updated_at_ms)
        for change in changes
        if change.event_id
    ]
    return (
        *columns(orders, 15),
        *columns(outbox, 6),
        *columns(payments, 9),
        *columns(claimed, 7),
        *columns(signed, 3),
        *columns(dropped, 1),
        *columns(webhooks, 4),
    )


def order_of(row: Mapping[str, Any]) -> Order:
    """An order from a row of `orders_by_id`."""
    return Order(
        order_id=row["order_id"],
        sale=row["sale"],
        buyer=row["buyer"],
        state=OrderState(row["state"]),
        idempotency_key=row["idempotency_key"],
        request_hash=row["request_hash"],
        items=tuple(Item(**{**item, "seats": tuple(item["seats"])}) for item in json.loads(row["items"])),
        hold_id=row["hold_id"],
        accepted_at_ms=row["accepted_at_ms"],
        currency=row["currency"],
        place=row["place"],
        joined_at_ms=row["joined_at_ms"],
        called_at_ms=row["called_at_ms"],
        version=row["version"],
        revision=row["revision"],
        reason=row["reason"],
        ends_as=OrderState(row["ends_as"]) if row["ends_as"] else None,
        units=tuple(Unit(**unit) for unit in json.loads(row["units"])),
        amount=row["amount"],
        held_at_ms=row["held_at_ms"],
        updated_at_ms=row["updated_at_ms"],
        pay_until_ms=row["pay_until_ms"],
        pin_until_ms=row["pin_until_ms"],
        owes_units=row["owes_units"],
        due_at_ms=row["due_at_ms"],
        payment=_payment_of(row),
        tickets=_tickets_of(row["tickets"]),
        traceparent=row["traceparent"],
    )


def units_message(row: Mapping[str, Any]) -> OrderUnits:
    """What an order has to do with its sale's units, from a row of `units_of_sale`."""
    return OrderUnits(
        order_id=row["order_id"],
        buyer=row["buyer"],
        state=state_value(OrderState(row["state"])),
        reason=row["reason"],
        hold_id=row["hold_id"],
        items=[HoldItem(**item) for item in json.loads(row["items"])],
        units=[HeldUnit(**unit) for unit in json.loads(row["units"])],
        tickets=[UnitRef(**ticket) for ticket in json.loads(row["tickets"] or "[]")],
        place=row["place"],
        amount=row["amount"],
        accepted_at_ms=row["accepted_at_ms"],
        pin_until_ms=row["pin_until_ms"],
        owes_units=row["owes_units"],
    )


def _payment_of(row: Mapping[str, Any]) -> Payment | None:
    if row["session_id"] is None:
        return None
    return Payment(
        provider=row["provider"],
        session_id=row["session_id"],
        url=row["url"],
        state=PaymentState(row["payment_state"]),
        amount=row["payment_amount"],
        currency=row["payment_currency"],
        pay_until_ms=row["payment_until_ms"],
        declines=row["declines"],
    )


def _tickets_of(text: str | None) -> tuple[Ticket, ...]:
    return tuple(
        Ticket(
            ticket_id=ticket["ticket_id"],
            section=ticket["section"],
            unit=ticket["unit"],
            ticket_type=ticket["ticket_type"],
            price=ticket["price"],
            seat=ticket["seat"],
            state=TicketState(ticket["state"]),
            code=ticket["code"],
        )
        for ticket in (json.loads(text) if text else [])
    )


def _order_row(change: Change) -> tuple[Any, ...]:
    before, after = change.before, change.after
    return (
        after.order_id,
        before.state,
        before.revision,
        after.state,
        after.reason,
        after.version,
        after.ends_as,
        None if after.units is before.units else _json(after.units),
        after.amount,
        after.held_at_ms,
        after.updated_at_ms,
        after.pay_until_ms,
        after.pin_until_ms,
        after.owes_units,
        after.due_at_ms,
    )


def _payment_rows(change: Change) -> list[tuple[Any, ...]]:
    payment = change.after.payment
    if payment is None or payment == change.before.payment:
        return []
    return [
        (
            change.after.order_id,
            payment.provider,
            payment.session_id,
            payment.url,
            payment.state,
            payment.amount,
            payment.currency,
            payment.pay_until_ms,
            payment.declines,
        )
    ]


def _claimed_rows(change: Change) -> list[tuple[Any, ...]]:
    if change.before.tickets:
        return []
    order_id = change.after.order_id
    return [
        (
            ticket.ticket_id,
            order_id,
            ticket.section,
            ticket.unit,
            ticket.ticket_type,
            ticket.price,
            ticket.seat,
        )
        for ticket in change.after.tickets
    ]


def _signed_rows(change: Change) -> list[tuple[Any, ...]]:
    known = {ticket.ticket_id: ticket.code for ticket in change.before.tickets}
    return [
        (ticket.ticket_id, change.after.order_id, ticket.code)
        for ticket in change.after.tickets
        if ticket.code and known.get(ticket.ticket_id) == ""
    ]


def _provider(order: Order) -> str:
    return order.payment.provider if order.payment else ""


def _json(values: Sequence[Item] | Sequence[Unit]) -> str:
    return json.dumps([{name: getattr(value, name) for name in value.__slots__} for value in values])
