"""Records what clients ask and are told while parts die; an order of the calls must explain every answer."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

NEVER = float("inf")
GONE = ("NOT_FOUND", "LOST")
"""What is said of a hold that went with its store."""


Span = tuple[float, float]


@dataclass(eq=False)
class Call:
    """One call with the id that every repeat of it carries. Moments are of one clock, in seconds."""

    client: str
    op: str
    """`hold`, `show` or `release`."""
    hold_id: str
    began: float
    quantity: int = 1
    ended: float = NEVER
    word: str = ""
    units: frozenset[int] = frozenset()

    @property
    def hold(self) -> str:
        """The hold that it is about."""
        return f"{self.client}/{self.hold_id}"

    def __str__(self) -> str:
        units = ",".join(map(str, sorted(self.units)))
        return f"{self.op} of {self.hold} → {self.word or 'no answer'} {units}".rstrip()


@dataclass
class History:
    """What all clients saw."""

    calls: list[Call] = field(default_factory=list)

    def begin(self, client: str, op: str, hold_id: str, quantity: int = 1) -> Call:
        """Note that a call is on its way."""
        call = Call(client, op, hold_id, time.monotonic(), quantity)
        self.calls.append(call)
        return call

    def end(self, call: Call, word: str, units: Iterable[int] = ()) -> None:
        """Note its answer."""
        call.ended, call.word, call.units = time.monotonic(), word, frozenset(units)


@dataclass(frozen=True)
class Section:
    """The plain model: which hold has which units; every hold is somebody's, none is forgotten by itself."""

    capacity: int
    holds: frozenset[tuple[str, frozenset[int]]] = frozenset()
    ended: frozenset[str] = frozenset()
    """Holds that were given back, or went with their store."""

    @cached_property
    def held(self) -> Mapping[str, frozenset[int]]:
        """Units by hold."""
        return dict(self.holds)

    @cached_property
    def taken(self) -> frozenset[int]:
        """Units that are not free."""
        return frozenset().union(*self.held.values())

    def after(self, call: Call, lost: Sequence[Span], unseen: int) -> "Section | None":
        """The section once the call has had its effect; None where its answer is not the one due now.

        `unseen` units may be taken by calls that are repeated because their store was lost under them.
        """
        mine = self.held.get(call.hold)
        match call.op, call.word:
            case ("hold" | "show", "HELD") if mine is not None:
                return self if call.units == mine else None
            case "hold", "HELD":
                fits = len(call.units) == call.quantity and not call.units & self.taken
                in_it = call.units <= frozenset(range(self.capacity))
                return self._with(call) if fits and in_it and call.hold not in self.ended else None
            case "hold", "SOLD_OUT":
                free = self.capacity - len(self.taken)
                return self if mine is None and free - unseen < call.quantity else None
            case "release", "RELEASED" if mine is not None:
                return self.without(call.hold)
            case "hold", word if word in GONE:
                # The first time it was asked it had its effect, which was lost before it could be answered.
                may_be = mine is None and any(_meet(call, span) for span in lost)
                return self.without(call.hold) if may_be else None
            case _, word if word in GONE:
                return self if mine is None and call.hold in self.ended else None
        return None

    def _with(self, call: Call) -> "Section":
        return Section(self.capacity, self.holds | {(call.hold, call.units)}, self.ended)

    def without(self, hold: str) -> "Section":
        """The section with that hold's units free again."""
        rest = frozenset(each for each in self.holds if each[0] != hold)
        return Section(self.capacity, rest, self.ended | {hold})

    def told(self) -> str:
        """For a person."""
        return (
            ", ".join(f"{name} has {sorted(units)}" for name, units in sorted(self.held.items()))
            or "all free"
        )


@dataclass(frozen=True)
class Possible:
    """One way in which it may stand at a moment: the section, and which open calls have had their effect."""

    section: Section
    done: frozenset[Call] = frozenset()


