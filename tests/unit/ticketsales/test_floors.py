"""Floors of overlapping sales: they add up, rise in steps, and nothing is lowered while a window is open."""

import random

import pytest
from catraca_operator import floors
from catraca_operator.floors import SKEW_MS, Floor, Wish, crowds, floor, holds, moments, next_moment, wanted
from catraca_operator.spec import Override, Replicas, Scaling, Schedule

LEAD, COOLDOWN = 60_000, 50_000
LOBBY, OPENS, CLOSES = 900_000, 1_000_000, 2_000_000
SERVICE = "queue"


def wish(name: str = "show", at: int = 0, low: int = 3, peak: int = 9, **changes: object) -> Wish:
    """A sale whose times lie `at` later than those above."""
    made: dict[str, object] = {
        "sale": name,
        "schedule": Schedule(LOBBY + at, OPENS + at, CLOSES + at),
        "scaling": Scaling(LEAD, 3, COOLDOWN, False, {SERVICE: Replicas(low, peak, 20)}),
    }
    return Wish(**made | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now_ms", "replicas"),
    [
        (0, 0),
        (LOBBY - LEAD - 1, 0),
        (LOBBY - LEAD, 1),
        (LOBBY - LEAD + 19_999, 1),
        (LOBBY - LEAD + 20_000, 2),
        (LOBBY - LEAD + 40_000, 3),
        (LOBBY, 3),
        (OPENS - LEAD - 1, 3),
        (OPENS - LEAD, 5),
        (OPENS - LEAD + 20_000, 7),
        (OPENS - LEAD + 40_000, 9),
        (OPENS, 9),
        (CLOSES - 1, 9),
        (CLOSES, 0),
    ],
)
def test_a_sale_wants_more_step_by_step(now_ms: int, replicas: int) -> None:
    assert wanted(wish(), SERVICE, now_ms) == replicas


def test_what_it_wants_changes_at_its_moments_and_nowhere_else() -> None:
    one = wish(override=Override(950_000, "x", {SERVICE: 4}))
    changes = {
        at for at in range(LOBBY - 2 * LEAD, CLOSES + 2 * COOLDOWN, 1)
        if at % 1000 in (0, 1, 999) and wanted(one, SERVICE, at) != wanted(one, SERVICE, at - 1)
    }  # fmt: skip
    assert changes
    assert changes <= set(moments(one))


def test_steps_that_do_not_divide_the_lead_come_at_whole_milliseconds() -> None:
    one = wish(scaling=Scaling(1000, 7, COOLDOWN, False, {SERVICE: Replicas(7, 7, 7)}))
    for step, at in enumerate(sorted(set(moments(one)))[:7]):
        assert wanted(one, SERVICE, at - 1) == step
        assert wanted(one, SERVICE, at) == step + 1


def test_without_a_lobby_before_the_opening_the_floor_rises_to_the_peak_at_once() -> None:
    one = wish(schedule=Schedule(OPENS, OPENS, CLOSES))
    rising = [wanted(one, SERVICE, OPENS - LEAD + each) for each in (-1, 0, 20_000, 40_000)]
    assert rising == sorted(rising)
    assert (rising[0], rising[-1]) == (0, 9)


def test_a_forecast_raises_the_peak_up_to_the_most_and_only_where_it_may() -> None:
    for expected, replicas in ((4, 9), (15, 15), (99, 20)):
        one = wish(expected={SERVICE: expected})
        assert wanted(one, SERVICE, OPENS) == 9
        allowed = wish(
            expected={SERVICE: expected},
            scaling=Scaling(LEAD, 3, COOLDOWN, True, {SERVICE: Replicas(3, 9, 20)}),
        )
        assert wanted(allowed, SERVICE, OPENS) == replicas


def test_a_persons_word_stands_until_its_time() -> None:
    one = wish(override=Override(OPENS + 10, "x", {SERVICE: 1, "notifier": 4}))
    assert [wanted(one, SERVICE, at) for at in (0, OPENS, OPENS + 9, OPENS + 10)] == [1, 1, 1, 9]
    assert [wanted(one, "notifier", at) for at in (OPENS + 9, OPENS + 10)] == [4, 0]


def at(now_ms: int, *wishes: Wish, base: int = 2, present: int = 2, most: int = 50) -> Floor:
    return floor(SERVICE, wishes, now_ms, base=base, present=present, most=most)


def test_floors_add_up_and_the_charts_own_is_kept() -> None:
    assert at(0).value == 2
    assert at(OPENS, wish(low=0, peak=1)).value == 2
    assert at(OPENS, wish(), wish("other", peak=5)) == Floor(14, 14, 2, 50)
    assert at(OPENS, wish(), wish("later", at=10_000_000)) == Floor(9, 9, 1, 50)


