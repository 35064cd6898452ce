"""The line's rules: places, turns, what there is to wait for, and honest estimates."""

from dataclasses import replace

import pytest
from catraca.sale.v1 import sale_pb2

from services.kit.errors import Refusal
from services.queue import rules
from services.queue.draw import Permutation
from services.queue.line import entry_refusal
from services.queue.states import (
    TRANSITIONS,
    Availability,
    Entry,
    Phase,
    PlaceState,
    PlaceView,
    Standing,
    Turn,
)

OPEN = Standing(
    phase=Phase.OPEN,
    now_ms=1_000_000,
    serving=100,
    joined=1000,
    cohort=500,
    key=b"k" * 32,
    availability=Availability.SELLING,
    revision=1,
    lobby_opens_ms=0,
    opens_ms=900_000,
    closes_ms=2_000_000,
)
LOBBY = replace(OPEN, phase=Phase.LOBBY, now_ms=800_000, cohort=None, key=b"", serving=0)
FROZEN = replace(OPEN, key=b"", serving=0)


def test_a_place_is_drawn_within_the_cohort_and_its_index_behind_it() -> None:
    permutation = Permutation(OPEN.key, 500)

    assert rules.place_of(Entry(7, 0), OPEN, permutation) == permutation.place(7)
    assert rules.place_of(Entry(500, 0), OPEN, permutation) == 500
    assert rules.place_of(Entry(7, 0), LOBBY, None) is None
    assert rules.place_of(Entry(7, 0), FROZEN, None) is None
    assert rules.place_of(Entry(777, 0), FROZEN, None) == 777


@pytest.mark.parametrize("place", [0, 1, 499, 500, 5000])
def test_calling_finds_the_index_of_each_place(place: int) -> None:
    permutation = Permutation(OPEN.key, 500)

    index = rules.index_at(place, 500, permutation)

    assert rules.place_of(Entry(index, 0), OPEN, permutation) == place


def test_nobody_of_the_cohort_is_called_before_the_draw() -> None:
    with pytest.raises(ValueError, match="before the draw"):
        rules.index_at(0, 500, None)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"unpromised": 1, "promised": 4, "held": 0, "claims": 0}, Availability.SELLING),
        ({"unpromised": 0, "promised": 4, "held": 0, "claims": 0}, Availability.MAY_RETURN),
        ({"unpromised": 0, "promised": 0, "held": 1, "claims": 0}, Availability.MAY_RETURN),
        ({"unpromised": 0, "promised": 0, "held": 0, "claims": 1}, Availability.MAY_RETURN),
        ({"unpromised": 0, "promised": 0, "held": 0, "claims": 0}, Availability.SOLD_OUT),
        ({"unpromised": 0, "reserved": 1, "promised": 0, "held": 0, "claims": 0}, Availability.MAY_RETURN),
    ],
)
def test_what_there_is_to_wait_for(counts: dict[str, int], expected: Availability) -> None:
    assert rules.availability(**{"reserved": 0, **counts}) is expected


@pytest.mark.parametrize(
    ("turn", "anew"),
    [
        (Turn(PlaceState.CALLED, left=2), False),
        (Turn(PlaceState.LAPSED), True),
        (Turn(PlaceState.LAPSED, has=4), True),
        (Turn(PlaceState.FINISHED, has=3), True),
        (Turn(PlaceState.FINISHED, has=4), False),
        (Turn(PlaceState.FINISHED), True),
    ],
)
def test_who_joins_again_after_a_turn_stands_at_the_end_or_is_done(turn: Turn, anew: bool) -> None:
    assert rules.joins_anew(turn, limit=4) is anew


def view(state: PlaceState, place: int | None, **more: object) -> PlaceView:
    return PlaceView(state, Entry(3, 0), place, None, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "standing", "word"),
    [
        (view(PlaceState.WAITING, None), LOBBY, "WRONG_PHASE"),
        (view(PlaceState.CALLED, 3), replace(OPEN, phase=Phase.CLOSED), "WRONG_PHASE"),
        (view(PlaceState.LEFT, 3), OPEN, "NOT_IN_LINE"),
        (view(PlaceState.WAITING, None), FROZEN, "DRAW_PENDING"),
        (view(PlaceState.WAITING, 300), OPEN, "NOT_CALLED_YET"),
        (view(PlaceState.LAPSED, 3, turn=Turn(PlaceState.LAPSED, ends_ms=5000)), OPEN, "TURN_EXPIRED"),
        (view(PlaceState.FINISHED, 3, turn=Turn(PlaceState.FINISHED)), OPEN, "TURN_EXPIRED"),
        (view(PlaceState.CALLED, 3), OPEN, None),
        (view(PlaceState.CALLED, 3), replace(OPEN, phase=Phase.PAUSED), None),
    ],
)
def test_who_may_enter(seen: PlaceView, standing: Standing, word: str | None) -> None:
    refusal = entry_refusal("a-sale", seen, standing)

    assert (refusal.word if isinstance(refusal, Refusal) else None) == word


def test_a_refusal_to_enter_says_what_the_buyer_needs() -> None:
    waiting = entry_refusal("a-sale", view(PlaceState.WAITING, 300, estimate=(30, 90)), OPEN)
    over = entry_refusal(
        "a-sale", view(PlaceState.LAPSED, 3, turn=Turn(PlaceState.LAPSED, ends_ms=5000)), OPEN
    )
    early = entry_refusal("a-sale", view(PlaceState.WAITING, None), LOBBY)

    assert waiting is not None and over is not None and early is not None
    assert waiting.metadata == {"place": "300", "serving": "100"}
    assert waiting.retry_after_s == 30
    assert over.metadata == {"ended_at": "1970-01-01T00:00:05.000Z"}
    assert over.retry_after_s is None
    assert early.metadata["phase"] == "LOBBY"
    assert early.retry_after_s == 100


