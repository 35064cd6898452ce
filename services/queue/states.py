"""The words of the line: a place's life, the sale's phases, what there is to wait for, who stands where."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

NOT_IN_LINE = "NOT_IN_LINE"


class PlaceState(StrEnum):
    """Where one buyer stands; the names are those of catraca.queue.v1.PlaceState."""

    WAITING = "WAITING"
    CALLED = "CALLED"
    LAPSED = "LAPSED"
    LEFT = "LEFT"
    FINISHED = "FINISHED"


TRANSITIONS: Mapping[PlaceState, frozenset[PlaceState]] = {
    # FINISHED without a turn: the buyer owned the limit already when the call came.
    PlaceState.WAITING: frozenset({PlaceState.CALLED, PlaceState.LEFT, PlaceState.FINISHED}),
    PlaceState.CALLED: frozenset({PlaceState.LAPSED, PlaceState.LEFT, PlaceState.FINISHED}),
    # Joining again: at the end, or at the same index before the freeze.
    PlaceState.LAPSED: frozenset({PlaceState.WAITING}),
    PlaceState.LEFT: frozenset({PlaceState.WAITING}),
    PlaceState.FINISHED: frozenset({PlaceState.WAITING}),
}

OVER = frozenset({PlaceState.LAPSED, PlaceState.LEFT, PlaceState.FINISHED})


class Phase(StrEnum):
    """The sale's phase as the scripts judge it; the names are those of catraca.sale.v1.SalePhase."""

    SCHEDULED = "SCHEDULED"
    LOBBY = "LOBBY"
    OPEN = "OPEN"
    PAUSED = "PAUSED"
    CLOSED = "CLOSED"


class Availability(StrEnum):
    """What those who wait are told; the names are those of catraca.queue.v1.Availability and of QueueAct."""

    UNSPECIFIED = "UNSPECIFIED"
    SELLING = "SELLING"
    MAY_RETURN = "MAY_RETURN"
    SOLD_OUT = "SOLD_OUT"


@dataclass(frozen=True, slots=True)
class Standing:
    """A sale's line at one moment, as one script run saw it."""

    phase: Phase
    now_ms: int
    serving: int
    joined: int
    # None until the cohort is frozen.
    cohort: int | None
    # The draw's key; empty until the draw has taken place.
    key: bytes
    availability: Availability
    revision: int
    lobby_opens_ms: int
    opens_ms: int
    closes_ms: int
    # Of the line's last change.
    sequence: int = 0
    # Which filling of the store it was read from.
    epoch: int = 0
    # (time, serving) at a few moments of the last minute, oldest first: the calling rate is read from it.
    marks: tuple[tuple[int, int], ...] = ()
    # How many places turn news was ever asked for; everyone among them was told that the turn has come below
    # `told_come`, and that it is near below `told_near`.
    asked: int = 0
    told_come: int = 0
    told_near: int = 0

    @property
    def drawn(self) -> bool:
        """Places are known."""
        return bool(self.key)


class Joiner(NamedTuple):
    """Who wants to join, by their internal id of 16 bytes."""

    buyer: bytes
    code: bytes = b""
    """The access code's id, 16 bytes; empty for none."""
    challenge: bytes = b""
    """The id of the challenge that this buyer solved, 16 bytes; empty for none."""
    turn_news: bool = False
    """Wants to be told when the turn is near and when it has come."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One buyer's entry in the line, as stored."""

    index: int
    joined_ms: int
    left: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What the ledger says of one called place."""

    state: PlaceState
    allowance: int = 0
    left: int = 0
    called_ms: int = 0
    ends_ms: int = 0
    # Units the buyer holds, owns or has claimed; None where the ledger did not say.
    has: int | None = None


@dataclass(frozen=True, slots=True)
class PlaceView:
    """Everything a buyer may know of their own place."""

    state: PlaceState
    entry: Entry
    # None until the draw has taken place.
    place: int | None
    ahead: int | None
    turn: Turn | None = None
    # (low, high) seconds; None where nothing honest can be said.
    estimate: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """What is published of a draw, step by step; texts are hexadecimal, empty until known."""

    commitment: str
    cohort: int | None
    frozen_ms: int
    root: str
    root_ms: int
    beacon: str
    beacon_round: bytes
    """A serialized catraca.queue.v1.BeaconRound; empty without a beacon, or before the draw."""
    seed: str
