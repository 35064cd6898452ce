"""What the lobby lets expect at the opening: buyers, and the replicas that they will need; without I/O.

Whoever joins before the opening is in the draw, so the crowd at the opening is known before it is let in:
those who joined already, and those who still will, if they come on as they came lately.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catraca.sale.v1.sale_pb2 import LINE_KIND_DRAW, SaleSpec

# Joins of the last minute say how many come in the next; older ones how it began.
RECENT_MS = 60_000
# A line without a rate lets its first crowd in within about so long.
RUSH_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How many had joined at a moment."""

    at_ms: int
    joined: int


@dataclass(frozen=True, slots=True)
class PerReplica:
    """What one replica of each service bears."""

    watchers: int
    """Buyers in line, whom the queue keeps informed."""
    holds_per_s: float
    """Buyers a second whom inventory lets take units."""
    orders_per_s: float
    """Orders a second that checkout takes in."""
    streams: int
    """Buyers with an order, whom the notifier tells."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected at the opening."""

    join_rate: float
    """Buyers joining a second lately."""
    buyers: int
    """Who will have joined at the opening."""
    replicas: Mapping[str, int]
    """By service."""


def forecast(
    samples: Sequence[Sample], opens_ms: int, now_ms: int, spec: SaleSpec, per_replica: PerReplica
) -> Forecast | None:
    """From samples in order of time, the first of them with nobody at the lobby's opening.

    None without a line: nobody comes early there. After the opening the crowd is who has joined.
    """
    if spec.line.kind != LINE_KIND_DRAW or not samples:
        return None
    last = samples[-1]
    rate = join_rate(samples)
    to_come = rate * max(0, opens_ms - max(now_ms, last.at_ms)) / 1000
    buyers = last.joined + round(to_come)
    return Forecast(rate, buyers, needed(buyers, spec, per_replica))


def join_rate(samples: Sequence[Sample]) -> float:
    """Buyers a second over the last minute, or over as long as there are samples of."""
    last = samples[-1]
    first = next((each for each in samples if last.at_ms - each.at_ms <= RECENT_MS), last)
    if first is last:
        first = samples[max(0, len(samples) - 2)]
    seconds = (last.at_ms - first.at_ms) / 1000
    return max(0.0, (last.joined - first.joined) / seconds) if seconds > 0 else 0.0


def thinned(samples: Sequence[Sample], now_ms: int) -> tuple[Sample, ...]:
    """The samples that still say something: those of the last minute, and the one before it."""
    recent = [place for place, each in enumerate(samples) if now_ms - each.at_ms <= RECENT_MS]
    first = recent[0] if recent else len(samples)
    return tuple(samples[max(0, first - 1) :])


def needed(buyers: int, spec: SaleSpec, per_replica: PerReplica) -> dict[str, int]:
    """Replicas by service for so many buyers at the opening."""
    # How many seats a plan has, a manifest need not say: then everyone is taken for somebody who shops.
    known = all(section.capacity for section in spec.sections)
    units = sum(section.capacity for section in spec.sections) if known else buyers
    shoppers = min(buyers, units)
    if spec.line.concurrency:
        shoppers = min(shoppers, spec.line.concurrency)
    # A line with a rate lets in so many a second, whoever waits.
    per_s = min(float(spec.line.rate), buyers) if spec.line.rate else shoppers / RUSH_S
    return {
        "queue": _replicas(buyers, per_replica.watchers),
        "inventory": _replicas(per_s, per_replica.holds_per_s),
        "checkout": _replicas(per_s, per_replica.orders_per_s),
        "notifier": _replicas(min(buyers, units), per_replica.streams),
    }


def _replicas(load: float, each: float) -> int:
    return math.ceil(load / each)
