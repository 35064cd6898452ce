"""Whose orders the ledger does not want for a while: remembered here so that nothing is stored for them."""

import time
from collections.abc import Callable

Key = tuple[str, str]


class Pauses:
    """Until when each (sale, buyer) is refused. To forget one costs no more than one stored order.

    An entry goes when its time is over and it is asked for, or when it is the oldest and there are too many.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` entries are remembered; `clock` answers seconds."""
        self._most = most
        self._clock = clock
        self._until: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def begin(self, sale: str, buyer: str, seconds: float) -> None:
        """Refuse the buyer in this sale from now on, for so long."""
        self._until.pop((sale, buyer), None)
        self._until[sale, buyer] = self._clock() + seconds
        self._forget_oldest()

    def left_s(self, sale: str, buyer: str) -> float:
        """For how many seconds the buyer is refused still; 0 where they are not."""
        until = self._until.get((sale, buyer))
        if until is None:
            return 0.0
        left = until - self._clock()
        if left <= 0:
            del self._until[sale, buyer]
        return max(0.0, left)

    def _forget_oldest(self) -> None:
        now = self._clock()
        while self._until:
            oldest = next(iter(self._until))
            if len(self._until) <= self._most and self._until[oldest] > now:
                return
            del self._until[oldest]
