"""What surrounds the decisions: patches, the probe, the services' clock."""

from typing import Any

import pytest
from catraca_operator import clock as clocks
from catraca_operator import progress as progresses
from catraca_operator.clock import Clock
from catraca_operator.progress import Progress
from catraca_operator.resources import _micro, _replaced


def merged(before: Any, patch: Any) -> Any:
    """What a JSON merge patch makes of a value."""
    if not isinstance(patch, dict):
        return patch
    made = dict(before) if isinstance(before, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 2}}}),
        ({"a": [1, 2]}, {"a": [2]}),
        ({"a": 1}, {"a": {"b": 1}}),
    ],
)
def test_a_patch_makes_the_status_this_and_nothing_else(before: Any, after: Any) -> None:
    assert merged(before, _replaced(before, after)) == after


def test_the_apis_microtime_has_six_digits() -> None:
    assert _micro(1_700_000_000_120) == "2023-11-14T22:13:20.120000Z"
    assert _micro(1_700_000_000_000) == "2023-11-14T22:13:20.000000Z"


def test_a_loop_that_is_overdue_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(progresses.time, "monotonic", lambda: now_s)
    progress = Progress(stuck_s=20)
    assert progress.healthy
    progress.within("scaler", 30)
    progress.within("sale/show", 5)
    now_s = 124.9
    assert progress.healthy
    now_s = 125.1
    assert not progress.healthy
    progress.within("sale/show", 5)
    assert progress.healthy
    now_s = 1000.0
    progress.ended("sale/show")
    progress.ended("scaler")
    assert progress.healthy


def test_the_services_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = 1_000_000
    monkeypatch.setattr(clocks, "own_ms", lambda: own)
    clock = Clock()
    assert clock.now_ms() == own
    # Asked 100 ms ago: the answer is of the middle.
    clock.learn(own + 4_950, own - 100)
    assert clock.now_ms() == own + 5_000
    # An answer that took too long says too little.
    clock.learn(own, own - 501)
    assert clock.now_ms() == own + 5_000
