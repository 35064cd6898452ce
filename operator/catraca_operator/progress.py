"""Whether the operator gets on: every loop says when it comes round again, and one that does not is seen."""

import time


class Progress:
    """When each loop is due; a probe that asks it fails while one is overdue for too long."""

    def __init__(self, stuck_s: float) -> None:
        self._stuck_s = stuck_s
        self._due: dict[str, float] = {}

    def within(self, loop: str, pause_s: float) -> None:
        """The loop got on, and will again in so many seconds."""
        self._due[loop] = time.monotonic() + pause_s

    def ended(self, loop: str) -> None:
        """The loop has nothing to do any more."""
        self._due.pop(loop, None)

    @property
    def healthy(self) -> bool:
        """Whether no loop is overdue."""
        return time.monotonic() < min(self._due.values(), default=float("inf")) + self._stuck_s
