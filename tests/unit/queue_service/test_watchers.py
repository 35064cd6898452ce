"""Watchers: each step wakes those it concerns, and nobody else."""

from dataclasses import replace

from services.queue.states import Availability, Entry, Phase, PlaceState, PlaceView, Standing, Turn
from services.queue.watchers import Watcher, Watchers

LOBBY = Standing(
    phase=Phase.LOBBY,
    now_ms=0,
    serving=0,
    joined=100,
    cohort=None,
    key=b"",
    availability=Availability.SELLING,
    revision=1,
    lobby_opens_ms=0,
    opens_ms=1000,
    closes_ms=9000,
)
FROZEN = replace(LOBBY, phase=Phase.OPEN, now_ms=1000, cohort=100)
DRAWN = replace(FROZEN, key=b"k")


def place_of(entry: Entry, standing: Standing) -> int | None:
    """The draw turned the cohort round."""
    return 99 - entry.index if standing.drawn else None


def watching(*indexes: int, standing: Standing = DRAWN, near: int = 0) -> tuple[Watchers, list[Watcher]]:
    watchers = Watchers(place_of, near)
    added = [Watcher(f"buyer-{index}", Entry(index, 0)) for index in indexes]
    for watcher in added:
        watchers.add(watcher, standing)
        watcher.news.clear()
    return watchers, added


def woken(watchers: list[Watcher]) -> list[int]:
    """The indexes of those with news, which they have read then."""
    found = [watcher.entry.index for watcher in watchers if watcher.news.is_set()]
    for watcher in watchers:
        watcher.news.clear()
    return found


def test_the_draw_tells_everyone_their_place() -> None:
    watchers, added = watching(0, 5, 99, standing=LOBBY)
    watchers.step(LOBBY, FROZEN)
    assert woken(added) == [0, 5, 99]
    assert [watcher.place for watcher in added] == [None, None, None]

    watchers.step(FROZEN, DRAWN)

    assert woken(added) == [0, 5, 99]
    assert [watcher.place for watcher in added] == [99, 94, 0]


def test_a_step_touches_only_whom_it_passes_and_the_front() -> None:
    watchers, added = watching(99, 98, 97, 50, 0, near=2)

    watchers.step(DRAWN, replace(DRAWN, serving=1))

    assert woken(added) == [98, 97]
    assert watchers.to_ask() == [("buyer-99", 0)]
    assert watchers.to_ask() == []


def test_who_is_called_hears_of_the_turn_when_the_ledger_knows_it() -> None:
    watchers, (first, second) = watching(99, 98)
    called = replace(DRAWN, serving=2, now_ms=5000)
    watchers.step(DRAWN, called)
    assert woken([first, second]) == []

    turn = Turn(PlaceState.CALLED, allowance=4, left=4, ends_ms=8000)
    watchers.take_turn("buyer-99", 0, turn, called)

    assert woken([first, second]) == [99]
    assert first.view(called).state is PlaceState.CALLED
    watchers.take_turn("buyer-99", 0, turn, called)
    assert woken([first, second]) == []


def test_a_turn_is_asked_for_again_when_it_ends_and_when_the_stock_changes() -> None:
    watchers, (first,) = watching(99)
    called = replace(DRAWN, serving=1, now_ms=5000)
    watchers.step(DRAWN, called)
    watchers.to_ask()
    watchers.take_turn("buyer-99", 0, Turn(PlaceState.CALLED, ends_ms=8000), called)

    watchers.step(called, replace(called, now_ms=7999))
    assert watchers.to_ask() == []
    watchers.stock_changed(["buyer-98"])
    assert watchers.to_ask() == []
    watchers.stock_changed(["buyer-99", "buyer-98"])
    assert watchers.to_ask() == [("buyer-99", 0)]
    watchers.step(called, replace(called, now_ms=8000))
    assert watchers.to_ask() == [("buyer-99", 0)]

    watchers.take_turn("buyer-99", 0, Turn(PlaceState.LAPSED), replace(called, now_ms=8000))
    first.news.clear()
    watchers.step(called, replace(called, now_ms=90_000))
    assert watchers.to_ask() == []
    assert first.over


def test_a_turn_the_ledger_did_not_end_yet_is_asked_for_again() -> None:
    watchers, _ = watching(99)
    called = replace(DRAWN, serving=1, now_ms=5000)
    watchers.step(DRAWN, called)
    asked = watchers.to_ask()
    watchers.ask_again(asked)
    assert watchers.to_ask() == asked

    watchers.take_turn("buyer-99", 0, Turn(PlaceState.CALLED, ends_ms=4000), called)

    watchers.step(called, replace(called, now_ms=5499))
    assert watchers.to_ask() == []
    watchers.step(called, replace(called, now_ms=5500))
    assert watchers.to_ask() == asked


def test_what_concerns_everyone_wakes_everyone() -> None:
    watchers, added = watching(99, 50, 0)

    watchers.step(DRAWN, replace(DRAWN, availability=Availability.SOLD_OUT))

    assert woken(added) == [99, 50, 0]
    watchers.step(DRAWN, replace(DRAWN, joined=200))
    assert woken(added) == []


def test_a_place_given_up_elsewhere_is_taken_out() -> None:
    watchers, (first, second) = watching(99, 98)
    left = PlaceView(PlaceState.LEFT, Entry(99, 0, left=True), 0, None)

    watchers.refresh(first, left, DRAWN)

    assert woken([first, second]) == [99]
    assert first.over
    watchers.step(DRAWN, replace(DRAWN, serving=2))
    assert watchers.to_ask() == [("buyer-98", 1)]


def test_nothing_is_kept_of_who_went() -> None:
    watchers, added = watching(99, 50, 0)
    watchers.step(DRAWN, replace(DRAWN, serving=1))
    for watcher in added:
        watchers.remove(watcher)

    watchers.step(DRAWN, replace(DRAWN, serving=100))
    watchers.touch("buyer-50")

    assert len(watchers) == 0
    assert watchers.to_ask() == []
    assert woken(added) == []


def test_a_call_here_makes_the_place_be_read_anew() -> None:
    watchers, (first, second) = watching(99, 98)

    watchers.touch("buyer-98")

    assert woken([first, second]) == [98]
    assert second.stale and not first.stale
