"""Who watches one sale here, in the order of their places: each step of the line touches only whom it passes.

A watcher is woken when its own place was called or is over, when it is near the front, when everyone is told
something, and otherwise by its heartbeat. In memory only; the poller feeds it.
"""

import asyncio
import bisect
import heapq
from collections.abc import Callable, Iterable

from services.queue import rules
from services.queue.states import OVER, Entry, PlaceState, PlaceView, Standing, Turn

# A turn whose end has passed and that runs on in the ledger is asked for again after this.
TURN_RETRY_MS = 500

PlaceOf = Callable[[Entry, Standing], int | None]


class Watcher:
    """One open Watch of one buyer. `news` is set when there is something to send."""

    __slots__ = ("buyer", "entry", "news", "order", "place", "stale", "turn")

    def __init__(self, buyer: str, entry: Entry, turn: Turn | None = None) -> None:
        """`buyer` is the internal id as text; entry and turn were just read."""
        self.buyer = buyer
        self.entry = entry
        self.turn = turn
        self.place: int | None = None
        # Its key among those who wait for their call.
        self.order: tuple[int, int] | None = None
        # The place was changed by a call: read it anew before saying anything.
        self.stale = False
        self.news = asyncio.Event()
        self.news.set()

    def view(self, standing: Standing) -> PlaceView:
        """What its buyer may know."""
        return rules.view(self.entry, self.place, standing, self.turn)

    @property
    def over(self) -> bool:
        """Nothing more will happen to this place."""
        return self.entry.left or (self.turn is not None and self.turn.state in OVER)


