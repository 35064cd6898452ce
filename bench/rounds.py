"""Interleaved rounds: A B C, A B C, …, so that whatever else the machine does hits all alike."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Subject = Callable[[], Awaitable[float]]
"""Measures once; answers a rate, or a time, whichever all of them do."""


@dataclass(frozen=True)
class Rounds:
    """What each subject came to, round by round."""

    found: Mapping[str, Sequence[float]]

    def of(self, name: str) -> float:
        """The median of a subject's rounds."""
        return median(self.found[name])

    def ratio(self, name: str, other: str) -> float:
        """How often `other` goes into `name`: the median of what it was within each round."""
        pairs = zip(self.found[name], self.found[other], strict=True)
        return median(mine / its for mine, its in pairs)


async def interleaved(subjects: Mapping[str, Subject], rounds: int) -> Rounds:
    """Runs all subjects one after the other, so many times; a first time does not count, it warms up."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, subject in subjects.items():
            value = await subject()
            if number:
                found[name].append(value)
    return Rounds(found)
