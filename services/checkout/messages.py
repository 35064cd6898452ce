"""Between checkout's own values and the contract's messages. Translation only."""

from collections.abc import Iterable
from dataclasses import dataclass

from catraca.checkout.v1 import checkout_pb2 as api
from catraca.events.v1.events_pb2 import OrderChanged, OrderIntake
from catraca.inventory.v1 import inventory_pb2 as ledger
from google.protobuf.timestamp_pb2 import Timestamp

from services.checkout.records import Buyer, Item, Order, Unit
from services.checkout.rules import order_subject
from services.checkout.states import OrderState, TicketState


@dataclass(frozen=True, slots=True)
class Announcement:
    """One state of one order on its way to JetStream."""

    order_id: str
    version: int
    subject: str
    decided_at_ms: int
    payload: bytes
    """The serialized OrderChanged."""
    traceparent: str = ""


def announcement(order: Order) -> Announcement:
    """What is published of an order as it stands."""
    changed = OrderChanged(order=order_message(order), decided_at_ms=order.updated_at_ms)
    return Announcement(
        order.order_id,
        order.version,
        order_subject(order),
        order.updated_at_ms,
        changed.SerializeToString(),
        order.traceparent,
    )


def order_message(order: Order) -> api.Order:
    """The order in full, as buyers see it."""
    message = api.Order(
        order_id=order.order_id,
        sale=order.sale,
        buyer=order.buyer,
        state=state_value(order.state),
        reason=order.reason,
        version=order.version,
        items=[item_message(item) for item in order.items],
        units=[_unit_message(unit) for unit in order.units],
        amount=order.amount,
        currency=order.currency,
        idempotency_key=order.idempotency_key,
        hold_id=order.hold_id,
        place=order.place,
        joined_at=_time(order.joined_at_ms),
        called_at=_time(order.called_at_ms),
        accepted_at=_time(order.accepted_at_ms),
        held_at=_time(order.held_at_ms),
        updated_at=_time(order.updated_at_ms),
    )
    if order.payment is not None:
        message.payment.provider = order.payment.provider
        message.payment.session_id = order.payment.session_id
        message.payment.url = order.payment.url
        message.payment.pay_until.FromMilliseconds(order.payment.pay_until_ms)
        message.payment.declines = order.payment.declines
    if order.state is OrderState.CONFIRMED:
        message.tickets.extend(_ticket_messages(order))
    return message


def state_value(state: OrderState) -> api.OrderState.ValueType:
    """The contract's value of a state."""
    return api.OrderState.Value(f"ORDER_STATE_{state}")


def items_of(messages: Iterable[ledger.HoldItem]) -> tuple[Item, ...]:
    """The items of a request."""
    return tuple(
        Item(item.section, item.ticket_type, item.quantity, tuple(item.seats), item.together, item.use)
        for item in messages
    )


def units_of(hold: ledger.Hold) -> tuple[Unit, ...]:
    """The units of the ledger's hold."""
    return tuple(
        Unit(unit.section, unit.unit, unit.ticket_type, unit.price, unit.seat) for unit in hold.units
    )


def order_of(intake: OrderIntake, currency: str, traceparent: str = "") -> Order:
    """The order that a message of INTAKE asks for, as it is before anything happened to it."""
    return Order(
        order_id=intake.order_id,
        sale=intake.sale,
        buyer=intake.buyer,
        state=OrderState.ACCEPTED,
        idempotency_key=intake.idempotency_key,
        request_hash=intake.request_hash,
        items=items_of(intake.items),
        hold_id=intake.hold_id or intake.order_id,
        accepted_at_ms=intake.accepted_at_ms,
        currency=currency,
        place=intake.place if intake.HasField("place") else None,
        joined_at_ms=intake.joined_at_ms,
        called_at_ms=intake.called_at_ms,
        updated_at_ms=intake.accepted_at_ms,
        traceparent=traceparent,
    )


def units_message_of(intake: OrderIntake) -> api.OrderUnits:
    """What an order that no worker has seen has to do with its sale's units: as yet it only asks for some."""
    return api.OrderUnits(
        order_id=intake.order_id,
        buyer=intake.buyer,
        state=api.ORDER_STATE_ACCEPTED,
        hold_id=intake.hold_id or intake.order_id,
        items=intake.items,
        place=intake.place if intake.HasField("place") else None,
        accepted_at_ms=intake.accepted_at_ms,
    )


def buyer_of(intake: OrderIntake) -> Buyer:
    """Who asked."""
    return Buyer(intake.buyer, intake.namespace, intake.subject)


def claim_command(order: Order) -> ledger.Command:
    """CLAIM: the items from the buyer's promise, or the hold that the order brought."""
    claim = ledger.ClaimCommand(order_id=order.order_id, buyer=order.buyer, place=order.place)
    if order.items:
        claim.items.extend(item_message(item) for item in order.items)
    else:
        claim.hold_id = order.hold_id
    return ledger.Command(claim=claim)


def hold_command(order: Order) -> ledger.Command:
    """HOLD from the order's claim."""
    return ledger.Command(
        hold=ledger.HoldCommand(hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id)
    )


def pin_command(order: Order, until_ms: int) -> ledger.Command:
    """PIN until the payment is over."""
    return ledger.Command(
        pin=ledger.PinCommand(
            hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id, until_ms=until_ms
        )
    )


def reacquire_command(order: Order) -> ledger.Command:
    """REACQUIRE: the units were paid for when the hold was gone."""
    units = [_unit_message(unit) for unit in order.units]
    return ledger.Command(
        reacquire=ledger.ReacquireCommand(
            hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id, units=units
        )
    )


def commit_command(order: Order) -> ledger.Command:
    """COMMIT: the units are sold."""
    return ledger.Command(
        commit=ledger.CommitCommand(hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id)
    )


def release_command(order: Order) -> ledger.Command:
    """RELEASE of the hold, or of a claim without one."""
    return ledger.Command(
        release=ledger.ReleaseCommand(hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id)
    )


def return_command(order: Order) -> ledger.Command:
    """RETURN of all units, where they were sold already."""
    command = ledger.Command()
    getattr(command, "return").CopyFrom(
        ledger.ReturnCommand(hold_id=order.hold_id, buyer=order.buyer, order_id=order.order_id)
    )
    return command


def _ticket_messages(order: Order) -> list[api.Ticket]:
    return [
        api.Ticket(
            ticket_id=ticket.ticket_id,
            section=ticket.section,
            unit=ticket.unit,
            ticket_type=ticket.ticket_type,
            price=ticket.price,
            state=api.TICKET_STATE_LIVE if ticket.state is TicketState.LIVE else api.TICKET_STATE_VOID,
            code=ticket.code,
            seat=ticket.seat,
        )
        for ticket in order.tickets
    ]


def item_message(item: Item) -> ledger.HoldItem:
    """An item as the ledger reads it."""
    return ledger.HoldItem(
        section=item.section,
        ticket_type=item.ticket_type,
        quantity=item.quantity,
        seats=item.seats,
        together=item.together,
        use=ledger.SeatUse.ValueType(item.use),
    )


def _unit_message(unit: Unit) -> ledger.HeldUnit:
    return ledger.HeldUnit(
        section=unit.section, unit=unit.unit, ticket_type=unit.ticket_type, price=unit.price, seat=unit.seat
    )


def _time(at_ms: int) -> Timestamp | None:
    if not at_ms:
        return None
    moment = Timestamp()
    moment.FromMilliseconds(at_ms)
    return moment
