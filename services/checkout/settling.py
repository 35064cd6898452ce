"""What a provider's event means for an order. Pure: no I/O, no clock."""

from services.checkout.providers.protocol import Event, EventType
from services.checkout.records import Order
from services.checkout.states import OrderState, PaymentState
from services.checkout.transitions import Steps
from services.kit.errors import Refusal

PAID = (EventType.AUTHORIZED, EventType.CAPTURED)


def check_binding(order: Order | None, provider: str, event: Event) -> None:
    """Raise WEBHOOK_FOREIGN unless the event is about the payment of this very order."""
    payment = order.payment if order else None
    theirs = (provider, event.session_id, event.amount, event.currency)
    if payment is None or (payment.provider, payment.session_id, payment.amount, payment.currency) != theirs:
        raise Refusal("WEBHOOK_FOREIGN")


def after_event(order: Order, type: EventType, steps: Steps, now_ms: int) -> Order | None:
    """The order after the event; None where the event changes nothing."""
    payment = order.payment
    if payment is None:
        return None
    match type, order.state:
        case EventType.AUTHORIZED, OrderState.AWAITING_PAYMENT:
            return steps.authorized(order, now_ms)
        case EventType.DECLINED, OrderState.AWAITING_PAYMENT:
            return steps.declined(order, now_ms)
    if not order.ended or order.state is OrderState.CONFIRMED:
        return None
    if order.state is OrderState.EXPIRED and payment.state is PaymentState.LAPSED and type in PAID:
        # It may still have what it was for: if the units can be had again, the order goes on after all.
        return steps.paid_late(order, PaymentState.AUTHORIZED, now_ms)
    # The order has its end; money that came all the same goes back where it came from.
    if type is EventType.AUTHORIZED and payment.state is PaymentState.LAPSED:
        return steps.paid_late(order, PaymentState.VOIDING, now_ms)
    if type is EventType.CAPTURED and payment.state in (PaymentState.LAPSED, PaymentState.VOIDED):
        return steps.paid_late(order, PaymentState.REFUNDING, now_ms)
    return None