class Watchers:
    """The watchers of one sale on this replica."""

    def __init__(self, place_of: PlaceOf, near: int) -> None:
        """`near` places before the front are woken at every step."""
        self._place_of = place_of
        self._near = near
        self._all: set[Watcher] = set()
        self._by_buyer: dict[str, set[Watcher]] = {}
        self._undrawn: set[Watcher] = set()
        self._order: list[tuple[int, int]] = []
        self._waiting: dict[tuple[int, int], Watcher] = {}
        self._called: dict[str, set[Watcher]] = {}
        self._ends: list[tuple[int, str]] = []
        self._serial = 0
        # Buyers whose turn is to be asked for.
        self._asking: set[str] = set()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, watcher: Watcher, standing: Standing) -> None:
        """Begins to watch; the place's state is taken from here on."""
        self._all.add(watcher)
        self._by_buyer.setdefault(watcher.buyer, set()).add(watcher)
        self._arrange(watcher, standing)

    def remove(self, watcher: Watcher) -> None:
        """Ends watching."""
        self._all.discard(watcher)
        _discard(self._by_buyer, watcher)
        self._take_out(watcher)

    def touch(self, buyer: str) -> None:
        """A buyer's place was changed by a call here: their watchers are to read it at once."""
        for watcher in self._by_buyer.get(buyer, ()):
            watcher.stale = True
            watcher.news.set()

    def touch_all(self) -> None:
        """Whatever is known of places may not be so any more: everyone is to read theirs at once."""
        for watcher in self._all:
            watcher.stale = True
            watcher.news.set()

    def refresh(self, watcher: Watcher, view: PlaceView, standing: Standing) -> None:
        """Takes what the stores say of this one watcher, whatever was missed."""
        if watcher not in self._all:
            return
        if view.entry != watcher.entry:
            self._take_out(watcher)
            watcher.entry, watcher.turn = view.entry, view.turn
            self._arrange(watcher, standing)
            watcher.news.set()
        elif view.turn is not None:
            self._take_turn(watcher, view.turn, standing)

    def step(self, before: Standing | None, now: Standing) -> None:
        """Goes from one standing to the next."""
        if before is None or before.cohort != now.cohort or before.drawn != now.drawn:
            self._place_all(now)
        self._call_passed(now)
        while self._ends and self._ends[0][0] <= now.now_ms:
            self._asking.add(heapq.heappop(self._ends)[1])
        if before is None or _told_to_all(before) != _told_to_all(now):
            self.wake_all()
        elif before.serving != now.serving:
            front = bisect.bisect_left(self._order, (now.serving + self._near, 0))
            for order in self._order[:front]:
                self._waiting[order].news.set()

    def stock_changed(self, buyers: Iterable[str]) -> None:
        """Notes buyers whose turn may be another one now."""
        self._asking.update(buyer for buyer in buyers if buyer in self._called)

    def to_ask(self) -> list[tuple[str, int]]:
        """(buyer, place) whose turns are to be asked for, once each."""
        asked = {
            (watcher.buyer, watcher.place)
            for buyer in self._asking
            for watcher in self._called.get(buyer, ())
            if watcher.place is not None
        }
        self._asking.clear()
        return sorted(asked)

    def ask_again(self, asked: Iterable[tuple[str, int]]) -> None:
        """Notes those whose turn could not be read."""
        self._asking.update(buyer for buyer, _ in asked)

    def take_turn(self, buyer: str, place: int, turn: Turn, standing: Standing) -> None:
        """Takes the ledger's word on a called place."""
        for watcher in self._called.get(buyer, ()):
            if watcher.place == place:
                self._take_turn(watcher, turn, standing)

    def wake_all(self) -> None:
        """Everyone has something to send."""
        for watcher in self._all:
            watcher.news.set()

    def _take_turn(self, watcher: Watcher, turn: Turn, standing: Standing) -> None:
        if turn.state is PlaceState.CALLED:
            heapq.heappush(self._ends, (max(turn.ends_ms, standing.now_ms + TURN_RETRY_MS), watcher.buyer))
        if turn != watcher.turn:
            watcher.turn = turn
            # Given up at another replica, or run out? The ledger has one word for both; the line knows.
            watcher.stale = watcher.stale or turn.state in OVER
            watcher.news.set()

    def _arrange(self, watcher: Watcher, standing: Standing) -> None:
        """Puts a watcher where its place belongs: not drawn yet, waiting, or called."""
        watcher.place = self._place_of(watcher.entry, standing)
        if watcher.over:
            return
        if watcher.place is None:
            self._undrawn.add(watcher)
        elif watcher.place < standing.serving:
            self._call(watcher)
        else:
            self._serial += 1
            watcher.order = (watcher.place, self._serial)
            bisect.insort(self._order, watcher.order)
            self._waiting[watcher.order] = watcher

    def _take_out(self, watcher: Watcher) -> None:
        self._undrawn.discard(watcher)
        if watcher.order is not None:
            del self._order[bisect.bisect_left(self._order, watcher.order)]
            del self._waiting[watcher.order]
            watcher.order = None
        _discard(self._called, watcher)

    def _call(self, watcher: Watcher) -> None:
        self._called.setdefault(watcher.buyer, set()).add(watcher)
        self._asking.add(watcher.buyer)

    def _place_all(self, standing: Standing) -> None:
        """The draw made places known: those it concerns are told theirs."""
        undrawn, self._undrawn = self._undrawn, set()
        for watcher in undrawn:
            self._arrange(watcher, standing)
            if watcher.place is not None:
                watcher.news.set()

    def _call_passed(self, standing: Standing) -> None:
        passed = bisect.bisect_left(self._order, (standing.serving, 0))
        for order in self._order[:passed]:
            watcher = self._waiting.pop(order)
            watcher.order = None
            self._call(watcher)
        del self._order[:passed]


def _discard(by_buyer: dict[str, set[Watcher]], watcher: Watcher) -> None:
    """Takes a watcher out of the set of its buyer, and the set away with its last."""
    kept = by_buyer.get(watcher.buyer)
    if kept is not None:
        kept.discard(watcher)
        if not kept:
            del by_buyer[watcher.buyer]


def _told_to_all(standing: Standing) -> tuple[object, ...]:
    """What concerns everyone who waits, wherever they stand."""
    return standing.phase, standing.availability, standing.drawn, standing.opens_ms, standing.closes_ms
