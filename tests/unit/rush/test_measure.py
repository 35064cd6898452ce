"""Percentiles by hand."""

import pytest

from local.rush.measure import Durations, percentile, rate


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentile_of_one_to_a_hundred(share: float, expected: int) -> None:
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_a_single_value_is_every_percentile() -> None:
    assert percentile([3.0], 0.5) == percentile([3.0], 0.99) == 3.0


def test_summary_in_milliseconds() -> None:
    durations = Durations()
    for seconds in (0.3, 0.1, 0.2):
        durations.add(seconds)
    assert durations.summary() == {"count": 3, "p50_ms": 200.0, "p99_ms": 300.0, "max_ms": 300.0}


def test_nothing_measured_has_no_percentiles() -> None:
    assert Durations().summary() == {"count": 0}


def test_rate() -> None:
    assert rate(10, 4.0) == 2.5
    assert rate(10, 0.0) == 0.0
