"""Records what clients asked and were told while parts die: some order must explain every answer."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NEVER = float("inf")


@dataclass
class Call:
    """One call with the id that every repeat of it carries. Moments are of one clock, in seconds."""

    client: str
    op: str
    hold_id: str
    began: float
    ended: float = NEVER
    """Never, where no answer came: then it may have had its effect, at any moment since, or not at all."""
    word: str = ""
    units: frozenset[int] = frozenset()


@dataclass
class History:
    """What all clients saw."""

    calls: list[Call] = field(default_factory=list)

    def begin(self, client: str, op: str, hold_id: str) -> Call:
        """Note that a call is on its way."""
        call = Call(client, op, hold_id, time.monotonic())
        self.calls.append(call)
        return call

    def end(self, call: Call, word: str, units: Iterable[int] = ()) -> None:
        """Note its answer."""
        call.ended, call.word, call.units = time.monotonic(), word, frozenset(units)


@dataclass(frozen=True, order=True)
class Span:
    """When a unit was certainly a hold's: from its answer to the first call that may have ended it."""

    begins: float
    ends: float
    hold: str
    unit: int


@dataclass(frozen=True)
class Judgement:
    """What no order of the calls explains; empty if there is one."""

    wrong: Sequence[str]


def judge(
    history: History, *, capacity: int, expiry_s: float, lost: Sequence[tuple[float, float]]
) -> Judgement:
    """Whether some order explains every answer.

    The ledger is a set of registers, one a unit, each with at most one owner; a call takes effect at one
    moment between its beginning and its answer. No order explains answers of one hold that contradict each
    other, a unit that is certainly two holds' at one moment, or SOLD_OUT while too little could have been
    taken at any moment of the call. `lost` are spans in which a store was lost: holds without an order may
    end there. `expiry_s` is how long a hold lasts at least.
    """
    wrong: list[str] = []
    spans: list[Span] = []
    for hold, calls in _by_hold(history.calls).items():
        wrong += _of_one_hold(hold, calls, lost)
        spans += _spans(hold, calls, lost, expiry_s)
    wrong += _twice(spans)
    wrong += _refused_too_soon(history.calls, capacity)
    return Judgement(wrong)


def _by_hold(calls: Iterable[Call]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.began):
        found[f"{call.client}/{call.hold_id}"].append(call)
    return found


def _of_one_hold(hold: str, calls: Sequence[Call], lost: Sequence[tuple[float, float]]) -> Iterator[str]:
    """An id always names the same units, what ended stays ended, only a lost store takes a hold along."""
    units = {call.units for call in calls if call.word in ("HELD", "SOLD")}
    if len(units) > 1:
        yield f"{hold} was answered with different units: {sorted(map(sorted, units))}"
    for call in calls:
        before = [each for each in calls if each.ended < call.began]
        ended = {each.word for each in before} & {"RELEASED", "EXPIRED", "LOST"}
        if call.word in ("HELD", "SOLD") and ended:
            yield f"{hold} was {ended.pop()} and {call.word} after that"
        given = [each.ended for each in before if each.word == "HELD"]
        may_be_lost = any(begins <= call.ended for begins, _ in lost)
        if call.word in ("LOST", "NOT_FOUND") and not may_be_lost and (given or call.word == "LOST"):
            yield f"{hold} was {call.word}, and no store was lost"


def _spans(
    hold: str, calls: Sequence[Call], lost: Sequence[tuple[float, float]], expiry_s: float
) -> Iterator[Span]:
    given = [call for call in calls if call.word in ("HELD", "SOLD")]
    if not given:
        return
    begins = min(call.ended for call in given)
    sold = [call for call in calls if call.word == "SOLD"]
    ends = NEVER if sold else begins + expiry_s
    if not sold:
        ends = min([ends, *(start for start, end in lost if end >= begins)])
    releases = [call.began for call in calls if call.op == "release"]
    for unit in given[0].units:
        yield Span(begins, min([ends, *releases]), hold, unit)


def _twice(spans: Sequence[Span]) -> Iterator[str]:
    by_unit: dict[int, list[Span]] = defaultdict(list)
    for span in sorted(spans):
        by_unit[span.unit].append(span)
    for unit, of_unit in by_unit.items():
        for before, after in pairwise(of_unit):
            if after.begins < before.ends and after.hold != before.hold:
                yield f"unit {unit} was {before.hold}'s and {after.hold}'s at one moment"


def _refused_too_soon(calls: Sequence[Call], capacity: int) -> Iterator[str]:
    """SOLD_OUT needs that all may have been taken: counted generously, so that what is said is certain."""
    for refused in calls:
        if refused.word != "SOLD_OUT":
            continue
        may_have = {
            f"{call.client}/{call.hold_id}": len(call.units) or 1
            for call in calls
            if call.op == "hold" and call.began < refused.ended and call.word in ("HELD", "SOLD", "")
        }
        if sum(may_have.values()) < capacity:
            yield f"{refused.client} was told SOLD_OUT when at most {sum(may_have.values())} were taken"
