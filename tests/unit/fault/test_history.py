"""The judge of histories: what some order explains, and what none does."""

from collections.abc import Sequence

import pytest

from tests.fault.history import Call, History, judge

CAPACITY = 2
Told = tuple[str, str, float, float, str, set[int]]


def history_of(*told: Told) -> History:
    """Calls as (client, op, began, ended, word, units), each about the client's one hold."""
    return History(
        [
            Call(client, op, "hold", began, 1, ended, word, frozenset(units))
            for client, op, began, ended, word, units in told
        ]
    )


EXPLAINED: Sequence[tuple[str, Sequence[Told], Sequence[tuple[float, float]]]] = [
    ("one after the other", [("a", "hold", 0, 1, "HELD", {0}), ("b", "hold", 2, 3, "HELD", {1})], []),
    (
        "a unit that was given back meanwhile",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("a", "release", 2, 9, "RELEASED", {0}),
            ("b", "hold", 3, 4, "HELD", {0}),
        ],
        [],
    ),
    (
        "refused by who is answered later",
        [
            ("a", "hold", 0, 9, "HELD", {0}),
            ("b", "hold", 0, 9, "HELD", {1}),
            ("c", "hold", 1, 2, "SOLD_OUT", set()),
        ],
        [],
    ),
    (
        "an order that goes by three calls at once",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("d", "hold", 0, 1, "HELD", {1}),
            ("a", "release", 2, 9, "RELEASED", {0}),
            ("b", "hold", 2, 9, "HELD", {0}),
            ("c", "hold", 3, 4, "SOLD_OUT", set()),
        ],
        [],
    ),
    (
        "a hold that went with its store",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("b", "hold", 6, 7, "HELD", {0}),
            ("a", "show", 6, 7, "LOST", {0}),
        ],
        [(4, 5)],
    ),
    (
        "a hold that was lost before it was answered",
        [("a", "hold", 0, 9, "LOST", {0}), ("b", "hold", 6, 7, "HELD", {0})],
        [(4, 5)],
    ),
    (
        "sold out by a hold that was lost before it was answered",
        [
            ("b", "hold", 0, 1, "HELD", {0}),
            ("a", "hold", 1.5, 9, "HELD", {0}),
            ("c", "hold", 2, 3, "SOLD_OUT", set()),
        ],
        [(4, 5)],
    ),
]
UNEXPLAINED: Sequence[tuple[str, Sequence[Told], Sequence[tuple[float, float]]]] = [
    ("two have one unit", [("a", "hold", 0, 1, "HELD", {0}), ("b", "hold", 0, 1, "HELD", {0})], []),
    ("a unit that there is not", [("a", "hold", 0, 1, "HELD", {2})], []),
    ("more units than were asked for", [("a", "hold", 0, 1, "HELD", {0, 1})], []),
    (
        "sold out while one is free",
        [("a", "hold", 0, 1, "HELD", {0}), ("b", "hold", 2, 3, "SOLD_OUT", set())],
        [],
    ),
    (
        "other units than before",
        [("a", "hold", 0, 1, "HELD", {0}), ("a", "show", 2, 3, "HELD", {1})],
        [],
    ),
    (
        "held after it was given back",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("a", "release", 2, 3, "RELEASED", {0}),
            ("a", "show", 4, 5, "HELD", {0}),
        ],
        [],
    ),
    ("lost by no loss", [("a", "hold", 0, 1, "HELD", {0}), ("a", "show", 2, 3, "LOST", {0})], []),
    (
        "lost before it was held",
        [("a", "hold", 6, 7, "HELD", {0}), ("a", "show", 8, 9, "LOST", {0})],
        [(4, 5)],
    ),
    ("held and forgotten", [("a", "hold", 0, 1, "HELD", {0}), ("a", "show", 2, 3, "NOT_FOUND", set())], []),
    (
        "given away before it could be free",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("b", "hold", 2, 3, "HELD", {0}),
            ("a", "release", 4, 5, "RELEASED", {0}),
        ],
        [],
    ),
    (
        # Each pair of the calls has an order; all of them have none.
        "two refusals and a release between them that each need another order",
        [
            ("a", "hold", 0, 1, "HELD", {0}),
            ("b", "hold", 0, 1, "HELD", {1}),
            ("a", "release", 2, 9, "RELEASED", {0}),
            ("c", "hold", 3, 4, "HELD", {0}),
            ("c", "release", 5, 6, "RELEASED", {0}),
            ("d", "hold", 7, 8, "SOLD_OUT", set()),
        ],
        [],
    ),
    ("never answered", [("a", "hold", 0, float("inf"), "", set())], []),
]


@pytest.mark.parametrize(
    ("told", "lost"), [each[1:] for each in EXPLAINED], ids=[each[0] for each in EXPLAINED]
)
def test_some_order_explains_it(told: Sequence[Told], lost: Sequence[tuple[float, float]]) -> None:
    assert judge(history_of(*told), capacity=CAPACITY, lost=lost) == []


@pytest.mark.parametrize(
    ("told", "lost"), [each[1:] for each in UNEXPLAINED], ids=[each[0] for each in UNEXPLAINED]
)
def test_no_order_explains_it(told: Sequence[Told], lost: Sequence[tuple[float, float]]) -> None:
    assert judge(history_of(*told), capacity=CAPACITY, lost=lost) != []
