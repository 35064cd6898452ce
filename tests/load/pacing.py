"""When each call is due: an open loop, in which no call waits for the answer to another one.

Locust-plugins' `constant_total_ips` forgets its lag when a call was late, and with it how long that call had
waited already. Here what is due stays due: whoever comes late starts from the time it should have started.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.load.settings import Step


class Arrival(NamedTuple):
    """One call that is due."""

    step: int
    due_s: float
    """Seconds from the run's beginning."""


class Pacing:
    """One worker's share of the arrivals: evenly spaced, in turn with the other workers'.

    Arrivals whose step has ended before anybody took them are not sent any more; `unsent` keeps since when
    they had been due, by step.
    """

    def __init__(self, steps: Sequence[Step], *, workers: int = 1, worker: int = 0, items: int = 1) -> None:
        """`items` is how many of the rate's requests one arrival stands for."""
        self._steps = steps
        self._workers = workers
        self._worker = worker
        self._items = items
        self._step = 0
        self._number = 0
        self.unsent: list[list[float]] = [[] for _ in steps]

    def take(self, now_s: float) -> Arrival | None:
        """The next arrival, due already or in the future; None after the last one."""
        while self._step < len(self._steps):
            step = self._steps[self._step]
            due_s = self._due(step)
            if due_s >= step.ends_s:
                self._step, self._number = self._step + 1, 0
            elif now_s >= step.ends_s:
                self.unsent[self._step].append(due_s)
                self._number += 1
            else:
                self._number += 1
                return Arrival(self._step, due_s)
        return None

    def _due(self, step: Step) -> float:
        position = self._number * self._workers + self._worker
        return step.begins_s + position * self._items / step.rate
