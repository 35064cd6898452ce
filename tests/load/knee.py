"""What a step came to, and where the knee is: pure functions of what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.load.settings import Step
from tests.load.tally import DEFECTS, OK, StepTally

ACHIEVED_SHARE = 0.95
"""A step at or below the knee serves at least this share of what it is offered."""
IDLE_MULTIPLE = 10.0
"""And its 99th percentile is at most so many times that of the first step, which is idle."""
PERCENTILES = (0.5, 0.9, 0.99, 0.999)


@dataclass(frozen=True)
class Measured:
    """One step as it is reported. Rates per second, latencies in milliseconds from when a call was due."""

    offered: float
    achieved: float
    seconds: float
    unsent: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    refusals: Mapping[str, int] = field(default_factory=dict)
    """By call and word, `Enter NOT_CALLED_YET`."""
    cpu: Mapping[str, float] = field(default_factory=dict)
    """By process: seconds of CPU per second, 1.0 being one core."""

    @property
    def defects(self) -> dict[str, int]:
        """The answers that no load excuses."""
        return {name: count for name, count in self.refusals.items() if name.split()[-1] in DEFECTS}

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def measured(step: Step, tally: StepTally, cpu: Mapping[str, float]) -> Measured:
    """A step's numbers from what all workers saw."""
    p50, p90, p99, p999 = (percentile_us(tally.latencies_us, share) / 1000 for share in PERCENTILES)
    refusals = {name: count for name, count in sorted(tally.words.items()) if name.split()[-1] != OK}
    return Measured(
        step.rate,
        tally.answered / step.seconds,
        step.seconds,
        tally.unsent,
        p50,
        p90,
        p99,
        p999,
        refusals,
        cpu,
    )


def percentile_us(ordered: Sequence[int], share: float) -> int:
    """The smallest of the values that at least this share of them does not exceed; 0 where there are none."""
    if not ordered:
        return 0
    rank = -(-len(ordered) * share // 1)
    return ordered[min(max(int(rank), 1), len(ordered)) - 1]


def knee(steps: Sequence[Measured]) -> Measured | None:
    """The highest step that serves what it is offered without making callers wait much longer than idle ones.

    `steps` begin with the idle one. None where not even that one served what it was offered.
    """
    if not steps:
        return None
    bound_ms = steps[0].p99_ms * IDLE_MULTIPLE
    within = [
        step for step in steps if step.achieved >= step.offered * ACHIEVED_SHARE and step.p99_ms <= bound_ms
    ]
    return max(within, key=lambda step: step.offered, default=None)
