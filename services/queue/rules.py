"""What the line decides, without I/O and without a clock: places, turns, calling, availability, estimates."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from catraca.sale.v1 import sale_pb2

from services.queue.draw import Permutation
from services.queue.states import Availability, Entry, Phase, PlaceState, PlaceView, Standing, Turn

# Marks older than this say nothing about the present calling rate.
RATE_WINDOW_MS = 60_000
# Fewer calls than this in the window make no estimate.
RATE_MIN_CALLED = 10
# A wait longer than this is not worth a number.
ESTIMATE_MAX_S = 24 * 3600
CODE_CHARS = 256
ACCESS_CODE_LETTERS = (4, 64)
USES_MAX = 1_000_000

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_label(text: str) -> bool:
    """Whether a text is a DNS label, as every sale's id is."""
    return _LABEL.fullmatch(text) is not None


def is_code(text: str, most: int) -> bool:
    """Whether a text can be an access code, or a solved challenge; none at all can be one too."""
    return len(text) <= most and (not text or text.isprintable())


def plain_code(text: str) -> str:
    """An access code as it is compared: case, spaces and hyphens do not count."""
    return "".join(text.upper().replace("-", "").split())


def is_access_code(text: str) -> bool:
    """Whether a text can be a sale's access code."""
    plain = plain_code(text)
    return (
        ACCESS_CODE_LETTERS[0] <= len(plain) <= ACCESS_CODE_LETTERS[1] and plain.isascii() and plain.isalnum()
    )


def access_code_id(secret: bytes, sale: str, text: str) -> bytes:
    """What is kept of an access code, 16 bytes: without the sale's secret nobody can try codes against it."""
    data = f"{sale}\x00{plain_code(text)}".encode()
    return hashlib.blake2b(data, digest_size=16, key=secret, person=b"access code").digest()


def has_line(sale: sale_pb2.Sale) -> bool:
    """Whether buyers of this sale stand in line."""
    return sale.spec.line.kind != sale_pb2.LINE_KIND_NONE


def script_definition(sale: sale_pb2.Sale) -> dict[str, object]:
    """The part of a sale's definition that the line's scripts read, with defaults filled in by Define."""
    spec = sale.spec
    window = spec.window
    lobby = window.lobby_opens_at if window.HasField("lobby_opens_at") else sale.created_at
    return {
        "line": has_line(sale),
        "lobby_opens_ms": lobby.ToMilliseconds(),
        "opens_ms": window.opens_at.ToMilliseconds(),
        "closes_ms": window.closes_at.ToMilliseconds(),
        "paused": spec.paused,
        "commitment": sale.draw_commitment,
        "codes": spec.line.access_code_required,
        "challenge": spec.line.challenge_required,
    }


def place_of(entry: Entry, standing: Standing, permutation: Permutation | None) -> int | None:
    """An entry's position from 0: drawn within the cohort, its index behind it; None before the draw."""
    if standing.cohort is None:
        return None
    if entry.index >= standing.cohort:
        return entry.index
    return permutation.place(entry.index) if permutation is not None else None


def index_at(place: int, cohort: int, permutation: Permutation | None) -> int:
    """The index that has a place: the inverse of `place_of`."""
    if place >= cohort:
        return place
    if permutation is None:
        raise ValueError("places of the cohort are unknown before the draw")
    return permutation.index(place)


def had_nobody(standing: Standing, came: int) -> bool:
    """Whether nobody waited in an open line before the last `came`, of whom somebody waits now."""
    return standing.phase is Phase.OPEN and 0 < standing.joined - standing.serving <= came


def is_called(place: int | None, standing: Standing) -> bool:
    """Whether the place was called: only then is there anything to ask the ledger."""
    return place is not None and place < standing.serving


def view(entry: Entry, place: int | None, standing: Standing, turn: Turn | None) -> PlaceView:
    """One buyer's place, from the line's entry and, for a called place, the ledger's word."""
    if entry.left:
        return PlaceView(PlaceState.LEFT, entry, place, None)
    if turn is not None:
        return PlaceView(turn.state, entry, place, 0, turn)
    ahead = None if place is None else max(0, place - standing.serving)
    return PlaceView(PlaceState.WAITING, entry, place, ahead, None, estimate(ahead, standing))


