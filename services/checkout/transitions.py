"""Every step an order can take, as functions from one order to the next. No I/O and no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.checkout import states
from services.checkout.records import Order, Payment, Ticket, Unit
from services.checkout.states import OrderState, PaymentState, TicketState
from services.kit.buyers import short_hash

BEFORE_CAPTURE = (
    OrderState.ACCEPTED,
    OrderState.HELD,
    OrderState.AWAITING_PAYMENT,
    OrderState.AUTHORIZED,
)


class StepRefused(Exception):
    """A defect of ours: code asked for a step that the order cannot take."""


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps; `resume_ms` after one that leaves something to do, the sweeper takes the order up."""

    resume_ms: int

    def held(
        self,
        order: Order,
        units: tuple[Unit, ...],
        *,
        held_at_ms: int,
        pay_until_ms: int,
        pin_until_ms: int,
        now_ms: int,
    ) -> Order:
        """ACCEPTED → HELD: units held and pinned, the price fixed."""
        _only_from(order, OrderState.ACCEPTED)
        return self._to(
            order,
            OrderState.HELD,
            now_ms,
            units=units,
            amount=sum(unit.price for unit in units),
            held_at_ms=held_at_ms,
            pay_until_ms=pay_until_ms,
            pin_until_ms=pin_until_ms,
            due_at_ms=now_ms + self.resume_ms,
        )

    def rejected(self, order: Order, reason: str, now_ms: int) -> Order:
        """ACCEPTED → REJECTED, with the ledger's word."""
        _only_from(order, OrderState.ACCEPTED)
        return self._to(order, OrderState.REJECTED, now_ms, reason=reason, due_at_ms=0)

    def awaiting(self, order: Order, provider: str, session_id: str, url: str, now_ms: int) -> Order:
        """HELD → AWAITING_PAYMENT: the session is open. The sweeper comes back at its deadline."""
        _only_from(order, OrderState.HELD)
        payment = Payment(
            provider=provider,
            session_id=session_id,
            url=url,
            state=PaymentState.OPEN,
            amount=order.amount,
            currency=order.currency,
            pay_until_ms=order.pay_until_ms,
        )
        return self._to(
            order, OrderState.AWAITING_PAYMENT, now_ms, payment=payment, due_at_ms=order.pay_until_ms
        )

    def declined(self, order: Order, now_ms: int) -> Order:
        """AWAITING_PAYMENT → AWAITING_PAYMENT: one card was declined, another may be tried."""
        _only_from(order, OrderState.AWAITING_PAYMENT)
        payment = _payment(order)
        return self._to(
            order,
            OrderState.AWAITING_PAYMENT,
            now_ms,
            payment=replace(payment, declines=payment.declines + 1),
        )

    def authorized(self, order: Order, now_ms: int) -> Order:
        """AWAITING_PAYMENT → AUTHORIZED: the money is reserved."""
        _only_from(order, OrderState.AWAITING_PAYMENT)
        return self._to(
            order,
            OrderState.AUTHORIZED,
            now_ms,
            payment=replace(_payment(order), state=PaymentState.AUTHORIZED),
            due_at_ms=now_ms + self.resume_ms,
        )

    def capturing(self, order: Order, now_ms: int, *, units: tuple[Unit, ...] = ()) -> Order:
        """AUTHORIZED, HELD free of charge, or EXPIRED and paid late → CAPTURING: tickets claim the units.

        `units` are those that the ledger sold, where they may be others than were held: as many and as dear.
        """
        _only_from(order, OrderState.HELD, OrderState.AUTHORIZED, OrderState.EXPIRED)
        if order.state is OrderState.HELD and order.amount:
            raise StepRefused(f"order {order.order_id} costs something and nobody paid")
        if order.state is OrderState.EXPIRED and _payment(order).state is not PaymentState.AUTHORIZED:
            raise StepRefused(f"order {order.order_id} is over and nobody paid since")
        if units and units != order.units:
            order = replace(order, units=units)
        return self._to(
            order,
            OrderState.CAPTURING,
            now_ms,
            reason="",
            tickets=tickets_of(order),
            due_at_ms=now_ms + self.resume_ms,
        )

    def confirmed(self, order: Order, codes: Mapping[str, str], now_ms: int) -> Order:
        """CAPTURING → CONFIRMED: the money is taken, `codes` are the tickets' signed codes by ticket id."""
        _only_from(order, OrderState.CAPTURING)
        payment = order.payment and replace(order.payment, state=PaymentState.CAPTURED)
        tickets = tuple(replace(ticket, code=codes[ticket.ticket_id]) for ticket in order.tickets)
        return self._to(order, OrderState.CONFIRMED, now_ms, payment=payment, tickets=tickets, due_at_ms=0)

    def capture_refused(self, order: Order, now_ms: int) -> Order:
        """CAPTURING → PAYMENT_FAILED: the rows go, and the ledger is owed the units. What the provider may
        still have reserved is given back."""
        _only_from(order, OrderState.CAPTURING)
        return self._to(
            order,
            OrderState.PAYMENT_FAILED,
            now_ms,
            reason="CAPTURE_REFUSED",
            tickets=(),
            payment=replace(_payment(order), state=PaymentState.VOIDING),
            owes_units=True,
            due_at_ms=now_ms + self.resume_ms,
        )

    def unpaid(self, order: Order, now_ms: int, *, provider_knows: bool = True) -> Order:
        """HELD, AWAITING_PAYMENT → EXPIRED, or PAYMENT_FAILED where a card was declined: the deadline passed.

        Where the provider could not be asked, what it may have reserved is to be voided.
        """
        _only_from(order, OrderState.HELD, OrderState.AWAITING_PAYMENT)
        payment = order.payment
        declined = payment is not None and payment.declines > 0
        if payment is not None:
            left = PaymentState.LAPSED if provider_knows else PaymentState.VOIDING
            payment = replace(payment, state=left)
        return self._to(
            order,
            OrderState.PAYMENT_FAILED if declined else OrderState.EXPIRED,
            now_ms,
            reason="PAYMENT_DECLINED" if declined else "PAYMENT_TIMEOUT",
            payment=payment,
            owes_units=True,
            due_at_ms=now_ms + self.resume_ms,
        )

    def unsold(self, order: Order, reason: str, now_ms: int) -> Order:
        """The units cannot be sold any more. AUTHORIZED → VOIDING (then EXPIRED); HELD → EXPIRED at once."""
        _only_from(order, OrderState.HELD, OrderState.AUTHORIZED)
        if order.state is OrderState.AUTHORIZED:
            return self._voiding(order, OrderState.EXPIRED, reason, now_ms, owes_units=False)
        return self._to(order, OrderState.EXPIRED, now_ms, reason=reason, due_at_ms=0)

    def cancelled(self, order: Order, now_ms: int) -> Order:
        """ACCEPTED, HELD, AWAITING_PAYMENT → CANCELLED; AUTHORIZED → VOIDING (then CANCELLED).

        An open session is closed, so that nobody pays for what they cancelled.
        """
        _only_from(order, *BEFORE_CAPTURE)
        reason = "CANCELLED_ON_REQUEST"
        if order.state is OrderState.AUTHORIZED:
            return self._voiding(order, OrderState.CANCELLED, reason, now_ms, owes_units=True)
        return self._to(
            order,
            OrderState.CANCELLED,
            now_ms,
            reason=reason,
            payment=order.payment and replace(order.payment, state=PaymentState.VOIDING),
            owes_units=True,
            due_at_ms=now_ms + self.resume_ms,
        )

    def voided(self, order: Order, payment_state: PaymentState, now_ms: int) -> Order:
        """VOIDING → the end it was given. Where the money had been taken, it is REFUNDING from here on."""
        _only_from(order, OrderState.VOIDING)
        if order.ends_as is None:
            raise StepRefused(f"order {order.order_id} is VOIDING without an end")
        payment = replace(_payment(order), state=payment_state)
        ended = self._to(
            order,
            order.ends_as,
            now_ms,
            ends_as=None,
            payment=payment,
            due_at_ms=now_ms + self.resume_ms,
        )
        return self._rested(ended)

    # ---- after the end: the order stays as it is, what it left behind is put right ----

    def paid_late(self, order: Order, payment_state: PaymentState, now_ms: int) -> Order:
        """Money came for an ended order: AUTHORIZED tries to have the units again, VOIDING gives back what is
        reserved, REFUNDING what is taken."""
        payment = replace(_payment(order), state=payment_state)
        return replace(order, payment=payment, due_at_ms=now_ms + self.resume_ms)

    def settled(self, order: Order, payment_state: PaymentState) -> Order:
        """The late money is back."""
        payment = replace(_payment(order), state=payment_state)
        return self._rested(replace(order, payment=payment))

    def returned(self, order: Order) -> Order:
        """The ledger has the units back."""
        return self._rested(replace(order, owes_units=False))

    def _rested(self, order: Order) -> Order:
        """Without a further visit by the sweeper, unless something is still to be put right."""
        open_payment = order.payment is not None and order.payment.state in states.PAYMENT_UNSETTLED
        return order if order.owes_units or open_payment else replace(order, due_at_ms=0)

    def _voiding(
        self, order: Order, ends_as: OrderState, reason: str, now_ms: int, *, owes_units: bool
    ) -> Order:
        return self._to(
            order,
            OrderState.VOIDING,
            now_ms,
            ends_as=ends_as,
            reason=reason,
            payment=replace(_payment(order), state=PaymentState.VOIDING),
            owes_units=owes_units,
            due_at_ms=now_ms + self.resume_ms,
        )

    def _to(self, order: Order, state: OrderState, now_ms: int, **fields: Any) -> Order:
        states.check(order.state, state)
        return replace(order, state=state, version=order.version + 1, updated_at_ms=now_ms, **fields)


def tickets_of(order: Order) -> tuple[Ticket, ...]:
    """One ticket per unit. Their ids derive from order and unit: writing twice writes the same."""
    return tuple(
        Ticket(
            ticket_id=short_hash(order.order_id, unit.section, str(unit.unit)),
            section=unit.section,
            unit=unit.unit,
            ticket_type=unit.ticket_type,
            price=unit.price,
            seat=unit.seat,
            state=TicketState.LIVE,
        )
        for unit in order.units
    )


def _only_from(order: Order, *origins: OrderState) -> None:
    """A step has origins of its own: the table may allow the same change to another step."""
    if order.state not in origins:
        raise StepRefused(f"an order that is {order.state} cannot take this step")


def _payment(order: Order) -> Payment:
    if order.payment is None:
        raise StepRefused(f"order {order.order_id} has no payment")
    return order.payment
