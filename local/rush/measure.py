"""Durations as they were measured, and their percentiles."""

from array import array
from collections import Counter
from typing import Any


class Durations:
    """Many durations in seconds: 4 bytes each."""

    def __init__(self) -> None:
        self._values = array("f")

    def add(self, seconds: float) -> None:
        """One more."""
        self._values.append(max(seconds, 0.0))

    def summary(self) -> dict[str, float]:
        """Count, median, 99th percentile and maximum, in milliseconds."""
        if not self._values:
            return {"count": 0}
        ordered = sorted(self._values)
        return {
            "count": len(ordered),
            "p50_ms": round(percentile(ordered, 0.50) * 1000, 1),
            "p99_ms": round(percentile(ordered, 0.99) * 1000, 1),
            "max_ms": round(ordered[-1] * 1000, 1),
        }


def percentile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share of all does not exceed."""
    rank = -(-len(ordered) * share // 1)
    return ordered[min(max(int(rank), 1), len(ordered)) - 1]


class Measures:
    """Everything a run measures while it goes on."""

    NAMES = ("join", "turn wait", "enter", "hold", "place order", "order to outcome", "decision to stream")

    def __init__(self) -> None:
        self.durations = {name: Durations() for name in self.NAMES}
        self.refusals: Counter[str] = Counter()
        """By ask and word: refusals that were told, those wanted by a probe included."""
        self.retries: Counter[str] = Counter()
        """By ask and word: tried again with the same ids."""
        self.setbacks: Counter[tuple[int, str]] = Counter()
        """The same by second, as far as the system was at fault."""
        self.repeats = 0
        """Asks that a BFF sent again because its stream was sent elsewhere; their buyers did not notice."""
        self.reconnects = 0
        self.first_join_at = 0.0
        self.last_lobby_join_at = 0.0
        self.lobby_joins = 0
        self.orders: Counter[int] = Counter()
        """Accepted orders by second."""

    def joined(self, now: float, sent_at: float, *, fills_lobby: bool) -> None:
        """One join was answered; those that fill the lobby tell how many joins a second go through."""
        self.durations["join"].add(now - sent_at)
        if fills_lobby:
            self.first_join_at = min(self.first_join_at or sent_at, sent_at)
            self.last_lobby_join_at = now
            self.lobby_joins += 1

    def ordered(self, now: float, sent_at: float) -> None:
        """One order was accepted."""
        self.durations["place order"].add(now - sent_at)
        self.orders[int(now)] += 1

    def to_json(self) -> dict[str, Any]:
        """As plain values, rates included."""
        return {
            "latencies": {name: values.summary() for name, values in self.durations.items()},
            "joins_per_s": rate(self.lobby_joins, self.last_lobby_join_at - self.first_join_at),
            "orders_per_s": max(self.orders.values(), default=0),
            "refusals": dict(sorted(self.refusals.items())),
            "retries": dict(sorted(self.retries.items())),
            "repeats": self.repeats,
            "reconnects": self.reconnects,
        }


def rate(count: int, seconds: float) -> float:
    """How many per second; 0 where there is no time to speak of."""
    return round(count / seconds, 1) if seconds > 0 else 0.0