def joins_anew(turn: Turn, limit: int) -> bool:
    """Whether a called buyer who joins again gets a new place at the end.

    A lapsed turn does. A finished one does while the buyer has less than the limit (a remainder was offered,
    or tickets were given back); at the limit a new turn would be passed over, so the old place is answered.
    """
    if turn.state is PlaceState.LAPSED:
        return True
    return turn.state is PlaceState.FINISHED and (turn.has is None or turn.has < limit)


def availability(*, unpromised: int, reserved: int, promised: int, held: int, claims: int) -> Availability:
    """What there is to wait for, by the ledger: `unpromised` units may still be offered to those who wait,
    and `reserved` ones from a later time on.
    """
    if unpromised > 0:
        return Availability.SELLING
    if reserved > 0 or promised > 0 or held > 0 or claims > 0:
        return Availability.MAY_RETURN
    return Availability.SOLD_OUT


def calling_rate(standing: Standing) -> float:
    """Places called per second lately; 0 where nothing was."""
    marks = _recent(standing)
    if not marks:
        return 0.0
    called = standing.serving - marks[0][1]
    span_ms = max(1000, standing.now_ms - marks[0][0])
    return 1000.0 * called / span_ms


def _recent(standing: Standing) -> Sequence[tuple[int, int]]:
    return [mark for mark in standing.marks if standing.now_ms - mark[0] <= RATE_WINDOW_MS]


def pace(standing: Standing) -> tuple[float, float] | None:
    """A range of buyers called per second, or None where nothing honest can be said.

    The calls of the last minute are taken as a count with a Poisson spread of two deviations, so that few
    calls make a wide range. When everything is promised or sold, nobody can know.
    """
    if standing.phase is not Phase.OPEN or standing.availability is not Availability.SELLING:
        return None
    marks = _recent(standing)
    called = standing.serving - marks[0][1] if marks else 0
    rate = calling_rate(standing)
    if called < RATE_MIN_CALLED or rate <= 0:
        return None
    spread = 2.0 / math.sqrt(called)
    return rate * (1.0 - min(spread, 0.9)), rate * (1.0 + spread)


def estimate(ahead: int | None, standing: Standing) -> tuple[int, int] | None:
    """A range of seconds the wait is likely to end in, or None where nothing honest can be said."""
    likely = pace(standing)
    if ahead is None or likely is None:
        return None
    low, high = math.floor(ahead / likely[1]), math.ceil((ahead + 1) / likely[0])
    return (low, high) if high <= ESTIMATE_MAX_S else None


@dataclass(frozen=True, slots=True)
class Nearness:
    """When a turn is near: so few places before it, or called that soon by the slow end of the pace."""

    places: int
    seconds: float

    def until(self, standing: Standing, unpromised: int) -> int:
        """The places below it are near, or called already.

        A pace says nothing of those whom the stock does not reach: each buyer called takes a unit at least.
        """
        if standing.phase is not Phase.OPEN or standing.availability is Availability.SOLD_OUT:
            return standing.serving
        likely = pace(standing)
        soon = min(unpromised, int(likely[0] * self.seconds)) if likely is not None else 0
        return min(standing.joined, standing.serving + max(self.places, soon))


@dataclass(slots=True)
class Bucket:
    """Calls per second at most, as a token bucket that holds a second's worth; a rate of 0 means no bound."""

    rate: float
    tokens: float = field(default=1.0)
    at_ms: int = 0

    def most(self, now_ms: int, wanted: int) -> int:
        """How many of `wanted` calls may be made now."""
        if self.rate <= 0:
            return wanted
        if self.at_ms:
            grown = self.tokens + self.rate * max(0, now_ms - self.at_ms) / 1000.0
            self.tokens = min(grown, max(1.0, self.rate))
        self.at_ms = max(self.at_ms, now_ms)
        return min(wanted, int(self.tokens))

    def spend(self, calls: int) -> None:
        """Takes what was called out of the bucket."""
        if self.rate > 0:
            self.tokens -= calls
