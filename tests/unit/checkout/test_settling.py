"""What a provider's event means for an order in each state."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.checkout.providers.protocol import Event, EventType
from services.checkout.records import Order
from services.checkout.settling import after_event, check_binding
from services.checkout.states import OrderState, PaymentState
from services.checkout.transitions import Steps
from services.kit.errors import Refusal

OrderIn = Callable[..., Order]
EVENT = Event("ev_1", EventType.AUTHORIZED, "cs_1", "a" * 26, 3000, "BRL")
ENDED_UNPAID = (OrderState.EXPIRED, OrderState.CANCELLED, OrderState.PAYMENT_FAILED)


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("type", EventType)
def test_only_a_waiting_order_moves_while_it_runs(
    state: OrderState, type: EventType, order_in: OrderIn, steps: Steps
) -> None:
    after = after_event(order_in(state), type, steps, 5000)

    if (state, type) == (OrderState.AWAITING_PAYMENT, EventType.AUTHORIZED):
        assert after is not None
        assert after.state is OrderState.AUTHORIZED
    elif (state, type) == (OrderState.AWAITING_PAYMENT, EventType.DECLINED):
        assert after is not None
        assert after.payment is not None
        assert (after.state, after.payment.declines) == (OrderState.AWAITING_PAYMENT, 1)
    else:
        assert after is None


@pytest.mark.parametrize("state", ENDED_UNPAID)
@pytest.mark.parametrize(
    ("type", "before", "after"),
    [
        (EventType.AUTHORIZED, PaymentState.LAPSED, PaymentState.VOIDING),
        (EventType.CAPTURED, PaymentState.LAPSED, PaymentState.REFUNDING),
        (EventType.AUTHORIZED, PaymentState.AUTHORIZED, None),
        (EventType.CAPTURED, PaymentState.VOIDED, PaymentState.REFUNDING),
        (EventType.AUTHORIZED, PaymentState.VOIDING, None),
        (EventType.AUTHORIZED, PaymentState.VOIDED, None),
        (EventType.CAPTURED, PaymentState.REFUNDED, None),
        (EventType.DECLINED, PaymentState.LAPSED, None),
    ],
)
def test_money_that_comes_after_the_end_goes_back(
    state: OrderState,
    type: EventType,
    before: PaymentState,
    after: PaymentState | None,
    order_in: OrderIn,
    steps: Steps,
) -> None:
    payment = order_in(OrderState.AWAITING_PAYMENT).payment
    assert payment is not None
    ended = order_in(state, payment=replace(payment, state=before))

    following = after_event(ended, type, steps, 5000)

    if state is OrderState.EXPIRED and before is PaymentState.LAPSED and after is not None:
        # Its units may still be had.
        after = PaymentState.AUTHORIZED
    if after is None:
        assert following is None
        return
    assert following is not None
    assert following.payment is not None
    assert following.payment.state is after
    # The order keeps its one end: buyers hear nothing new.
    assert (following.state, following.version) == (state, ended.version)
    assert following.due_at_ms > 0


@pytest.mark.parametrize(
    ("provider", "event"),
    [
        ("another", EVENT),
        ("sandbox", replace(EVENT, session_id="cs_2")),
        ("sandbox", replace(EVENT, amount=2999)),
        ("sandbox", replace(EVENT, amount=1)),
        ("sandbox", replace(EVENT, currency="USD")),
    ],
)
def test_an_event_of_another_payment_is_refused(provider: str, event: Event, order_in: OrderIn) -> None:
    order = order_in(OrderState.AWAITING_PAYMENT)
    check_binding(order, "sandbox", EVENT)

    with pytest.raises(Refusal) as refused:
        check_binding(order, provider, event)
    assert refused.value.word == "WEBHOOK_FOREIGN"


def test_an_event_of_no_order_or_no_payment_is_refused(order_in: OrderIn) -> None:
    for order in (None, order_in(OrderState.ACCEPTED)):
        with pytest.raises(Refusal):
            check_binding(order, "sandbox", EVENT)
