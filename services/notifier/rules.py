"""What one open stream must still be told: pure, so that every interleaving of events can be tried.

The promise is: for every buyer the last state of every order first, then every newer one, each at most once
per stream, and no more memory than the limits allow however slowly the client reads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

SUBJECT_PREFIX = "catraca.checkout"
SUBJECT_TOKENS = 6
LOST_PREFIX = "catraca.lost"
LOST_TOKENS = 5
TURN_PREFIX = "catraca.turn"
TURN_TOKENS = 6
# What a lost hold and a turn are called among orders: no order's id has a space.
LOST_MARK = "hold "
TURN_MARK = "turn "
# What is told of a turn, each word in place of the one before.
TURN_VERSIONS = {"near": 0, "come": 1}


class State(NamedTuple):
    """One state of one order, as JetStream keeps it. `payload` is a serialized events.v1.OrderChanged.

    A lost hold is told in the same way, as one state of what is called by LOST_MARK and the hold's id; its
    payload is an events.v1.HoldLost. So is a turn, as up to two states of what is called by TURN_MARK, the
    sale and the place; its payload is an events.v1.TurnNews.
    """

    key: str
    order_id: str
    version: int
    payload: bytes
    traceparent: str = ""


@dataclass(frozen=True)
class Batch:
    """What to send next: states, and how many added buyers have had their last states sent once it is out."""

    states: list[State]
    caught_up: int


class TooManyOrders(Exception):
    """The stream's buyers have more orders than one stream may tell of."""


def buyer_key(sale: str, buyer: str) -> str:
    """The name of one buyer of one sale within a process: `<sale>.<buyer>`."""
    return f"{sale}.{buyer}"


def subject_of(key: str) -> str:
    """The subjects of all orders of the buyer with this key."""
    sale, buyer = key.split(".")
    return f"{SUBJECT_PREFIX}.{sale}.order.{buyer}.*"


def lost_subject_of(key: str) -> str:
    """The subjects of all lost holds of the buyer with this key."""
    sale, buyer = key.split(".")
    return f"{LOST_PREFIX}.{sale}.{buyer}.*"


def turn_subject_of(key: str) -> str:
    """The subjects of all news of the turns of the buyer with this key."""
    sale, buyer = key.split(".")
    return f"{TURN_PREFIX}.{sale}.{buyer}.*.*"


def key_turn_version(subject: str) -> tuple[str, str, int] | None:
    """Whose and which turn a message's subject names, and which word; None for a subject of another shape."""
    tokens = subject.split(".")
    if len(tokens) != TURN_TOKENS or tokens[5] not in TURN_VERSIONS:
        return None
    # With the sale, as one stream may tell of many and a place is a number.
    turn = f"{TURN_MARK}{tokens[2]} {tokens[4]}"
    return buyer_key(tokens[2], tokens[3]), turn, TURN_VERSIONS[tokens[5]]


def key_and_hold(subject: str) -> tuple[str, str] | None:
    """Whose and which lost hold a message's subject names; None for a subject of another shape."""
    tokens = subject.split(".")
    if len(tokens) != LOST_TOKENS:
        return None
    return buyer_key(tokens[2], tokens[3]), LOST_MARK + tokens[4]


def key_and_order(subject: str) -> tuple[str, str] | None:
    """Whose and which order a message's subject names; None for a subject of another shape."""
    tokens = subject.split(".")
    if len(tokens) != SUBJECT_TOKENS or tokens[3] != "order":
        return None
    return buyer_key(tokens[2], tokens[4]), tokens[5]


