"""The open streams of this process: who is told of which buyer."""

import asyncio
from collections.abc import Iterable, Iterator

from services.kit.errors import Refusal
from services.notifier import metrics
from services.notifier.rules import Batch, Mailbox, State, TooManyOrders

DRAIN_RETRY_S = 0.5


class OpenStream:
    """One client's stream: its mailbox, and what wakes the call that writes to the client."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.alone = (self,)
        self._woken = asyncio.Event()
        self._ended: BaseException | None = None

    def wake(self) -> None:
        """There may be something to send."""
        self._woken.set()

    def end(self, reason: BaseException) -> None:
        """Let the call end with this refusal, or this error."""
        self._ended = self._ended or reason
        self._woken.set()

    async def woken(self, timeout_s: float) -> bool:
        """Wait until there may be something to send. False when the time is over first."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def take(self, at_most: int, max_bytes: int) -> Batch | None:
        """What to send next. Raises what the stream was ended with."""
        if self._ended is not None:
            raise self._ended
        try:
            return self.mailbox.take(at_most, max_bytes)
        except TooManyOrders as excess:
            raise too_many("orders_per_stream", self.mailbox.max_orders) from excess


class Streams:
    """Every open stream, and which of them tell of a buyer."""

    def __init__(self, *, max_streams: int, max_pending: int, max_orders: int) -> None:
        self._max_streams = max_streams
        self._max_pending = max_pending
        self._max_orders = max_orders
        self._open: set[OpenStream] = set()
        # Nearly every buyer has one stream: a shared tuple costs less than a set each.
        self._telling: dict[str, tuple[OpenStream, ...]] = {}
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[OpenStream]:
        return iter(tuple(self._open))

    def open(self) -> OpenStream:
        """A new stream that tells of nobody yet. Raises OVERLOADED or UNAVAILABLE."""
        if self._draining:
            raise _draining()
        if len(self._open) >= self._max_streams:
            raise too_many("streams", self._max_streams)
        stream = OpenStream(Mailbox(self._max_pending, self._max_orders))
        self._open.add(stream)
        return stream

    def close(self, stream: OpenStream) -> None:
        """Forget a stream whose call has ended."""
        for key in list(stream.mailbox.subjects):
            self.drop(stream, key)
        self._open.discard(stream)

    def add(self, stream: OpenStream, key: str, subject: str = "") -> None:
        """Tell a stream of a buyer from now on."""
        if stream.mailbox.add(key, subject):
            telling = self._telling.get(key)
            self._telling[key] = stream.alone if telling is None else (*telling, stream)
            metrics.BUYERS.set(len(self._telling))

    def drop(self, stream: OpenStream, key: str) -> None:
        """Tell a stream no more of a buyer; nothing changes where it did not."""
        if not stream.mailbox.drop(key):
            return
        left = tuple(other for other in self._telling[key] if other is not stream)
        if left:
            self._telling[key] = left[0].alone if len(left) == 1 else left
        else:
            del self._telling[key]
        metrics.BUYERS.set(len(self._telling))

    def tell(self, states: Iterable[State]) -> None:
        """Hand new states to the streams of their buyers."""
        for state in states:
            for stream in self._telling.get(state.key, ()):
                if stream.mailbox.offer(state) or stream.mailbox.wants_reading:
                    stream.wake()

    def forget_position(self) -> None:
        """News may have been missed: every stream's buyers are read again."""
        for stream in self._open:
            stream.mailbox.forget_position()
            stream.wake()

    async def drain(self) -> None:
        """Take no new streams, and end those that are open: their clients find another replica."""
        self._draining = True
        for stream in self._open:
            stream.end(_draining())


def too_many(limit: str, value: int) -> Refusal:
    """The refusal that names the limit that was reached."""
    return Refusal("OVERLOADED", f"At most {value} {limit.replace('_', ' ')}.", limit=limit, at_most=value)


def _draining() -> Refusal:
    return Refusal("UNAVAILABLE", "This replica is stopping; open again.", retry_after_s=DRAIN_RETRY_S)
