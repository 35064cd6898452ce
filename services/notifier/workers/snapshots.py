"""Reads the last states of buyers whom a stream has begun to tell of, for many buyers and streams at once."""

import asyncio
from collections import deque

from services.kit.logs import get_logger
from services.notifier import metrics
from services.notifier.rules import State
from services.notifier.store import LiveNews, Snapshots, Unavailable
from services.notifier.streams import OpenStream

log = get_logger(__name__)

Asked = tuple[OpenStream, list[str]]


class SnapshotReader:
    """Streams that want last states stand in a line; each request takes a fair share of several of them."""

    def __init__(self, store: Snapshots, news: LiveNews, *, buyers_per_read: int, retry_s: float) -> None:
        self._store = store
        self._news = news
        self._buyers_per_read = buyers_per_read
        self._retry_s = retry_s
        self._waiting: deque[OpenStream] = deque()
        self._queued: set[OpenStream] = set()
        self._asked = asyncio.Event()

    def want(self, stream: OpenStream) -> None:
        """Read for this stream soon; asking again changes nothing."""
        if stream not in self._queued:
            self._queued.add(stream)
            self._waiting.append(stream)
            self._asked.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            await self._asked.wait()
            asked = self._next_group()
            if not asked:
                self._asked.clear()
                continue
            await self._read(asked)

    def _next_group(self) -> list[Asked]:
        room = self._buyers_per_read
        asked: list[Asked] = []
        while room and self._waiting:
            stream = self._waiting.popleft()
            self._queued.discard(stream)
            if stream.mailbox.wants_reading:
                keys = stream.mailbox.begin_reading(room)
                room -= len(keys)
                asked.append((stream, keys))
        return asked

    async def _read(self, asked: list[Asked]) -> None:
        keys = list(dict.fromkeys(key for _, keys in asked for key in keys))
        try:
            states = await self._store.read(keys, await self._news.witness())
        except Unavailable as problem:
            metrics.READS.labels("failed").inc()
            log.warning("last_states_not_read", buyers=len(keys), problem=str(problem))
            self._news.forget_witness()
            for stream, own in asked:
                stream.mailbox.fail_reading(own)
                self.want(stream)
            await asyncio.sleep(self._retry_s)
            return
        metrics.READS.labels("done").inc()
        found: dict[str, list[State]] = {}
        for state in states:
            found.setdefault(state.key, []).append(state)
        for stream, own in asked:
            stream.mailbox.finish_reading(own, [state for key in own for state in found.get(key, ())])
            stream.wake()