def test_at_rest_there_may_be_none_where_the_chart_says_so() -> None:
    assert at(0, base=0, present=0).value == 0


def test_nothing_is_lowered_in_any_window() -> None:
    one, other = wish(), wish("other", at=500_000)
    # The first is closed and wants nothing any more; the other's window goes on.
    assert wanted(one, SERVICE, CLOSES + COOLDOWN + 1) == 0
    assert at(CLOSES + COOLDOWN + 1, one, other, present=18).value == 18
    over = CLOSES + 500_000 + COOLDOWN
    assert at(over - 1, one, other, present=18).value == 18
    assert at(over, one, other, present=18).value == 2


def test_a_sale_that_scales_something_else_holds_nothing() -> None:
    other = wish("other", scaling=Scaling(LEAD, 3, COOLDOWN, False, {"checkout": Replicas(1, 1, 1)}))
    assert at(OPENS, other, present=18).value == 2
    assert not holds(wish(scaling=Scaling()), SERVICE, OPENS)


def test_a_person_may_lower_a_floor_in_a_window() -> None:
    one = wish(override=Override(CLOSES, "too many", {SERVICE: 3}))
    assert at(OPENS + 5, one, present=9).value == 3
    # What was lowered stays so: when the word ends, the schedule counts again.
    assert at(CLOSES - 1, one, present=3).value == 3


def test_a_floor_is_never_above_what_there_may_be() -> None:
    assert at(OPENS, wish(), wish("other"), most=12) == Floor(12, 18, 2, 12)
    assert at(OPENS, wish(), present=40, most=12).value == 12


def test_two_operators_with_clocks_apart_never_undo_each_other() -> None:
    """Both look again and again, each by its own clock; the field changes as often as with one of them."""
    chance = random.Random(7)
    sales = [wish("a"), wish("b", at=300_000), wish("c", at=4_000_000, low=1, peak=4)]

    def course(*skews: int) -> list[int]:
        present, written = 2, [2]
        for now_ms in range(LOBBY - 200_000, 6_500_000, 4_000):
            for skew in chance.sample(skews, len(skews)):
                value = at(now_ms + skew, *sales, present=present).value
                if value != present:
                    present = value
                    written.append(value)
        return written

    alone = course(0)
    assert max(alone) == 18
    assert alone[-1] == 2
    for skew in (100, 5_000, SKEW_MS - 5_000):
        assert course(-skew // 2, skew // 2) == alone


def test_the_next_moment_is_of_any_sale() -> None:
    sales = [wish("a"), wish("b", at=10_000)]
    assert next_moment(sales, 0) == LOBBY - LEAD
    assert next_moment(sales, LOBBY - LEAD) == LOBBY - LEAD + 10_000
    assert next_moment(sales, CLOSES + 10_000 + COOLDOWN) is None
    assert next_moment([], 0) is None


def test_a_conflict_is_known_before_it_comes() -> None:
    one, other, apart = wish("one"), wish("other", at=20_000), wish("apart", at=10_000_000)
    found = crowds(SERVICE, [one, other, apart], 0, most=12)
    assert set(found) == {"one", "other"}
    assert found["one"] == found["other"]
    first = found["one"]
    assert (first.wanted, first.sales, first.most) == (16, 2, 12)
    # At the first moment at which they want so much, and not before.
    assert sum(wanted(each, SERVICE, first.at_ms) for each in (one, other)) == 16
    assert sum(wanted(each, SERVICE, first.at_ms - 1) for each in (one, other)) <= 12


def test_a_conflict_that_is_over_is_none() -> None:
    sales = [wish("one"), wish("other")]
    assert set(crowds(SERVICE, sales, OPENS, most=12)) == {"one", "other"}
    assert crowds(SERVICE, sales, OPENS, most=18) == {}
    assert crowds(SERVICE, sales, CLOSES, most=1) == {}


def test_conflicts_of_many_sales_are_found_as_by_looking_at_every_moment() -> None:
    chance = random.Random(3)
    sales = [
        wish(f"s{n}", at=chance.randrange(0, 2_000_000, 7_000), peak=chance.randint(3, 9)) for n in range(12)
    ]
    found = crowds(SERVICE, sales, 0, most=30)
    every = sorted({at for each in sales for at in moments(each)})
    for each in sales:
        crowded = [
            at
            for at in every
            if wanted(each, SERVICE, at) and sum(wanted(other, SERVICE, at) for other in sales) > 30
        ]
        assert (found[each.sale].at_ms if each.sale in found else None) == (crowded[0] if crowded else None)


def test_the_warm_up_and_the_cooldown_are_the_ends() -> None:
    assert floors.begins_ms(wish()) == LOBBY - LEAD
    assert floors.ends_ms(wish()) == CLOSES + COOLDOWN
