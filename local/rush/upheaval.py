"""What is done to the services in the middle of a sale, and what the buyers noticed of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from local.stack import Stack

# After the opening: the draw is over, and turns, orders and payments are under way.
BEGINS_S = 1.0
# What was under way when the last replica was back has its answer after this.
ECHO_S = 3.0

Done = Callable[[str, int], None]
Act = Callable[[Stack, Done], Awaitable[None]]

Setback = tuple[int, str, int]
"""At which second (since 1970) buyers were told to try again, what they asked and why, and how often."""


class Upheaval:
    """One act on a stack; `act` tells of each replica that it is done with, by service and number from 0."""

    def __init__(self, what: str, act: Act, *, unnoticed: bool) -> None:
        """`unnoticed`: a buyer who is refused because of it is a failure of the run."""
        self.what = what
        self.unnoticed = unnoticed
        self._act = act
        self._began_at = 0.0
        self._ended_at = 0.0
        self._done: list[str] = []

    async def run(self, stack: Stack, opens_at: float) -> None:
        """Wait until the sale is under way, and act."""
        await asyncio.sleep(max(0.0, opens_at + BEGINS_S - time.time()))
        self._began_at = time.time()
        await self._act(stack, lambda service, index: self._done.append(f"{service}-{index + 1}"))
        self._ended_at = time.time()

    def to_json(self, setbacks: Iterable[Setback]) -> dict[str, Any]:
        """What was done, and what of the setbacks fell into its time."""
        until = (self._ended_at or time.time()) + ECHO_S
        noticed: Counter[str] = Counter()
        for second, what, times in setbacks:
            if self._began_at and int(self._began_at) <= second <= until:
                noticed[what] += times
        return {
            "what": self.what,
            "unnoticed": self.unnoticed,
            "finished": bool(self._ended_at),
            "seconds": round(max(0.0, self._ended_at - self._began_at), 1),
            "replicas": self._done,
            "refused": dict(sorted(noticed.items())),
        }


def rolling_restart() -> Upheaval:
    """Every replica of every service stops and starts again, one at a time; nobody may notice."""
    return Upheaval("rolling restart", lambda stack, done: stack.rolling_restart(done), unnoticed=True)