@dataclass(slots=True)
class Mailbox:
    """What one stream was told and must still be told.

    A buyer is *unread* until its last states are asked of JetStream, *being read* until they arrive, and then
    live. News of an unread buyer is dropped, because the states that are read later contain it. That is also
    how memory stays bounded: where too much waits for a slow client, the buyer becomes unread again.
    """

    max_pending: int
    max_orders: int
    # Whose it is, by key: the subject that the client named, empty where it is the client itself.
    subjects: dict[str, str] = field(default_factory=dict)
    caught_up: int = 0
    _unread: dict[str, None] = field(default_factory=dict)
    _reading: set[str] = field(default_factory=set)
    # How many additions of a buyer wait to be counted as caught up.
    _awaiting: dict[str, int] = field(default_factory=dict)
    _resolved: int = 0
    # What was read, the next one last; then the news by order.
    _fresh: list[State] = field(default_factory=list)
    _pending: OrderedDict[str, State] = field(default_factory=OrderedDict)
    _sent: dict[str, dict[str, int]] = field(default_factory=dict)
    _orders: int = 0

    def add(self, key: str, subject: str = "") -> bool:
        """Begin to tell of a buyer. False if the stream tells of it already."""
        is_new = key not in self.subjects
        if is_new:
            self.subjects[key] = subject
            self._unread[key] = None
        if is_new or key in self._awaiting:
            self._awaiting[key] = self._awaiting.get(key, 0) + 1
        else:
            self._resolved += 1
        return is_new

    def drop(self, key: str) -> bool:
        """Tell no more of a buyer, and forget what it was told. False if the stream did not tell of it."""
        if self.subjects.pop(key, None) is None:
            return False
        self._unread.pop(key, None)
        self._reading.discard(key)
        self._resolved += self._awaiting.pop(key, 0)
        self._orders -= len(self._sent.pop(key, ()))
        return True

    def forget_position(self) -> None:
        """News may have been missed: all last states must be read again. Versions drop the repeats."""
        self._unread = dict.fromkeys(self.subjects)

    def offer(self, state: State) -> bool:
        """Take in news. True if there is something to send because of it."""
        if state.key not in self.subjects or state.key in self._unread or not self._is_news(state):
            return False
        waiting = self._pending.get(state.order_id)
        if waiting is None and len(self._pending) >= self.max_pending:
            self._unread[state.key] = None
            return False
        if waiting is None or waiting.version < state.version:
            self._pending[state.order_id] = state
        return True

    @property
    def wants_reading(self) -> bool:
        """Whether last states should be read now: some are unread, and what was read before is on its way."""
        return bool(self._unread) and not self._fresh and not self._reading

    def begin_reading(self, at_most: int) -> list[str]:
        """The buyers to read next. From now on their news is kept."""
        keys = list(islice(self._unread, at_most))
        for key in keys:
            del self._unread[key]
        self._reading.update(keys)
        return keys

    def finish_reading(self, keys: Iterable[str], states: Iterable[State]) -> None:
        """Take in the last states of buyers; those who became unread in the meantime are read once more."""
        news = [state for state in states if self._is_news(state)]
        self._fresh[:0] = reversed(news)
        for key in keys:
            self._reading.discard(key)
            if key not in self._unread:
                self._resolved += self._awaiting.pop(key, 0)

    def fail_reading(self, keys: Iterable[str]) -> None:
        """The buyers could not be read: they are unread again."""
        for key in keys:
            if key in self._reading:
                self._reading.discard(key)
                self._unread[key] = None

    def take(self, at_most: int, max_bytes: int) -> Batch | None:
        """The next states to send, counted as sent; None if there is nothing to say.

        Raises `TooManyOrders` when more orders than `max_orders` would have to be remembered.
        """
        if not self._fresh and not self._pending and not self._resolved:
            return None
        states: list[State] = []
        size = 0
        while len(states) < at_most and size < max_bytes and (state := self._next()) is not None:
            states.append(state)
            size += len(state.payload)
        if not self._fresh:
            self.caught_up += self._resolved
            self._resolved = 0
        return Batch(states, self.caught_up)

    def _next(self) -> State | None:
        while self._fresh or self._pending:
            state = self._fresh.pop() if self._fresh else self._pending.popitem(last=False)[1]
            newer = self._pending.get(state.order_id)
            if newer is not None and newer.version > state.version:
                state = self._pending.pop(state.order_id)
            if self._note_sent(state):
                return state
        return None

    def _is_news(self, state: State) -> bool:
        sent = self._sent.get(state.key)
        return sent is None or sent.get(state.order_id, -1) < state.version

    def _note_sent(self, state: State) -> bool:
        if state.key not in self.subjects or not self._is_news(state):
            return False
        sent = self._sent.setdefault(state.key, {})
        if state.order_id not in sent:
            if self._orders >= self.max_orders:
                raise TooManyOrders
            self._orders += 1
        sent[state.order_id] = state.version
        return True
