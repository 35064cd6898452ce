"""The open loop: what is due does not depend on how long answers take."""

import pytest

from tests.load.pacing import Arrival, Pacing
from tests.load.settings import LoadSettings, Step, steps

LADDER = [Step(4.0, 0.0, 1.0), Step(8.0, 2.0, 1.0)]


def all_of(pacing: Pacing, now_s: float = 0.0) -> list[Arrival]:
    found = []
    while (arrival := pacing.take(now_s)) is not None:
        found.append(arrival)
    return found


def test_arrivals_are_evenly_spaced_at_the_rate_of_their_step() -> None:
    arrivals = all_of(Pacing(LADDER))
    assert [each.due_s for each in arrivals if each.step == 0] == [0.0, 0.25, 0.5, 0.75]
    assert [each.due_s for each in arrivals if each.step == 1] == [2.0 + n / 8 for n in range(8)]


def test_who_comes_late_gets_what_was_due_first() -> None:
    pacing = Pacing(LADDER)
    assert [pacing.take(0.9) for _ in range(2)] == [Arrival(0, 0.0), Arrival(0, 0.25)]


def test_what_nobody_took_before_its_step_ended_is_not_sent_but_counted() -> None:
    pacing = Pacing(LADDER)
    pacing.take(0.0)
    assert pacing.take(2.1) == Arrival(1, 2.0)
    assert pacing.unsent == [[0.25, 0.5, 0.75], []]


def test_nothing_is_due_after_the_last_step() -> None:
    pacing = Pacing(LADDER)
    assert pacing.take(9.0) is None and pacing.take(9.0) is None
    assert [len(unsent) for unsent in pacing.unsent] == [4, 8]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_share_the_arrivals_in_turn(workers: int) -> None:
    shares = [all_of(Pacing(LADDER, workers=workers, worker=number)) for number in range(workers)]
    assert sorted(each for share in shares for each in share) == all_of(Pacing(LADDER))


def test_an_arrival_of_many_items_comes_as_much_more_seldom() -> None:
    assert [each.due_s for each in all_of(Pacing(LADDER[:1], items=2))] == [0.0, 0.5]


def test_steps_follow_each_other_after_a_warm_up_that_is_not_measured() -> None:
    ladder = steps([10.0, 20.0], 5.0, LoadSettings(step_s=2.0, gap_s=0.5))
    assert [step.rate for step in ladder] == [5.0, 10.0, 20.0]
    assert [step.begins_s for step in ladder] == [0.0, 2.5, 5.0]
    assert [step.measured for step in ladder] == [False, True, True]
