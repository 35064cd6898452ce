"""Waits for a condition of the cluster instead of for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.05
TIMEOUT_S = 60.0

T = TypeVar("T")


class NeverCame(AssertionError):
    """A condition did not hold in time; the message has what was seen last."""


def eventually(look: Callable[[], T], holds: Callable[[T], object] = bool, timeout_s: float = TIMEOUT_S) -> T:
    """The first thing seen that holds. Whatever `look` raises counts as not yet; NeverCame at the end."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen: T | Exception
        try:
            seen = look()
            if holds(seen):
                return seen
        except Exception as error:
            seen = error
        if time.monotonic() > deadline:
            raise NeverCame(f"not within {timeout_s:g} s; seen last: {seen!r}")
        time.sleep(POLL_S)
