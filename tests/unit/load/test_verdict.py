"""When a load run counts as failed."""

from typing import Any

from tests.load.run import failures


def series(**changes: Any) -> dict[str, Any]:
    """A series in which nothing went wrong."""
    step = {"refusals": {"Enter NOT_CALLED_YET": 9, "Join OVERLOADED": 40, "any DEADLINE": 7}}
    sound = {"steps": [step], "confirmed": [], "settled_s": 5.0, "audit": {"broken": []}}
    return {"grpc": sound | changes}


def test_refusals_by_name_are_no_failure() -> None:
    assert failures(series()) == []


def test_an_answer_that_no_load_excuses_is_one_wherever_it_came() -> None:
    steps = [{"refusals": {"Hold INTERNAL": 2}}, {"refusals": {"Hold INTERNAL": 1}}]
    found = failures(series(steps=steps, confirmed=[{"refusals": {"Join UNKNOWN": 1}}]))
    assert found == ["grpc: 3 answers were Hold INTERNAL", "grpc: 1 answers were Join UNKNOWN"]


def test_so_is_an_invariant_that_does_not_hold() -> None:
    assert failures(series(audit={"broken": ["I1", "I4"]})) == [
        "grpc: the audit found I1 violated",
        "grpc: the audit found I4 violated",
    ]


def test_and_so_are_orders_that_do_not_end() -> None:
    (found,) = failures(series(settled_s=None))
    assert found.startswith("grpc: orders or holds were still open")
