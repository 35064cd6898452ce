"""The transition table of orders, pair by pair."""

from itertools import product

import pytest

from services.checkout.states import TERMINAL, TRANSITIONS, IllegalTransition, OrderState, check

# As DESIGN §6 draws it, written a second time on purpose.
LEGAL = {
    ("ACCEPTED", "HELD"),
    ("ACCEPTED", "REJECTED"),
    ("ACCEPTED", "CANCELLED"),
    ("HELD", "AWAITING_PAYMENT"),
    ("HELD", "CAPTURING"),
    ("HELD", "EXPIRED"),
    ("HELD", "CANCELLED"),
    ("AWAITING_PAYMENT", "AWAITING_PAYMENT"),
    ("AWAITING_PAYMENT", "AUTHORIZED"),
    ("AWAITING_PAYMENT", "EXPIRED"),
    ("AWAITING_PAYMENT", "CANCELLED"),
    ("AWAITING_PAYMENT", "PAYMENT_FAILED"),
    ("AUTHORIZED", "CAPTURING"),
    ("AUTHORIZED", "VOIDING"),
    ("CAPTURING", "CONFIRMED"),
    ("CAPTURING", "PAYMENT_FAILED"),
    ("VOIDING", "EXPIRED"),
    ("EXPIRED", "CAPTURING"),
    ("VOIDING", "CANCELLED"),
    ("VOIDING", "PAYMENT_FAILED"),
}


@pytest.mark.parametrize(("before", "after"), list(product(OrderState, OrderState)))
def test_every_pair_is_legal_or_refused(before: OrderState, after: OrderState) -> None:
    if (before.value, after.value) in LEGAL:
        check(before, after)
    else:
        with pytest.raises(IllegalTransition):
            check(before, after)


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(OrderState)


def test_the_five_ends() -> None:
    assert {state.value for state in TERMINAL} == {
        "CONFIRMED",
        "REJECTED",
        "EXPIRED",
        "CANCELLED",
        "PAYMENT_FAILED",
    }


def test_every_state_but_the_first_can_be_reached_and_every_one_can_end() -> None:
    reached = {after for following in TRANSITIONS.values() for after in following}
    assert reached | {OrderState.ACCEPTED} == set(OrderState)

    can_end = set(TERMINAL)
    while more := {state for state, following in TRANSITIONS.items() if following & can_end} - can_end:
        can_end |= more
    assert can_end == set(OrderState)
