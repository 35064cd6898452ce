"""A promise ledger in memory behind the line's own port, and what a store needs beside its Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from catraca.events.v1 import events_pb2

from services.kit.errors import Refusal
from services.kit.streams import WrongSequence
from services.queue.ledger import Called, Callee, LedgerState
from services.queue.states import Joiner, PlaceState, Turn

# In 2096.
TURN_ENDS_MS = 4_000_000_000_000


def joiners(buyers: Sequence[bytes], *, turn_news: bool = False) -> list[Joiner]:
    """Buyers who bring nothing."""
    return [Joiner(buyer, turn_news=turn_news) for buyer in buyers]


class Told:
    """Keeps what is published, each subject once, as its stream does behind the fence of an empty subject."""

    def __init__(self) -> None:
        self.news: dict[str, events_pb2.TurnNews] = {}

    async def publish(
        self, subject: str, payload: bytes, expected_seq: int, headers: Mapping[str, str] | None = None
    ) -> int:
        if subject in self.news:
            raise WrongSequence(subject)
        self.news[subject] = events_pb2.TurnNews.FromString(payload)
        return len(self.news)


class OneEpoch:
    """Every sale is loaded, under the epoch the test says."""

    def __init__(self) -> None:
        self.number = 1

    async def epoch(self, sale: str, *, fresh: bool = False) -> int:
        return self.number


async def nothing_published(sale: str) -> int:
    """For a line that nobody publishes."""
    return 0


@dataclass
class MemoryLedger:
    """Follows the ledger's rules as far as calling needs them, for one sale.

    `history` has every buyer who was called, with place and allowance, in order.
    """

    stock: int
    limit: int = 4
    concurrency: int = 0
    watermark: int = 0
    held: int = 0
    sold: int = 0
    down: bool = False
    turns: dict[tuple[str, int], Turn] = field(default_factory=dict)
    has: dict[str, int] = field(default_factory=dict)
    history: list[tuple[str, int, int]] = field(default_factory=list)
    calls: int = 0
    states: int = 0
    lapsed: list[tuple[str, int]] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.stock - self.held - self.sold

    @property
    def promised(self) -> int:
        return sum(turn.left for turn in self.turns.values())

    @property
    def running(self) -> int:
        return sum(turn.state is PlaceState.CALLED for turn in self.turns.values())

    def _up(self) -> None:
        if self.down:
            raise Refusal("UNAVAILABLE")

    def _state(self) -> LedgerState:
        return LedgerState(
            self.watermark, self.free - self.promised, 0, self.promised, self.held, self.running, 0
        )

    async def call(self, sale: str, start: int, end: int, callees: Sequence[Callee]) -> Called:
        self._up()
        self.calls += 1
        if start != self.watermark:
            return Called("NOT_WATERMARK", 0, self._state())
        granted = 0
        for callee in callees:
            assert start <= callee.place < end
            allowance = min(self.limit - self.has.get(callee.buyer, 0), self.free - self.promised)
            full = self.concurrency and self.running >= self.concurrency
            if self.limit > self.has.get(callee.buyer, 0) and (allowance <= 0 or full):
                self.watermark = callee.place
                return Called("CALLED", granted, self._state())
            state = PlaceState.CALLED if allowance > 0 else PlaceState.FINISHED
            self.turns[callee.buyer, callee.place] = Turn(state, allowance, allowance, 1, TURN_ENDS_MS)
            self.history.append((callee.buyer, callee.place, allowance))
            granted += allowance > 0
        self.watermark = end
        return Called("CALLED", granted, self._state())

    async def look(self, sale: str, buyers: Sequence[tuple[str, int]]) -> list[Turn]:
        self._up()
        lapsed = Turn(PlaceState.LAPSED)
        return [replace(self.turns.get(asked, lapsed), has=self.has.get(asked[0], 0)) for asked in buyers]

    async def lapse(self, sale: str, buyers: Sequence[tuple[str, int]]) -> None:
        self._up()
        for asked in buyers:
            self.lapsed.append(asked)
            self.end(*asked)

    async def state(self, sale: str) -> LedgerState:
        self._up()
        self.states += 1
        return self._state()

    def end(self, buyer: str, place: int) -> None:
        """The turn ends; what was not taken is free again."""
        turn = self.turns.get((buyer, place))
        if turn is not None and turn.state is PlaceState.CALLED:
            self.turns[buyer, place] = replace(turn, state=PlaceState.LAPSED, left=0)

    def buy(self, buyer: str, place: int) -> None:
        """The buyer takes everything that was promised, and pays."""
        turn = self.turns[buyer, place]
        self.sold += turn.left
        self.has[buyer] = self.has.get(buyer, 0) + turn.left
        self.turns[buyer, place] = replace(turn, state=PlaceState.FINISHED, left=0)
