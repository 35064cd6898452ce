"""What one worker saw, step by step; written as JSON when its run is over, and added up by whoever judges."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OK = "OK"
DEFECTS = frozenset({"INTERNAL", "UNKNOWN"})
"""Answers that no load excuses."""
SHED = frozenset({"OVERLOADED", "UNAVAILABLE", "DEADLINE"})
"""Refusals that only load explains: such a call was not served."""


@dataclass
class StepTally:
    """One step. Every other refusal than those of load is an answer: the right one to what was asked."""

    sent: int = 0
    """Requests, or items."""
    answered: int = 0
    """Served before the step ended."""
    unsent: int = 0
    """Due, but not begun before the step ended: the generator or its lanes were too slow."""
    words: Counter[str] = field(default_factory=Counter)
    """By call and word, `Join OK`."""
    latencies_us: list[int] = field(default_factory=list)
    """From when it was due to its answer; what was never sent, to the step's end, which is too short."""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**vars(self), "words": dict(self.words)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "StepTally":
        """From what `to_json` gave."""
        return cls(**{**values, "words": Counter(values["words"])})

    def note(self, call: str, words: Mapping[str, int], latency_s: float, *, in_time: bool) -> None:
        """One call was answered, with as many words as it had items."""
        for word, count in words.items():
            self.sent += count
            self.words[f"{call} {word}"] += count
            if in_time and word not in SHED and word not in DEFECTS:
                self.answered += count
        self.latencies_us.append(_us(latency_s))

    def note_unsent(self, waited_s: float, items: int) -> None:
        """One call was not begun."""
        self.unsent += items
        self.latencies_us.append(_us(waited_s))


def _us(seconds: float) -> int:
    return max(round(seconds * 1_000_000), 0)


def together(tallies: Iterable[Sequence[StepTally]]) -> list[StepTally]:
    """All workers' tallies added up, step by step."""
    return [
        StepTally(
            sent=sum(each.sent for each in of_step),
            answered=sum(each.answered for each in of_step),
            unsent=sum(each.unsent for each in of_step),
            words=sum((each.words for each in of_step), Counter()),
            latencies_us=sorted(latency for each in of_step for latency in each.latencies_us),
        )
        for of_step in zip(*tallies, strict=True)
    ]
