"""Says to every replica that somebody joined a line in which nobody waited: the one who calls may be resting.

A plain message, not an event: one that is lost costs the buyer a moment, for who rests looks now and then.
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

PREFIX = "catraca.arrived."


class Arrivals:
    """One per process, for all of its sales."""

    def __init__(self, nc: Client) -> None:
        """Nothing is heard before `listening`."""
        self._nc = nc

    async def tell(self, sale: str) -> None:
        """Says it to every replica, this one too."""
        # While NATS is away it is kept, or left out where too much is: joining goes on.
        with contextlib.suppress(NatsError):
            await self._nc.publish(PREFIX + sale, b"")

    @contextlib.asynccontextmanager
    async def listening(self, heard: Callable[[str], None]) -> AsyncIterator[None]:
        """Calls `heard` with the sale, whichever replica it was that somebody joined at."""

        async def hear(message: Msg) -> None:
            heard(message.subject.removeprefix(PREFIX))

        subscription = await self._nc.subscribe(f"{PREFIX}*", cb=hear)
        try:
            yield
        finally:
            with contextlib.suppress(NatsError):
                await subscription.unsubscribe()
