"""What surrounds the decisions: the fleet by its labels, patches, the probe, the services' clock."""

from typing import Any

import pytest
from catraca_operator import clock as clocks
from catraca_operator import progress as progresses
from catraca_operator.clock import Clock
from catraca_operator.progress import Progress
from catraca_operator.resources import Fleet, Scaled, _micro, _replaced, scaled


def hpa(name: str = "queue", component: str = "queue", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component},
            "annotations": {"catraca.dev/base-floor": "3"},
        },
        "spec": {"scaleTargetRef": {"name": f"{name}-d"}, "maxReplicas": 9, **spec},
    }


def test_what_counts_of_an_hpa() -> None:
    assert scaled(hpa(minReplicas=4)) == Scaled("queue", "queue-d", 4, 9, 3, True)
    # Without minReplicas Kubernetes takes one.
    assert scaled(hpa()).present == 1


@pytest.mark.parametrize(("text", "base"), [("0", 0), ("12", 12), ("-1", 1), ("two", 1), ("", 1)])
def test_a_base_floor_that_is_no_number_is_one(text: str, base: int) -> None:
    body = hpa()
    body["metadata"]["annotations"]["catraca.dev/base-floor"] = text
    assert scaled(body).base == base


def test_an_hpa_without_metrics_is_known_as_one() -> None:
    body = hpa()
    for status, metrics in (("True", True), ("False", False), ("Unknown", True)):
        body["status"] = {"conditions": [{"type": "ScalingActive", "status": status}]}
        assert scaled(body).metrics is metrics


def test_the_fleet_is_found_by_labels_and_ready_by_the_hpas_target() -> None:
    fleet = Fleet("catraca")
    fleet.saw_scaler(hpa())
    fleet.saw_scaler(hpa("other", component="database"))
    fleet.saw_deployment({"metadata": {"name": "queue-d"}, "status": {"readyReplicas": 2}})
    fleet.saw_deployment({"metadata": {"name": "queue"}, "status": {"readyReplicas": 7}})
    assert set(fleet.scaled) == {"queue"}
    assert (fleet.ready("queue"), fleet.ready("checkout")) == (2, 0)
    fleet.lost_deployment({"metadata": {"name": "queue-d"}})
    assert fleet.ready("queue") == 0
    fleet.lost_scaler(hpa())
    assert fleet.scaled == {}


def test_an_hpa_that_took_anothers_place_is_not_lost_with_it() -> None:
    fleet = Fleet("catraca")
    fleet.saw_scaler(hpa("queue"))
    fleet.saw_scaler(hpa("queue-two"))
    fleet.lost_scaler(hpa("queue"))
    assert fleet.scaled["queue"].name == "queue-two"


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
