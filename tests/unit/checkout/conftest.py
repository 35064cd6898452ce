"""Orders for the tests: one in each state, as the steps make it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.checkout.records import Item, Order, Payment, Unit
from services.checkout.states import OrderState, PaymentState
from services.checkout.transitions import Steps

HAS_SESSION = (
    OrderState.AWAITING_PAYMENT,
    OrderState.AUTHORIZED,
    OrderState.CAPTURING,
    OrderState.CONFIRMED,
    OrderState.VOIDING,
)


@pytest.fixture
def steps() -> Steps:
    """Steps after which the sweeper comes 5 s later."""
    return Steps(5000)


@pytest.fixture
def order_in(steps: Steps) -> Callable[..., Order]:
    """An order in a state, accepted at 1000, held at 2000, to be paid by 60,000, pinned until 90,000."""

    def make(state: OrderState, **fields: Any) -> Order:
        order = Order(
            order_id="a" * 26,
            sale="jazz",
            buyer="b" * 26,
            state=OrderState.ACCEPTED,
            idempotency_key="click-0001",
            request_hash=b"h" * 32,
            items=(Item("floor", "full", 2),),
            hold_id="a" * 26,
            accepted_at_ms=1000,
            currency="BRL",
            updated_at_ms=1000,
        )
        if state is not OrderState.ACCEPTED:
            order = replace(
                order,
                state=state,
                version=3,
                units=(Unit("floor", 7, "full", 1500), Unit("floor", 8, "full", 1500)),
                amount=3000,
                held_at_ms=2000,
                pay_until_ms=60_000,
                pin_until_ms=90_000,
            )
        if state in HAS_SESSION:
            payment = Payment("sandbox", "cs_1", "http://pay/cs_1", PaymentState.OPEN, 3000, "BRL", 60_000)
            order = replace(order, payment=payment)
        return replace(order, **fields)

    return make
