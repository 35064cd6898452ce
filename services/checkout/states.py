"""What an order, its payment and its tickets can be, and which change of state is legal. No I/O, no clock."""

from collections.abc import Mapping
from enum import StrEnum


class OrderState(StrEnum):
    """An order's life, in the words of catraca.checkout.v1.OrderState and of the database."""

    ACCEPTED = "ACCEPTED"
    """Durably taken and claimed; a worker will see it."""
    HELD = "HELD"
    """Units held and pinned. Names the intent to open a payment (or, free of charge, to sell)."""
    AWAITING_PAYMENT = "AWAITING_PAYMENT"
    """A payment session is open."""
    AUTHORIZED = "AUTHORIZED"
    """The provider has the money reserved. Names the intent to sell the units at the ledger."""
    CAPTURING = "CAPTURING"
    """Units sold, tickets written. Names the intent to take the money."""
    CONFIRMED = "CONFIRMED"
    """Paid; tickets signed."""
    REJECTED = "REJECTED"
    """Refused before any money moved."""
    EXPIRED = "EXPIRED"
    """Not paid in time."""
    CANCELLED = "CANCELLED"
    """Ended on request."""
    PAYMENT_FAILED = "PAYMENT_FAILED"
    """The payment could not be completed."""
    VOIDING = "VOIDING"
    """Names the intent to give a reserved payment back; the order already knows which end it takes."""


TRANSITIONS: Mapping[OrderState, frozenset[OrderState]] = {
    OrderState.ACCEPTED: frozenset({OrderState.HELD, OrderState.REJECTED, OrderState.CANCELLED}),
    OrderState.HELD: frozenset(
        {OrderState.AWAITING_PAYMENT, OrderState.CAPTURING, OrderState.EXPIRED, OrderState.CANCELLED}
    ),
    # A declined card leaves the order where it is, as a version of its own: another card may be tried.
    OrderState.AWAITING_PAYMENT: frozenset(
        {
            OrderState.AWAITING_PAYMENT,
            OrderState.AUTHORIZED,
            OrderState.EXPIRED,
            OrderState.CANCELLED,
            OrderState.PAYMENT_FAILED,
        }
    ),
    OrderState.AUTHORIZED: frozenset({OrderState.CAPTURING, OrderState.VOIDING}),
    OrderState.CAPTURING: frozenset({OrderState.CONFIRMED, OrderState.PAYMENT_FAILED}),
    OrderState.VOIDING: frozenset({OrderState.EXPIRED, OrderState.CANCELLED, OrderState.PAYMENT_FAILED}),
    OrderState.CONFIRMED: frozenset(),
    OrderState.REJECTED: frozenset(),
    # Once, for a payment that came late while the ledger still had its units.
    OrderState.EXPIRED: frozenset({OrderState.CAPTURING}),
    OrderState.CANCELLED: frozenset(),
    OrderState.PAYMENT_FAILED: frozenset(),
}

TERMINAL = frozenset(
    {
        OrderState.CONFIRMED,
        OrderState.REJECTED,
        OrderState.EXPIRED,
        OrderState.CANCELLED,
        OrderState.PAYMENT_FAILED,
    }
)


class PaymentState(StrEnum):
    """A payment's life. It may go on after its order ended: money that came late is given back."""

    OPEN = "OPEN"
    """The buyer may pay."""
    AUTHORIZED = "AUTHORIZED"
    """Money reserved."""
    CAPTURED = "CAPTURED"
    """Money taken: the order is CONFIRMED."""
    REFUNDING = "REFUNDING"
    """Names the intent to pay taken money back in full."""
    REFUNDED = "REFUNDED"
    VOIDING = "VOIDING"
    """Names the intent to give reserved money back, or to close the session before anyone pays."""
    VOIDED = "VOIDED"
    LAPSED = "LAPSED"
    """The deadline passed without money."""


PAYMENT_UNSETTLED = frozenset({PaymentState.AUTHORIZED, PaymentState.VOIDING, PaymentState.REFUNDING})
"""What a payment of an ended order still has to be led out of."""


class TicketState(StrEnum):
    """A ticket's life, in the words of catraca.checkout.v1.TicketState and of the database."""

    LIVE = "LIVE"
    VOID = "VOID"


class IllegalTransition(Exception):
    """A defect of ours: code asked for a change of state that the table does not have."""

    def __init__(self, before: OrderState, after: OrderState) -> None:
        super().__init__(f"{before} → {after} is no transition of an order")
        self.before = before
        self.after = after


def check(before: OrderState, after: OrderState) -> None:
    """Raise IllegalTransition unless the table has the change."""
    if after not in TRANSITIONS[before]:
        raise IllegalTransition(before, after)