def judge(history: History, *, capacity: int, lost: Sequence[Span]) -> list[str]:
    """What no order of the calls explains; empty if there is one that explains every answer.

    A call has its effect at one moment between its beginning and its answer: the calls are taken in the order
    of their beginnings and answers, and all ways in which it may stand are followed side by side. Where none
    is left at an answer, no order explains it. `lost` are spans in which the store was lost: any hold that
    was there may have gone in one of them. Holds must not be old enough to expire.
    """
    unanswered = [str(call) for call in history.calls if call.ended == NEVER]
    if unanswered:
        return unanswered
    search = _Search(history.calls, lost)
    ways = {Possible(Section(capacity))}
    open_calls: set[Call] = set()
    for kind, call in _moments(history.calls, lost):
        if kind == "began":
            open_calls.add(call)
        elif kind == "lost":
            ways = set(search.losing(ways, open_calls))
        else:
            left = set(search.explaining(call, ways, open_calls))
            if not left:
                stood = "; ".join(sorted({way.section.told() for way in ways})[:5])
                return [f"nothing explains the {call}, where it stood: {stood}"]
            open_calls.discard(call)
            ways = left
    return []


def _moments(calls: Sequence[Call], lost: Sequence[Span]) -> Iterator[tuple[str, Call]]:
    """Beginnings and answers in their order, and when the store may have been lost.

    What was answered within such a span may have come before the loss or after it.
    """
    nobody = Call("", "", "", 0.0)
    moments: list[tuple[float, int, str, Call]] = []
    for call in calls:
        moments += [(call.began, 0, "began", call), (call.ended, 2, "ended", call)]
    for begins, ends in lost:
        answers = [call.ended for call in calls if begins < call.ended < ends]
        moments += [(at, 1, "lost", nobody) for at in (begins, *answers, ends)]
    for _, _, kind, call in sorted(moments, key=lambda moment: moment[:2]):
        yield kind, call


def _meet(call: Call, span: Span) -> bool:
    return call.began <= span[1] and span[0] <= call.ended


@dataclass(frozen=True)
class _Search:
    """Follows all ways side by side."""

    calls: Sequence[Call]
    lost: Sequence[Span]

    def explaining(
        self, answered: Call, ways: Iterable[Possible], open_calls: set[Call]
    ) -> Iterator[Possible]:
        """All ways in which it may stand once this answer is given."""
        for way in self._reachable(ways, open_calls):
            if answered in way.done:
                yield Possible(way.section, way.done - {answered})

    def losing(self, ways: Iterable[Possible], open_calls: set[Call]) -> Iterator[Possible]:
        """Every way in which holds may have gone, after any of the open calls had their effect."""
        for way in self._reachable(ways, open_calls):
            names = sorted(way.section.held)
            for number in range(len(names) + 1):
                for gone in combinations(names, number):
                    section = way.section
                    for name in gone:
                        section = section.without(name)
                    yield Possible(section, way.done)

    def _reachable(self, ways: Iterable[Possible], open_calls: set[Call]) -> set[Possible]:
        """The ways themselves, and those in which more of the open calls have had their effect."""
        seen: set[Possible] = set()
        unfinished = list(ways)
        while unfinished:
            way = unfinished.pop()
            if way in seen:
                continue
            seen.add(way)
            for call in open_calls - way.done:
                after = way.section.after(call, self.lost, self._unseen[call])
                if after is not None:
                    unfinished.append(Possible(after, way.done | {call}))
        return seen

    @cached_property
    def _unseen(self) -> Mapping[Call, int]:
        """Units that other calls may have taken unseen while a call was open: a loss had them asked again."""
        return {
            call: sum(
                other.quantity
                for other in self.calls
                if other.op == "hold"
                and other is not call
                and _meet(call, (other.began, other.ended))
                and any(_meet(other, span) for span in self.lost)
            )
            for call in self.calls
        }
