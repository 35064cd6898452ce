"""The simulated buyer as a state machine: what each kind of person does next, and what it notices."""

from dataclasses import replace

import pytest

from local.rush.buyer import Buyer, tampered_with
from local.rush.intent import Do, Stage, World
from local.rush.people import Buy, Line, Pay, Person, Trick
from local.rush.record import Admitted, Ask, Done, Placed, Probe, Refused, Stood, View
from local.rush.shop import Offer

OPENS, TURN, THINKS = 1_000.0, 8.0, 1.0
PLAIN = Person(
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


@pytest.fixture
def world() -> World:
    offers = [Offer("floor", 60, (("full", 200),)), Offer("balcony", 40, (("full", 150),))]
    return World("a-sale", OPENS, TURN, THINKS, offers, {"floor": 60, "balcony": 40})


def in_line(world: World, place: int = 3, now: float = OPENS - 5, **habits: object) -> Buyer:
    """A buyer who has joined and knows the place."""
    buyer = Buyer(17, replace(PLAIN, **habits))
    (do,) = buyer.arrives(now)
    buyer.begins(do, now)
    buyer.is_answered(do, Stood(9, None), world, now)
    buyer.stands(place)
    return buyer


def admitted(world: World, allowance: int = 4, **habits: object) -> tuple[Buyer, list[Do]]:
    """A buyer within the turn, and what it does first."""
    buyer = in_line(world, **habits)
    (enter,) = buyer.is_called(world, OPENS + 1)
    assert enter.ask is Ask.ENTER
    return buyer, buyer.is_answered(enter, Admitted("token", allowance, OPENS + 9, 3), world, OPENS + 1.5)


def ordered(world: World, **habits: object) -> tuple[Buyer, Do]:
    """A buyer whose order was accepted."""
    buyer, (order,) = admitted(world, **habits)
    buyer.begins(order, OPENS + 2)
    buyer.is_answered(order, Placed("order-1"), world, OPENS + 2)
    return buyer, order


def told(buyer: Buyer, state: str, version: int, now: float = OPENS + 3, **fields: object) -> list[Do]:
    """The stream tells the state of the buyer's first order."""
    view = View("order-1", buyer.attempts[0].key, state, version, "", "", OPENS + 11, 0, 400, now)
    return buyer.is_told(view._replace(**fields), now)


# ---- the plain way ----


def test_joins_waits_enters_orders_pays(world: World) -> None:
    buyer, order = ordered(world)
    assert (order.ask, order.items, order.admission) == (Ask.ORDER, [("floor", "full", 2)], "token")
    assert buyer.left == 2
    (pay,) = told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert (pay.ask, pay.card, pay.at) == (Ask.PAY, "approve", OPENS + 3)
    assert buyer.is_answered(pay, Done("authorized"), world, OPENS + 3) == []
    assert told(buyer, "CONFIRMED", 5, units=2) == []
    assert buyer.attempts[0].ended and buyer.attempts[0].units == 2
    assert not buyer.contradictions


def test_says_that_this_was_all_unless_it_walks_away(world: World) -> None:
    buyer, (order,) = admitted(world, walks_away=False)
    buyer.begins(order, OPENS + 2)
    (leave,) = buyer.is_answered(order, Placed("order-1"), world, OPENS + 2)
    assert leave.ask is Ask.LEAVE


def test_is_not_called_twice(world: World) -> None:
    buyer = in_line(world)
    assert buyer.is_called(world, OPENS + 1)
    assert buyer.is_called(world, OPENS + 2) == []


# ---- the line ----


def test_joins_twice_and_notices_another_index(world: World) -> None:
    buyer = Buyer(1, replace(PLAIN, line=Line.JOINS_TWICE))
    (first,) = buyer.arrives(OPENS - 5)
    (again,) = buyer.is_answered(first, Stood(4, None), world, OPENS - 5)
    assert again.ask is Ask.JOIN and buyer.still_means(again)
    buyer.is_answered(again, Stood(5, None), world, OPENS - 4)
    assert buyer.contradictions == ["I8 joined again: index 4 became 5"]


def test_notices_a_place_that_changed(world: World) -> None:
    buyer = in_line(world, place=3)
    buyer.stands(3)
    assert not buyer.contradictions
    buyer.stands(4)
    assert buyer.contradictions == ["I8 place 3 became 4"]


def test_leaves_the_lobby_and_comes_back_to_the_same_index(world: World) -> None:
    buyer = Buyer(1, replace(PLAIN, line=Line.LEAVES_LOBBY))
    (first,) = buyer.arrives(OPENS - 5)
    (leave,) = buyer.is_answered(first, Stood(4, None), world, OPENS - 5)
    buyer.begins(leave, OPENS - 4.8)
    (back,) = buyer.is_answered(leave, Stood(4, None), world, OPENS - 4.7)
    assert back.ask is Ask.JOIN
    assert buyer.is_answered(back, Stood(4, None), world, OPENS - 4.6) == []
    assert buyer.stage is Stage.WAITING and not buyer.contradictions


def test_leaves_the_line_only_while_it_waits(world: World) -> None:
    buyer = Buyer(1, replace(PLAIN, line=Line.LEAVES_LINE))
    (first,) = buyer.arrives(OPENS - 5)
    (leave,) = buyer.is_answered(first, Stood(4, None), world, OPENS - 5)
    assert leave.at >= OPENS and buyer.still_means(leave)
    buyer.is_called(world, OPENS + 1)
    assert not buyer.still_means(leave)


def test_lapses_and_stands_at_the_end_afterwards(world: World) -> None:
    buyer = in_line(world, line=Line.LAPSES_UNSEEN, again=True)
    (join,) = buyer.is_called(world, OPENS + 1)
    assert join.ask is Ask.JOIN and join.at > OPENS + 1 + TURN
    buyer.is_answered(join, Stood(50, 50), world, join.at)
    assert (buyer.stage, buyer.place) == (Stage.WAITING, 50)
    (enter,) = buyer.is_called(world, join.at + 1)
    assert enter.ask is Ask.ENTER and not buyer.contradictions


def test_a_lapse_that_keeps_the_place_is_noticed(world: World) -> None:
    buyer = in_line(world, line=Line.LAPSES_UNSEEN, again=True)
    (join,) = buyer.is_called(world, OPENS + 1)
    buyer.is_answered(join, Stood(9, 3), world, join.at)
    assert any(text.startswith("I8") for text in buyer.contradictions)


def test_comes_too_late_and_must_be_refused(world: World) -> None:
    buyer = in_line(world, line=Line.LAPSES_UNSEEN)
    (enter,) = buyer.is_called(world, OPENS + 1)
    assert (enter.ask, enter.probe) == (Ask.ENTER, Probe.CAME_TOO_LATE)
    buyer.is_answered(enter, Refused("TURN_EXPIRED", {}), world, enter.at)
    assert [tuple(tried) for tried in buyer.tried] == [(Probe.CAME_TOO_LATE, "TURN_EXPIRED")]


def test_being_called_after_being_told_sold_out_is_noticed(world: World) -> None:
    buyer = in_line(world)
    buyer.is_told_sold_out(OPENS + 1)
    buyer.is_called(world, OPENS + 2)
    assert any(text.startswith("I9") for text in buyer.contradictions)


# ---- ordering ----


def test_clicks_twice_with_the_same_key_and_wants_the_same_order(world: World) -> None:
    buyer, (first, second) = admitted(world, buy=Buy.CLICKS_TWICE)
    assert first.attempt is second.attempt and buyer.left == 2
    buyer.is_answered(first, Placed("order-1"), world, OPENS + 2)
    buyer.is_answered(second, Placed("order-1"), world, OPENS + 2)
    assert not buyer.contradictions
    buyer.is_answered(second, Placed("order-2"), world, OPENS + 2)
    assert any(text.startswith("I7") for text in buyer.contradictions)


def test_a_refusal_is_repeated_too(world: World) -> None:
    buyer, (first, second) = admitted(world, buy=Buy.CLICKS_TWICE)
    buyer.is_answered(first, Refused("SECTION_SOLD_OUT", {}), world, OPENS + 2)
    buyer.is_answered(second, Refused("SECTION_SOLD_OUT", {}), world, OPENS + 2)
    assert not buyer.contradictions
    buyer.is_answered(second, Placed("order-2"), world, OPENS + 2)
    assert any(text.startswith("I7") for text in buyer.contradictions)


def test_changes_the_body_under_the_same_key(world: World) -> None:
    buyer, (order,) = admitted(world, buy=Buy.CHANGES_BODY)
    (other,) = buyer.is_answered(order, Placed("order-1"), world, OPENS + 2)
    assert other.attempt is order.attempt and other.probe is Probe.OTHER_BODY
    assert other.items != order.items


def test_holds_first_and_orders_the_hold(world: World) -> None:
    buyer, (hold,) = admitted(world, buy=Buy.HOLDS_FIRST)
    assert hold.ask is Ask.HOLD and buyer.left == 2
    (order,) = buyer.is_answered(hold, Done(), world, OPENS + 2)
    assert (order.ask, order.hold_id) == (Ask.ORDER, hold.hold_id)
    assert buyer.left == 2


def test_holds_releases_and_orders_after_all(world: World) -> None:
    buyer, (hold,) = admitted(world, buy=Buy.HOLDS_RELEASES)
    (release,) = buyer.is_answered(hold, Done(), world, OPENS + 2)
    assert (release.ask, release.hold_id) == (Ask.RELEASE, hold.hold_id)
    (order,) = buyer.is_answered(release, Done(), world, OPENS + 3)
    assert (order.ask, order.hold_id, buyer.left) == (Ask.ORDER, "", 2)


def test_orders_twice_within_the_allowance(world: World) -> None:
    buyer, (order,) = admitted(world, buy=Buy.ORDERS_TWICE)
    (second,) = buyer.is_answered(order, Placed("order-1"), world, OPENS + 2)
    assert second.attempt is not order.attempt and second.items[0][2] == 1
    assert buyer.left == 1


def test_goes_elsewhere_when_a_section_is_sold_out(world: World) -> None:
    buyer, (order,) = admitted(world)
    left = {"floor": 0, "balcony": 2}
    (other,) = buyer.is_answered(order, Refused("SECTION_SOLD_OUT", left), world, OPENS + 2)
    assert other.items == [("balcony", "full", 2)]
    assert other.attempt is not order.attempt
    assert buyer.left == 2


def test_forges_first_and_shops_after_the_refusal(world: World) -> None:
    buyer, (forgery,) = admitted(world, trick=Trick.FORGED)
    assert forgery.probe is Probe.FORGED and forgery.admission == tampered_with("token") != "token"
    (order,) = buyer.is_answered(forgery, Refused("ADMISSION_INVALID", {}), world, OPENS + 2)
    assert order.ask is Ask.ORDER


def test_tests_the_end_of_the_turn_with_a_hold_and_an_order(world: World) -> None:
    buyer, (hold,) = admitted(world, line=Line.LAPSES_ADMITTED)
    assert (hold.ask, hold.probe) == (Ask.HOLD, Probe.EXPIRED) and hold.at > buyer.turn_ends
    (order,) = buyer.is_answered(hold, Refused("TURN_EXPIRED", {}), world, hold.at)
    assert (order.ask, order.probe) == (Ask.ORDER, Probe.EXPIRED)
    buyer.is_answered(order, Refused("TURN_EXPIRED", {}), world, order.at)
    assert len(buyer.tried) == 2 and not buyer.attempts


# ---- paying ----


def test_pays_with_another_card_after_a_decline(world: World) -> None:
    buyer, _ = ordered(world, pay=Pay.DECLINED_ONCE)
    (first,) = told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert first.card == "decline"
    (second,) = buyer.is_answered(first, Done("declined"), world, OPENS + 4)
    assert second.card == "approve"
    assert buyer.is_answered(second, Done("authorized"), world, OPENS + 5) == []


def test_pays_after_the_deadline(world: World) -> None:
    buyer, _ = ordered(world, pay=Pay.PAYS_LATE)
    (late,) = told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert late.at > OPENS + 11


def test_never_pays(world: World) -> None:
    buyer, _ = ordered(world, pay=Pay.NEVER_PAYS)
    assert told(buyer, "AWAITING_PAYMENT", 2, url="http://pay") == []


def test_cancels(world: World) -> None:
    buyer, _ = ordered(world, pay=Pay.CANCELS)
    (cancel,) = told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert cancel.ask is Ask.CANCEL


def test_cancels_an_order_that_the_stream_tells_before_the_answer(world: World) -> None:
    buyer, _ = admitted(world, pay=Pay.CANCELS)
    (cancel,) = told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert cancel.attempt is not None and cancel.attempt.order_id == "order-1"


def test_an_order_that_only_the_stream_names_was_not_accepted(world: World) -> None:
    buyer, (order,) = admitted(world)
    told(buyer, "REJECTED", 1, reason="SECTION_SOLD_OUT")
    assert not buyer.attempts[0].accepted
    buyer.is_answered(order, Refused("SECTION_SOLD_OUT", {}), world, OPENS + 4)
    assert not buyer.attempts[0].accepted and not buyer.contradictions


def test_pays_once_although_the_stream_repeats_after_a_reconnect(world: World) -> None:
    buyer, _ = ordered(world)
    assert told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    assert told(buyer, "AWAITING_PAYMENT", 2, url="http://pay") == []
    assert not buyer.contradictions


def test_an_older_state_after_a_newer_one_is_noticed(world: World) -> None:
    buyer, _ = ordered(world)
    told(buyer, "CONFIRMED", 5)
    told(buyer, "AWAITING_PAYMENT", 2)
    assert any(text.startswith("I12") for text in buyer.contradictions)


def test_hears_the_stream_before_the_answer(world: World) -> None:
    buyer, (order,) = admitted(world)
    assert told(buyer, "AWAITING_PAYMENT", 2, url="http://pay")
    buyer.is_answered(order, Placed("order-1"), world, OPENS + 4)
    assert not buyer.contradictions and buyer.attempts[0].accepted


def test_is_done_once_it_left_and_heard_the_end(world: World) -> None:
    buyer, _ = ordered(world, walks_away=False)
    assert not buyer.is_done()
    told(buyer, "CONFIRMED", 5)
    assert not buyer.is_done(), "it may order more while the turn runs"
    leave = Do(OPENS + 4, Ask.LEAVE, buyer, Stage.ADMITTED)
    buyer.is_answered(leave, Stood(9, 3), world, OPENS + 4)
    assert buyer.is_done()