def test_a_left_place_is_left_whatever_the_ledger_says() -> None:
    seen = rules.view(Entry(3, 0, left=True), 3, OPEN, Turn(PlaceState.CALLED, left=2))

    assert seen.state is PlaceState.LEFT


def test_an_estimate_contains_what_steady_calling_comes_to() -> None:
    steady = replace(OPEN, serving=1000, marks=((970_000, 700), (985_000, 850)))

    low, high = rules.estimate(500, steady) or (0, 0)

    assert rules.calling_rate(steady) == pytest.approx(10)
    assert low <= 50 <= high
    assert high < 70


@pytest.mark.parametrize(
    "standing",
    [
        OPEN,
        replace(OPEN, marks=((990_000, 95),)),
        replace(OPEN, marks=((100_000, 0),)),
        replace(OPEN, serving=1000, marks=((990_000, 0),), phase=Phase.PAUSED),
        replace(OPEN, serving=1000, marks=((990_000, 0),), availability=Availability.MAY_RETURN),
    ],
)
def test_where_nothing_honest_can_be_said_nothing_is(standing: Standing) -> None:
    assert rules.estimate(500, standing) is None


# Ten a second, of which the slow end of the pace is 8.8.
STEADY = replace(OPEN, serving=1000, joined=5000, marks=((970_000, 700), (985_000, 850)))


@pytest.mark.parametrize(
    ("standing", "unpromised", "until"),
    [
        (STEADY, 4000, 1000 + 1061),
        # The stock reaches no further; the next ones are near all the same.
        (STEADY, 500, 1500),
        (STEADY, 0, 1050),
        (replace(STEADY, marks=()), 4000, 1050),
        (replace(STEADY, availability=Availability.MAY_RETURN), 4000, 1050),
        (replace(STEADY, joined=1020), 4000, 1020),
        (replace(STEADY, availability=Availability.SOLD_OUT), 0, 1000),
        (replace(STEADY, phase=Phase.PAUSED), 4000, 1000),
    ],
)
def test_who_is_near_is_next_or_soon(standing: Standing, unpromised: int, until: int) -> None:
    assert rules.Nearness(places=50, seconds=120).until(standing, unpromised) == until


@pytest.mark.parametrize(
    ("waiting", "came", "phase", "had"),
    [
        (1, 1, Phase.OPEN, True),
        (2, 3, Phase.OPEN, True),
        # Somebody waited before; who came had a place that was called long ago; nobody is called now.
        (3, 2, Phase.OPEN, False),
        (0, 1, Phase.OPEN, False),
        (1, 1, Phase.PAUSED, False),
        (1, 1, Phase.LOBBY, False),
    ],
)
def test_whoever_joins_when_nobody_waits_is_known(waiting: int, came: int, phase: Phase, had: bool) -> None:
    standing = replace(OPEN, joined=OPEN.serving + waiting, phase=phase)

    assert rules.had_nobody(standing, came) is had


def test_the_bucket_keeps_to_its_rate() -> None:
    bucket = rules.Bucket(10.0, at_ms=1)
    called = 0
    for now_ms in range(1, 60_001, 50):
        may = bucket.most(now_ms, 200)
        bucket.spend(may)
        called += may

    assert 590 <= called <= 602
    assert rules.Bucket(0.0).most(5, 200) == 200


def test_the_bucket_never_saves_more_than_a_second() -> None:
    bucket = rules.Bucket(10.0, at_ms=1)

    assert bucket.most(3_600_000, 200) == 10


def test_every_state_is_left_or_ends() -> None:
    assert set(TRANSITIONS) == set(PlaceState)
    reachable = {PlaceState.WAITING}
    while True:
        more = reachable | {to for state in reachable for to in TRANSITIONS[state]}
        if more == reachable:
            break
        reachable = more
    assert reachable == set(PlaceState)


def test_codes_are_compared_without_case_spaces_and_hyphens() -> None:
    same = {
        rules.access_code_id(b"k" * 32, "show", text) for text in ("K7QX-9M2P", "k7qx9m2p", " k7qx 9m2P ")
    }
    assert len(same) == 1
    assert rules.access_code_id(b"k" * 32, "other", "K7QX9M2P") not in same
    assert rules.access_code_id(b"l" * 32, "show", "K7QX9M2P") not in same
    assert all(map(rules.is_access_code, ("abcd", "K7QX-9M2P", "9" * 64)))
    assert not any(map(rules.is_access_code, ("", "abc", "a-b-c", "9" * 65, "códe1", "a_bcd", "a\u0000bcd")))


def test_the_definition_for_the_scripts_has_every_default_filled() -> None:
    sale = sale_pb2.Sale()
    sale.created_at.FromSeconds(5)
    sale.spec.window.opens_at.FromSeconds(10)
    sale.spec.window.closes_at.FromSeconds(20)

    assert rules.script_definition(sale) == {
        "line": True,
        "lobby_opens_ms": 5000,
        "opens_ms": 10_000,
        "closes_ms": 20_000,
        "paused": False,
        "commitment": "",
        "codes": False,
        "challenge": False,
    }
    sale.spec.line.kind = sale_pb2.LINE_KIND_NONE
    assert rules.script_definition(sale)["line"] is False


@pytest.mark.parametrize(("text", "sound"), [("a", True), ("rock-2030", True), ("-a", False), ("A", False)])
def test_a_sale_is_named_by_a_label(text: str, sound: bool) -> None:
    assert rules.is_label(text) is sound
    assert not rules.is_label("a" * 64)
