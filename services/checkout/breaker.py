"""A circuit breaker: who fails again and again is left alone for a while instead of being asked ever more."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after so many failures in a row, lets one try through after a pause, and closes on a success."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = failures
        self._pause_s = pause_s
        self._clock = clock
        self._failures = 0
        self._closed_again_at = 0.0

    def wait_s(self) -> float:
        """How long to leave the other side alone; 0 where it may be asked."""
        if self._failures < self._limit:
            return 0.0
        return max(0.0, self._closed_again_at - self._clock())

    def succeeded(self) -> None:
        """It answered."""
        self._failures = 0

    def failed(self) -> None:
        """It did not. Once open, every further failure prolongs the pause."""
        self._failures += 1
        if self._failures >= self._limit:
            self._closed_again_at = self._clock() + self._pause_s
