"""Judges a run from what the buyers were told: I9, I10 and I12, and whatever contradicts itself."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from local.rush.buyer import Buyer
from local.rush.people import Pay
from local.rush.record import RIGHT_WORDS, Ask, Attempt, Probe, Refusal

# A refusal told this shortly before the turn's end may have been decided after it.
EDGE_S = 0.05
# What an allowance does not cover: its units are promised somewhere in the sale, not in every section.
HONEST = frozenset({"SECTION_SOLD_OUT", "NOT_ADJACENT", "SEAT_TAKEN"})
# Who is refused by every section this often within the turn was promised something that is not there.
ROUNDS = 3
# Examples of each kind.
KEPT = 10
# How an order may end, by what its buyer does when asked to pay.
ENDS: dict[Pay, frozenset[str]] = {
    Pay.PAYS: frozenset({"CONFIRMED"}),
    Pay.DECLINED_ONCE: frozenset({"CONFIRMED"}),
    Pay.DECLINED: frozenset({"PAYMENT_FAILED"}),
    Pay.PAYS_LATE: frozenset({"EXPIRED", "CONFIRMED"}),
    Pay.NEVER_PAYS: frozenset({"EXPIRED"}),
    Pay.CANCELS: frozenset({"CANCELLED"}),
}
# What else is wrong: nothing promises it by number, and still it should not have happened.
OTHER = "other"

Problem = tuple[str, str]
"""What it goes against, and a sentence."""


@dataclass
class Verdict:
    """How often something went against an invariant, with the first examples of it."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, against: str, who: str, text: str) -> None:
        """One thing that should not have happened."""
        self.counts[against] += 1
        if self.counts[against] <= KEPT:
            self.examples.append(f"{against} {who}: {text}")

    def merge(self, other: "Verdict") -> None:
        """Take over what another verdict found."""
        self.counts.update(other.counts)
        self.examples.extend(other.examples)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"counts": dict(self.counts), "examples": self.examples}


def judge(buyers: Iterable[Buyer], sections: int, turn_s: float) -> Verdict:
    """The verdict over all records. `sections` is how many the sale has, `turn_s` how long a turn is."""
    verdict = Verdict()
    for buyer in buyers:
        for against, text in problems(buyer, sections, turn_s):
            verdict.add(against, f"buyer {buyer.number}", text)
    return verdict


def problems(buyer: Buyer, sections: int, turn_s: float) -> Iterator[Problem]:
    """What one buyer was told and should not have been."""
    for text in buyer.contradictions:
        against, _, what = text.partition(" ")
        yield against, what
    for refusal in buyer.refusals:
        yield from _refusal(buyer, refusal, turn_s)
    for tried in buyer.tried:
        if tried.word in RIGHT_WORDS[tried.probe]:
            continue
        # An empty word means that it worked.
        against = OTHER if tried.word else ("I7" if tried.probe is Probe.OTHER_BODY else "I10")
        yield against, f"{tried.probe.name} was answered {tried.word or 'with success'}"
    if _found_nothing(buyer, sections):
        yield "I9", "refused by every section, again and again, within the turn"
    for attempt in buyer.attempts:
        yield from _attempt(buyer, attempt)


def _refusal(buyer: Buyer, refusal: Refusal, turn_s: float) -> Iterator[Problem]:
    told = f"{refusal.ask} of {refusal.quantity} (allowed {refusal.left}) was refused: {refusal.word}"
    match refusal.ask:
        case Ask.HOLD | Ask.ORDER:
            in_turn = refusal.told_at < refusal.turn_ends - EDGE_S
            if in_turn and refusal.quantity <= refusal.left:
                if refusal.word not in HONEST:
                    yield "I9", told
            elif refusal.word not in HONEST | {"TURN_EXPIRED"}:
                yield OTHER, told
        case Ask.ENTER:
            came_at_once = refusal.told_at - buyer.called_at < turn_s / 2
            if came_at_once or refusal.word != "TURN_EXPIRED":
                yield "I9", f"called, came {refusal.sent_at - buyer.called_at:.1f} s later: {refusal.word}"
        case Ask.CANCEL if refusal.word == "ORDER_STATE":
            return
        case _:
            yield OTHER, told


def _found_nothing(buyer: Buyer, sections: int) -> bool:
    """Never got anything of an allowance although every section was asked in several rounds."""
    if not buyer.refusals or any(attempt.accepted for attempt in buyer.attempts):
        return False
    honest = [r for r in buyer.refusals if r.word in HONEST and r.told_at < r.turn_ends - EDGE_S]
    return len(honest) >= ROUNDS * sections


def _attempt(buyer: Buyer, attempt: Attempt) -> Iterator[Problem]:
    if not attempt.accepted:
        if not attempt.answer:
            yield OTHER, f"order {attempt.key} was never answered"
        elif attempt.state and (attempt.state, attempt.reason) != ("REJECTED", attempt.answer):
            yield (
                OTHER,
                f"order refused with {attempt.answer}, its stream told {attempt.state} {attempt.reason}",
            )
        return
    if not attempt.ended:
        yield "I12", f"order {attempt.order_id} was last told {attempt.state or 'nothing'}, never its end"
        return
    if attempt.state == "REJECTED":
        yield "I9", f"order {attempt.order_id} was accepted, then rejected: {attempt.reason}"
        return
    free_of_charge = attempt.amount == 0
    expected = ENDS[Pay.PAYS] if free_of_charge else ENDS[buyer.person.pay]
    if attempt.state not in expected:
        said = f", the provider said {attempt.provider_said}" if attempt.provider_said else ""
        who = f"order {attempt.order_id} of a buyer who {_does(buyer)}"
        yield OTHER, f"{who} ended {attempt.state} {attempt.reason}{said}"


def _does(buyer: Buyer) -> str:
    return buyer.person.pay.name.lower().replace("_", " ")


def compare(verdict: Verdict, attempt: Attempt, state: str, version: int) -> None:
    """What GetOrder says at the end must be what the stream told last."""
    if (state, version) != (attempt.state, attempt.version):
        told = f"the stream told {attempt.state} (version {attempt.version})"
        verdict.add("I12", f"order {attempt.order_id}", f"GetOrder says {state} (version {version}), {told}")
