"""What sales cost the operator and the API server, read from the pages of metrics of both."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.cluster.plane.api import Api

MB = 1024 * 1024
# Caches fill, threads are made and the allocator takes its share: the first part of a run says nothing.
WARM_UP = 0.25
# A finalizer put on and taken off, a status for each phase and step of a deletion, Events of each.
MOST_CALLS = 40.0
REQUESTS = re.compile(r'^apiserver_request_total\{(.*resource="ticketsales".*)\} (\S+)$', re.MULTILINE)
WATCHING = re.compile(r'verb="(LIST|WATCH|CONNECT)"')

Page = Mapping[str, float]


def asked(api: Api) -> float:
    """How often the API server was asked about TicketSales, watches and lists left aside."""
    found = REQUESTS.findall(api.text("/metrics"))
    return sum(float(count) for labels, count in found if not WATCHING.search(labels))


@dataclass(frozen=True)
class Sample:
    """One look at everything."""

    at_s: float
    """Since the run began."""
    page: Page
    """The operator's metrics."""
    services: Mapping[str, int]
    """Bytes by service."""

    @property
    def memory_mb(self) -> float:
        """The operator's resident memory."""
        return self.page["process_resident_memory_bytes"] / MB


@dataclass(frozen=True)
class Costs:
    """What a run of many sales cost."""

    sales: Mapping[str, int]
    """Sales that came and went, by way."""
    failures: Sequence[str]
    samples: Sequence[Sample]
    asked: float
    """What the operator asked the API server of TicketSales, by the API server's own count."""

    @property
    def total(self) -> int:
        """All sales."""
        return sum(self.sales.values())

    @property
    def settled(self) -> Sequence[Sample]:
        """The samples after the warm-up."""
        return self.samples[int(len(self.samples) * WARM_UP) :]

    @property
    def slope_mb_s(self) -> float:
        """Growth of the operator's memory after the warm-up, by least squares; megabytes a second."""
        found = self.settled
        return statistics.linear_regression(
            [each.at_s for each in found], [each.memory_mb for each in found]
        ).slope

    @property
    def growth_mb(self) -> float:
        """By how much it grew from the warm-up to the end, along that line."""
        return self.slope_mb_s * (self.settled[-1].at_s - self.settled[0].at_s)

    @property
    def calls(self) -> dict[str, float]:
        """The operator's calls to Kubernetes by kind and outcome, but those it makes without any sale."""
        found = self._grown("catraca_operator_api_calls_total")
        return {labels: count for labels, count in found.items() if count and "scaled_objects" not in labels}

    def problems(self, most_mb: float) -> list[str]:
        """What is wrong, each in a sentence."""
        found = [f"a sale did not come to its end: {failure}" for failure in self.failures]
        if not self.total:
            return [*found, "no sale came to its end"]
        if self.growth_mb > most_mb:
            found.append(f"memory grew by {self.growth_mb:.1f} MB; at most {most_mb:g} MB are allowed")
        if sum(self.calls.values()) / self.total > MOST_CALLS:
            found.append(
                f"a sale cost {sum(self.calls.values()) / self.total:.1f} calls; at most {MOST_CALLS:g}"
            )
        if failed := self._grown("catraca_operator_reconcile_seconds_count").get('{outcome="failed"}', 0):
            found.append(f"{failed:g} reconciliations failed")
        return found

    def report(self) -> str:
        """All of it as lines for a person."""
        took_s = self.samples[-1].at_s
        lines = [f"{self.total} sales in {took_s / 60:.1f} minutes, {self.total / took_s * 60:.0f} a minute"]
        lines += [f"  {count:6} {way}" for way, count in self.sales.items()]
        return "\n".join([*lines, *self._memory(), *self._times(), *self._called()])

    def _memory(self) -> list[str]:
        by_time = self.samples[:: max(1, len(self.samples) // 12)]
        if by_time[-1] is not self.samples[-1]:
            by_time = [*by_time, self.samples[-1]]
        told = "  ".join(f"{each.at_s / 60:.1f} min {each.memory_mb:.1f}" for each in by_time)
        first, last = self.samples[0], self.samples[-1]
        services = ", ".join(
            f"{name} {first.services[name] / MB:.0f} → {last.services[name] / MB:.0f}"
            for name in first.services
        )
        cpu_s = last.page["process_cpu_seconds_total"] - first.page["process_cpu_seconds_total"]
        return [
            f"operator's resident memory in MB: {told}",
            f"  after the warm-up: {self.settled[0].memory_mb:.1f} → {last.memory_mb:.1f}, "
            f"slope {self.slope_mb_s * 3600:+.2f} MB an hour, {self.growth_mb:+.2f} MB in all",
            f"  open files {first.page['process_open_fds']:.0f} → {last.page['process_open_fds']:.0f}; "
            f"CPU {cpu_s / max(1, self.total) * 1000:.0f} ms a sale",
            f"services' memory in MB: {services}",
        ]

    def _times(self) -> list[str]:
        names = {
            "reconcile, with its calls": "catraca_operator_reconcile_seconds",
            "from a change until it was heeded": "catraca_operator_wait_seconds",
            "lateness of opening and closing": "catraca_operator_lateness_seconds",
        }
        return [f"{said}: {self._spread(name)}" for said, name in names.items()]

    def _called(self) -> list[str]:
        total = sum(self.calls.values())
        of_a_sale = max(1, self.total)
        lines = [
            f"calls to Kubernetes: {total / of_a_sale:.2f} a sale; "
            f"of TicketSales, as the API server counts: {self.asked / of_a_sale:.2f} a sale"
        ]
        rows = sorted(self.calls.items(), key=lambda each: -each[1])
        return lines + [f"  {count / of_a_sale:6.2f} {labels}" for labels, count in rows]

    def _grown(self, name: str) -> dict[str, float]:
        """By how much a family's samples grew, by their labels."""
        first, last = self.samples[0].page, self.samples[-1].page
        return {
            sample.removeprefix(name): value - first.get(sample, 0)
            for sample, value in last.items()
            if sample.partition("{")[0] == name
        }

    def _spread(self, name: str) -> str:
        """Count, mean, and the buckets' ends below which half, 99 % and all of a histogram lie."""
        below: dict[float, float] = {}
        for labels, count in self._grown(f"{name}_bucket").items():
            matched = re.search(r'le="([^"]+)"', labels)
            assert matched is not None
            edge = float(matched[1])
            below[edge] = below.get(edge, 0) + count
        count = sum(self._grown(f"{name}_count").values())
        if not count:
            return "none"
        mean_ms = sum(self._grown(f"{name}_sum").values()) / count * 1000

        def at(share: float) -> str:
            edge = min(edge for edge in below if below[edge] >= share * count)
            return f"≤ {edge * 1000:g} ms"

        return f"{count:.0f}, mean {mean_ms:.1f} ms, half {at(0.5)}, 99 % {at(0.99)}, all {at(1)}"
