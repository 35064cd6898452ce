"""The judge: each way to break a promise is found by its number, and honest refusals are not."""

from dataclasses import replace

import pytest

from local.rush.buyer import Buyer
from local.rush.judge import OTHER, Verdict, compare, judge
from local.rush.people import Buy, Line, Pay, Person, Trick
from local.rush.record import Ask, Attempt, Probe, Refusal, Tried

SECTIONS, TURN = 2, 8.0
CALLED, ENDS = 100.0, 108.0
PERSON = Person(
    late=False,
    arrives=0.0,
    patience=0.5,
    wants=2,
    taste=0.1,
    line=Line.WAITS,
    buy=Buy.ORDERS,
    pay=Pay.PAYS,
    trick=Trick.NONE,
    walks_away=True,
    again=False,
    reconnects=False,
)


def buyer(pay: Pay = Pay.PAYS) -> Buyer:
    one = Buyer(1, replace(PERSON, pay=pay))
    one.called_at, one.turn_ends = CALLED, ENDS
    return one


def found(one: Buyer) -> dict[str, int]:
    return dict(judge([one], SECTIONS, TURN).counts)


def refusal(word: str, ask: Ask = Ask.ORDER, told_at: float = 103.0, quantity: int = 2) -> Refusal:
    return Refusal(ask, word, told_at - 0.1, told_at, quantity, left=2, turn_ends=ENDS)


def attempt(state: str, **fields: object) -> Attempt:
    one = Attempt("key", [("floor", "full", 2)])
    one.answer = one.order_id = "order-1"
    one.state, one.amount = state, 400
    for name, value in fields.items():
        setattr(one, name, value)
    return one


@pytest.mark.parametrize("word", ["SOLD_OUT", "ALLOWANCE_EXCEEDED", "TURN_EXPIRED", "LIMIT_REACHED"])
def test_within_turn_and_allowance_these_break_the_promise(word: str) -> None:
    one = buyer()
    one.refusals.append(refusal(word))
    assert found(one) == {"I9": 1}


@pytest.mark.parametrize("word", ["SECTION_SOLD_OUT", "NOT_ADJACENT"])
def test_another_section_is_an_honest_refusal(word: str) -> None:
    one = buyer()
    one.refusals.append(refusal(word))
    assert found(one) == {}


def test_after_the_turn_its_end_is_an_honest_refusal() -> None:
    one = buyer()
    one.refusals.append(refusal("TURN_EXPIRED", told_at=ENDS + 0.1))
    assert found(one) == {}


def test_more_than_the_allowance_may_be_refused_but_not_as_sold_out() -> None:
    one = buyer()
    one.refusals.append(refusal("SOLD_OUT", quantity=3))
    assert found(one) == {OTHER: 1}


def test_every_section_refused_in_several_rounds_breaks_the_promise() -> None:
    one = buyer()
    one.refusals.extend([refusal("SECTION_SOLD_OUT")] * 6)
    assert found(one) == {"I9": 1}


def test_who_comes_at_once_must_be_let_in() -> None:
    one = buyer()
    one.refusals.append(refusal("TURN_EXPIRED", Ask.ENTER, told_at=CALLED + 1))
    assert found(one) == {"I9": 1}


def test_who_comes_after_the_turn_may_be_refused() -> None:
    one = buyer()
    one.refusals.append(refusal("TURN_EXPIRED", Ask.ENTER, told_at=ENDS + 1))
    assert found(one) == {}


@pytest.mark.parametrize(
    "probe", [Probe.BEFORE_OPENING, Probe.NO_ADMISSION, Probe.FOREIGN, Probe.FORGED, Probe.EXPIRED]
)
def test_a_hold_without_a_promise_that_works_is_found(probe: Probe) -> None:
    one = buyer()
    one.tried.append(Tried(probe, ""))
    assert found(one) == {"I10": 1}


def test_the_right_refusals_are_right() -> None:
    one = buyer()
    one.tried += [
        Tried(Probe.BEFORE_OPENING, "WRONG_PHASE"),
        Tried(Probe.NO_ADMISSION, "ADMISSION_REQUIRED"),
        Tried(Probe.FOREIGN, "ADMISSION_FOREIGN"),
        Tried(Probe.FORGED, "ADMISSION_INVALID"),
        Tried(Probe.EXPIRED, "TURN_EXPIRED"),
        Tried(Probe.OTHER_BODY, "IDEMPOTENCY_KEY_REUSED"),
    ]
    assert found(one) == {}


def test_a_refusal_of_the_wrong_kind_is_a_surprise() -> None:
    one = buyer()
    one.tried.append(Tried(Probe.NO_ADMISSION, "INTERNAL"))
    assert found(one) == {OTHER: 1}


def test_another_body_that_is_taken_breaks_idempotency() -> None:
    one = buyer()
    one.tried.append(Tried(Probe.OTHER_BODY, ""))
    assert found(one) == {"I7": 1}


def test_an_order_whose_end_was_never_told() -> None:
    one = buyer()
    one.attempts.append(attempt("AWAITING_PAYMENT"))
    assert found(one) == {"I12": 1}


def test_an_order_that_was_accepted_and_then_rejected() -> None:
    one = buyer()
    one.attempts.append(attempt("REJECTED", reason="SOLD_OUT"))
    assert found(one) == {"I9": 1}


@pytest.mark.parametrize(
    ("pay", "state", "surprises"),
    [
        (Pay.PAYS, "CONFIRMED", 0),
        (Pay.PAYS, "EXPIRED", 1),
        (Pay.DECLINED_ONCE, "PAYMENT_FAILED", 1),
        (Pay.DECLINED, "PAYMENT_FAILED", 0),
        (Pay.DECLINED, "CONFIRMED", 1),
        (Pay.NEVER_PAYS, "EXPIRED", 0),
        (Pay.NEVER_PAYS, "CONFIRMED", 1),
        (Pay.PAYS_LATE, "EXPIRED", 0),
        (Pay.CANCELS, "CANCELLED", 0),
    ],
)
def test_an_order_ends_as_its_buyer_paid(pay: Pay, state: str, surprises: int) -> None:
    one = buyer(pay)
    one.attempts.append(attempt(state))
    assert found(one).get(OTHER, 0) == surprises


def test_free_of_charge_is_confirmed_without_paying() -> None:
    one = buyer(Pay.NEVER_PAYS)
    one.attempts.append(attempt("CONFIRMED", amount=0))
    assert found(one) == {}


def test_a_refused_order_must_not_be_told_otherwise() -> None:
    one = buyer()
    refused = attempt("REJECTED", order_id="", answer="SECTION_SOLD_OUT", reason="SECTION_SOLD_OUT")
    one.attempts.append(refused)
    assert found(one) == {}
    refused.state = "CONFIRMED"
    assert found(one) == {OTHER: 1}


def test_get_order_must_agree_with_the_stream() -> None:
    verdict = Verdict()
    told = attempt("CONFIRMED", version=5)
    compare(verdict, told, "CONFIRMED", 5)
    assert not verdict.counts
    compare(verdict, told, "EXPIRED", 6)
    assert verdict.counts == {"I12": 1}
