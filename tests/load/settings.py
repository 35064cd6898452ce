"""What a load run is made of: how fast, how long, with whom; and the plan that Locust's processes read."""

import json
from dataclasses import asdict, dataclass
from typing import Any

SERIES = ("grpc", "grpc-web", "bff")
"""Unary calls directly to the services; the same calls through the edge; batches on BFFs' streams."""

# Shares of the last step's rate. The first is so low that nothing waits for anything: "idle".
SHARES = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class LoadSettings:
    """One run."""

    rate: float = 10_000.0
    """Requests (for BFFs: items) per second that the last step offers."""
    step_s: float = 5.0
    """How long each step lasts."""
    gap_s: float = 1.0
    """Between two steps, so that answers of one do not weigh on the next."""
    workers: int = 1
    """Processes that send. More of them take the cores away from what is measured."""
    lanes: int = 200
    """Calls that one process has under way at most; what exceeds it waits, and its waiting counts."""
    buyers: int = 2_000
    """Buyers of each unary series, each with a token of their own."""
    batch: int = 100
    """Items in one message of a BFF."""
    streams: int = 100
    """Server streams that each process keeps open; the oldest is closed for the next one."""
    series: tuple[str, ...] = SERIES
    shares: tuple[float, ...] = SHARES
    profile: bool = True
    """Whether the busiest service is sampled at the knee."""
    seed: int = 1

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """One rate, held for a while. `begins_s` counts from the run's beginning."""

    rate: float
    begins_s: float
    seconds: float
    measured: bool = True
    """False for the warm-up."""

    @property
    def ends_s(self) -> float:
        """When nothing more is begun for it."""
        return self.begins_s + self.seconds


def steps(rates: list[float], warm_up: float, settings: LoadSettings) -> list[Step]:
    """A warm-up at its own rate, then a step for each rate, with the gap between them."""
    found: list[Step] = []
    begins_s = 0.0
    for number, rate in enumerate([warm_up, *rates]):
        found.append(Step(rate, begins_s, settings.step_s, measured=number > 0))
        begins_s += settings.step_s + settings.gap_s
    return found


@dataclass(frozen=True)
class Plan:
    """All that the processes which send have to know."""

    series: str
    sale: str
    sections: list[str]
    targets: dict[str, str]
    """gRPC target by service."""
    edge: str
    """host:port of the edge."""
    tokens: list[str]
    """Of each buyer; for BFFs, of each worker's BFF."""
    steps: list[Step]
    workers: int
    lanes: int
    batch: int
    streams: int
    seed: int
    first_buyer: int
    """BFFs number their buyers from here on, so that a second drive finds new ones."""
    folder: str
    """Where each worker writes what it measured."""

    @property
    def seconds(self) -> float:
        """From the beginning to the end of the last step."""
        return self.steps[-1].ends_s

    def dumps(self) -> str:
        """As JSON, for the other processes."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Plan":
        """From what `dumps` gave."""
        values = json.loads(text)
        return cls(**values | {"steps": [Step(**each) for each in values["steps"]]})
