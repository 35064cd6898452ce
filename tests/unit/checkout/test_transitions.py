"""What each step of an order sets, and from where it may be taken."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.checkout.records import Order, Unit
from services.checkout.states import OrderState, PaymentState, TicketState
from services.checkout.transitions import StepRefused, Steps, tickets_of

NOW = 50_000
OrderIn = Callable[..., Order]

STEPS: dict[str, tuple[Callable[[Steps, Order], Order], dict[OrderState, OrderState]]] = {
    "held": (
        lambda steps, order: steps.held(
            order,
            (Unit("floor", 1, "full", 1500),),
            held_at_ms=NOW,
            pay_until_ms=NOW + 10,
            pin_until_ms=NOW + 20,
            now_ms=NOW,
        ),
        {OrderState.ACCEPTED: OrderState.HELD},
    ),
    "rejected": (
        lambda steps, order: steps.rejected(order, "SOLD_OUT", NOW),
        {OrderState.ACCEPTED: OrderState.REJECTED},
    ),
    "awaiting": (
        lambda steps, order: steps.awaiting(order, "sandbox", "cs_1", "http://pay", NOW),
        {OrderState.HELD: OrderState.AWAITING_PAYMENT},
    ),
    "declined": (
        lambda steps, order: steps.declined(order, NOW),
        {OrderState.AWAITING_PAYMENT: OrderState.AWAITING_PAYMENT},
    ),
    "authorized": (
        lambda steps, order: steps.authorized(order, NOW),
        {OrderState.AWAITING_PAYMENT: OrderState.AUTHORIZED},
    ),
    "capturing": (
        lambda steps, order: steps.capturing(order, NOW),
        {OrderState.AUTHORIZED: OrderState.CAPTURING},
    ),
    "confirmed": (
        lambda steps, order: steps.confirmed(order, {}, NOW),
        {OrderState.CAPTURING: OrderState.CONFIRMED},
    ),
    "capture_refused": (
        lambda steps, order: steps.capture_refused(order, NOW),
        {OrderState.CAPTURING: OrderState.PAYMENT_FAILED},
    ),
    "unpaid": (
        lambda steps, order: steps.unpaid(order, NOW),
        {OrderState.HELD: OrderState.EXPIRED, OrderState.AWAITING_PAYMENT: OrderState.EXPIRED},
    ),
    "unsold": (
        lambda steps, order: steps.unsold(order, "HOLD_EXPIRED", NOW),
        {OrderState.AUTHORIZED: OrderState.VOIDING, OrderState.HELD: OrderState.EXPIRED},
    ),
    "cancelled": (
        lambda steps, order: steps.cancelled(order, NOW),
        {
            OrderState.ACCEPTED: OrderState.CANCELLED,
            OrderState.HELD: OrderState.CANCELLED,
            OrderState.AWAITING_PAYMENT: OrderState.CANCELLED,
            OrderState.AUTHORIZED: OrderState.VOIDING,
        },
    ),
    "voided": (
        lambda steps, order: steps.voided(order, PaymentState.VOIDED, NOW),
        {OrderState.VOIDING: OrderState.CANCELLED},
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("state", OrderState)
def test_a_step_leads_where_it_says_or_nowhere(
    name: str, state: OrderState, order_in: OrderIn, steps: Steps
) -> None:
    take, ends = STEPS[name]
    ends_as = OrderState.CANCELLED if state is OrderState.VOIDING else None
    order = order_in(state, ends_as=ends_as)

    if state not in ends:
        with pytest.raises(StepRefused):
            take(steps, order)
        return
    after = take(steps, order)

    assert after.state is ends[state]
    assert after.version == order.version + 1
    assert after.updated_at_ms == NOW


def test_what_was_paid_late_is_captured_with_the_units_that_were_left(
    order_in: OrderIn, steps: Steps
) -> None:
    expired = steps.unpaid(order_in(OrderState.AWAITING_PAYMENT), NOW)
    others = tuple(replace(unit, unit=unit.unit + 20) for unit in expired.units)
    with pytest.raises(StepRefused):
        steps.capturing(expired, NOW, units=others)

    paid = steps.paid_late(expired, PaymentState.AUTHORIZED, NOW)
    capturing = steps.capturing(paid, NOW, units=others)

    assert (paid.state, capturing.state) == (OrderState.EXPIRED, OrderState.CAPTURING)
    assert (capturing.reason, capturing.units) == ("", others)
    assert [ticket.unit for ticket in capturing.tickets] == [unit.unit for unit in others]


def test_the_price_is_fixed_when_held(order_in: OrderIn, steps: Steps) -> None:
    units = (Unit("floor", 1, "full", 1500), Unit("stand", 4, "half", 700))

    held = steps.held(
        order_in(OrderState.ACCEPTED),
        units,
        held_at_ms=2000,
        pay_until_ms=60_000,
        pin_until_ms=90_000,
        now_ms=2100,
    )

    assert (held.amount, held.units, held.held_at_ms) == (2200, units, 2000)
    assert held.due_at_ms == 7100


def test_the_sweeper_comes_when_the_session_ends(order_in: OrderIn, steps: Steps) -> None:
    awaiting = steps.awaiting(order_in(OrderState.HELD), "sandbox", "cs_1", "http://pay", NOW)

    assert awaiting.due_at_ms == awaiting.pay_until_ms == 60_000
    assert awaiting.payment is not None
    assert (awaiting.payment.amount, awaiting.payment.pay_until_ms) == (3000, 60_000)


def test_after_a_decline_another_card_may_try(order_in: OrderIn, steps: Steps) -> None:
    once = steps.declined(order_in(OrderState.AWAITING_PAYMENT), NOW)
    twice = steps.declined(once, NOW)

    assert twice.payment is not None
    assert twice.payment.declines == 2
    assert steps.authorized(twice, NOW).state is OrderState.AUTHORIZED


def test_an_order_that_was_declined_ends_as_a_failed_payment(order_in: OrderIn, steps: Steps) -> None:
    declined = steps.declined(order_in(OrderState.AWAITING_PAYMENT), NOW)

    ended = steps.unpaid(declined, NOW)

    assert (ended.state, ended.reason) == (OrderState.PAYMENT_FAILED, "PAYMENT_DECLINED")
    assert ended.owes_units


def test_an_order_that_nobody_paid_expires(order_in: OrderIn, steps: Steps) -> None:
    ended = steps.unpaid(order_in(OrderState.AWAITING_PAYMENT), NOW)

    assert (ended.state, ended.reason) == (OrderState.EXPIRED, "PAYMENT_TIMEOUT")
    assert ended.payment is not None
    assert ended.payment.state is PaymentState.LAPSED


def test_what_a_silent_provider_may_have_reserved_is_voided(order_in: OrderIn, steps: Steps) -> None:
    ended = steps.unpaid(order_in(OrderState.AWAITING_PAYMENT), NOW, provider_knows=False)

    assert ended.payment is not None
    assert ended.payment.state is PaymentState.VOIDING


def test_tickets_claim_their_units_before_the_money_is_taken(order_in: OrderIn, steps: Steps) -> None:
    capturing = steps.capturing(order_in(OrderState.AUTHORIZED), NOW)

    assert [(ticket.section, ticket.unit) for ticket in capturing.tickets] == [("floor", 7), ("floor", 8)]
    assert all(ticket.state is TicketState.LIVE and ticket.code == "" for ticket in capturing.tickets)


def test_only_what_is_free_of_charge_is_sold_without_a_payment(order_in: OrderIn, steps: Steps) -> None:
    assert steps.capturing(order_in(OrderState.HELD, amount=0), NOW).state is OrderState.CAPTURING
    with pytest.raises(StepRefused):
        steps.capturing(order_in(OrderState.HELD), NOW)


def test_a_refused_capture_leaves_no_ticket(order_in: OrderIn, steps: Steps) -> None:
    capturing = steps.capturing(order_in(OrderState.AUTHORIZED), NOW)

    failed = steps.capture_refused(capturing, NOW)

    assert (failed.tickets, failed.reason, failed.owes_units) == ((), "CAPTURE_REFUSED", True)


def test_units_that_another_order_sold_are_not_given_back(order_in: OrderIn, steps: Steps) -> None:
    voiding = steps.unsold(order_in(OrderState.AUTHORIZED), "SOLD_OUT", NOW)

    assert (voiding.state, voiding.ends_as, voiding.owes_units) == (
        OrderState.VOIDING,
        OrderState.EXPIRED,
        False,
    )


def test_what_was_taken_before_the_void_is_refunded(order_in: OrderIn, steps: Steps) -> None:
    voiding = steps.cancelled(order_in(OrderState.AUTHORIZED), NOW)

    ended = steps.voided(voiding, PaymentState.REFUNDING, NOW)
    returned = steps.returned(ended)
    refunded = steps.settled(returned, PaymentState.REFUNDED)

    assert ended.state is OrderState.CANCELLED
    # It stays on the sweeper's list until the last thing is put right.
    assert ended.due_at_ms > 0
    assert returned.due_at_ms > 0
    assert refunded.due_at_ms == 0
    assert refunded.version == ended.version


def test_ticket_ids_derive_from_order_and_unit(order_in: OrderIn) -> None:
    order = order_in(OrderState.HELD)
    first, second = tickets_of(order)

    assert (first, second) == tickets_of(order)
    assert first.ticket_id != second.ticket_id
    assert tickets_of(order_in(OrderState.HELD, order_id="c" * 26))[0].ticket_id != first.ticket_id
