"""The services' clock, as far as it is known here: it opens and closes sales, so it is what counts."""

import time

# An answer that took longer says too little of the time at which it was given.
WORTH_MS = 500


class Clock:
    """This machine's clock, corrected by what the services' last answers said."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return own_ms() + self._ahead_ms

    def learn(self, services_ms: int, asked_ms: int) -> None:
        """The services said their time, in answer to what was asked at `asked_ms` of this machine's clock."""
        took_ms = own_ms() - asked_ms
        if 0 <= took_ms <= WORTH_MS:
            self._ahead_ms = services_ms - (asked_ms + took_ms // 2)


def own_ms() -> int:
    """This machine's clock."""
    return time.time_ns() // 1_000_000
