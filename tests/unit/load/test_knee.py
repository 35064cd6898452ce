"""Where the knee is, and what a step's numbers are made of."""

from collections import Counter

import pytest

from tests.load.knee import Measured, knee, measured, percentile_us
from tests.load.settings import Step
from tests.load.tally import StepTally, together


def step(offered: float, achieved: float, p99_ms: float) -> Measured:
    return Measured(offered, achieved, 5.0, 0, 1.0, 1.0, p99_ms, p99_ms)


IDLE = step(100, 100, 4.0)


@pytest.mark.parametrize(
    ("above", "found"),
    [
        ([], 100),
        ([step(500, 500, 5.0), step(1000, 990, 40.0)], 1000),
        # It serves everybody, but they wait.
        ([step(500, 500, 5.0), step(1000, 1000, 40.1)], 500),
        # It is quick, but does not serve everybody.
        ([step(500, 475, 5.0), step(1000, 949, 5.0)], 500),
        # A step that stumbles does not hide a higher one that does not.
        ([step(500, 400, 90.0), step(1000, 990, 9.0)], 1000),
    ],
)
def test_the_knee_is_the_highest_step_that_keeps_both_bounds(above: list[Measured], found: float) -> None:
    at = knee([IDLE, *above])
    assert at is not None and at.offered == found


def test_there_is_no_knee_where_not_even_the_idle_step_was_served() -> None:
    assert knee([]) is None
    assert knee([step(100, 90, 4.0), step(500, 400, 40.0)]) is None


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = list(range(1, 1001))
    assert [percentile_us(values, share) for share in (0.5, 0.9, 0.99, 0.999, 1.0)] == [
        500,
        900,
        990,
        999,
        1000,
    ]
    assert percentile_us([7], 0.999) == 7 and percentile_us([], 0.5) == 0


def test_only_what_was_served_in_time_is_achieved() -> None:
    tally = StepTally()
    tally.note("Join", {"OK": 1}, 0.010, in_time=True)
    tally.note("Enter", {"NOT_CALLED_YET": 1}, 0.010, in_time=True)
    tally.note("Join", {"OK": 1}, 3.0, in_time=False)
    tally.note("Join", {"OVERLOADED": 1}, 0.001, in_time=True)
    tally.note("Hold", {"INTERNAL": 1}, 0.001, in_time=True)
    tally.note("JoinMany", {"OK": 8, "JOIN_LIMIT": 2}, 0.020, in_time=True)
    tally.note_unsent(4.0, 1)
    found = measured(Step(10.0, 0.0, 2.0), together([[tally]])[0], {"queue": 0.5})
    assert found.achieved == (1 + 1 + 10) / 2
    assert found.unsent == 1
    assert found.p999_ms == 4000.0, "what was never sent waited, too"
    assert found.refusals["JoinMany JOIN_LIMIT"] == 2 and "Join OK" not in found.refusals
    assert found.defects == {"Hold INTERNAL": 1}


def test_workers_are_added_up_step_by_step() -> None:
    first = [StepTally(2, 2, 0, Counter({"Join OK": 2}), [5, 1]), StepTally()]
    second = [StepTally(1, 0, 1, Counter({"Join OK": 1}), [3, 4]), StepTally(1, 1, 0, Counter(), [9])]
    added = together([first, second])
    assert added[0] == StepTally(3, 2, 1, Counter({"Join OK": 3}), [1, 3, 4, 5])
    assert added[1].latencies_us == [9]
    assert StepTally.from_json(first[0].to_json()) == first[0]
