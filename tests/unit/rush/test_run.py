"""A rush fails for every reason it should, and for no other."""

from typing import Any

import pytest

from local.rush.run import failures

CLEAN: dict[str, Any] = {
    "ended": "sold out",
    "settings": {"timeout_s": 300.0},
    "tickets": {"sold": 10, "capacity": 10},
    "units_confirmed": 10,
    "verdict": {"counts": {}},
    "audit": {"broken": []},
    "upheaval": None,
}

UPHEAVAL: dict[str, Any] = {
    "what": "rolling restart",
    "unnoticed": True,
    "finished": True,
    "replicas": ["queue-1"],
    "refused": {},
}


def test_a_clean_run_has_no_failures() -> None:
    assert failures(CLEAN) == []
    assert failures(CLEAN | {"ended": "nobody left to buy", "tickets": {"sold": 10, "capacity": 99}}) == []
    assert failures(CLEAN | {"upheaval": UPHEAVAL}) == []


def test_who_is_killed_may_be_missed() -> None:
    noticed = UPHEAVAL | {"unnoticed": False, "refused": {"order UNAVAILABLE": 3}}
    assert failures(CLEAN | {"upheaval": noticed}) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ended": "gave up"}, "not over after 300 s"),
        ({"tickets": {"sold": 10, "capacity": 11}}, "all is sold"),
        ({"units_confirmed": 9}, "told of 9 tickets"),
        ({"verdict": {"counts": {"I9": 2}}}, "I9: 2 times"),
        ({"audit": {"broken": ["I4"]}}, "I4"),
        ({"upheaval": UPHEAVAL | {"finished": False}}, "over before the rolling restart was, after 1"),
        ({"upheaval": UPHEAVAL | {"refused": {"order UNAVAILABLE": 3}}}, "refused 3 times because"),
    ],
)
def test_each_reason_to_fail(change: dict[str, Any], word: str) -> None:
    (failure,) = failures(CLEAN | change)
    assert word in failure
