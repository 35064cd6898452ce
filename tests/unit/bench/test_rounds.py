"""Rounds are interleaved, and a ratio is one of values of the same round."""

from collections.abc import Iterable

import pytest

from bench.rounds import Rounds, Subject, interleaved
from bench.table import Goal


async def test_subjects_take_turns_and_the_first_time_does_not_count() -> None:
    order: list[str] = []

    def subject(name: str, values: Iterable[float]) -> Subject:
        coming = iter(values)

        async def once() -> float:
            order.append(name)
            return next(coming)

        return once

    rounds = await interleaved({"a": subject("a", [99, 1, 2]), "b": subject("b", [98, 3, 4])}, 2)
    assert order == ["a", "b"] * 3
    assert rounds.found == {"a": [1, 2], "b": [3, 4]}


def test_what_slows_a_whole_round_leaves_its_ratio_alone() -> None:
    rounds = Rounds({"ours": [90, 9, 80], "empty": [100, 10, 100]})
    assert rounds.of("ours") == 80
    assert rounds.ratio("ours", "empty") == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(0.9, least=0.9), True),
        (Goal(0.89, least=0.9), False),
        (Goal(1.3, most=1.3), True),
        (Goal(1.31, most=1.3), False),
        (Goal(float("nan"), least=0.1), False),
        (Goal(float("nan"), most=0.1), False),
    ],
)
def test_a_goal_is_a_bound_that_counts_as_reached(goal: Goal, met: bool) -> None:
    assert goal.met is met
    assert ("MISSED" in str(goal)) is not met
