"""Publishes a sale's outbox, a Redis stream, to JetStream: every change, once, in order."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack
from google.protobuf.message import Message
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.streams import WrongSequence, cloud_headers, last_message, publish_fenced, stream_of
from services.kit.tasks import raise_if_cancelled

log = get_logger(__name__)

# On every message: the sequence of the last change in it. Where to go on is read from here alone.
LAST_SEQUENCE_HEADER = "Catraca-Last-Sequence"
# The moment, in µs, of the run that made that change, where the outbox keeps it: two copies of a store that
# went on apart have changes of the same sequence, but not of the same moment.
STAMP_HEADER = "Catraca-Stamp"

Change = dict[str, Any]
BuildBatch = Callable[[list[Change], int], Message]
"""The message for consecutive changes that were made under one epoch, 0 where the outbox does not keep it."""

PAGE_ENTRIES = 64
MAX_BATCH_BYTES = 512 * 1024
SHORTEST_POLL_S = 0.01
# Between two publications at least: under load one carries what several runs have changed.
BREATH_S = 0.025
# How long a relay that lost to another lets that one go first.
YIELD_S = 0.03
RETRY_S = 0.25
TIDY_EVERY_S = 5.0


class OutboxBroken(Exception):
    """The outbox does not go on where JetStream ends: the store lost changes and must be rebuilt."""

    def __init__(self, sale: str, published: int, found: int) -> None:
        super().__init__(f"{sale}: JetStream ends with change {published}, the outbox goes on with {found}")
        self.sale = sale
        self.published = published
        """The last change that JetStream has."""
        self.found = found
        """The first change after it that the outbox has, or the last it ever had where that is before."""

    @property
    def is_another(self) -> bool:
        """The store lacks what was published, or went on another way. Else JetStream lacks changes."""
        return self.found <= self.published + 1


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one run of the script changed."""

    changes: list[Change]
    size: int
    """Bytes of one change, on average."""
    stamp: int
    """When the run was, µs; 0 where the outbox does not keep it."""
    after: int
    """The stamp of the run before it."""
    epoch: int

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> "_Entry":
        packed = fields[b"e"]
        changes = msgpack.unpackb(packed, unicode_errors="surrogateescape", strict_map_key=False)
        stamp, after, epoch = (int(fields.get(name, 0)) for name in (b"s", b"a", b"n"))
        return cls(changes, len(packed) // len(changes) + 1, stamp, after, epoch)


class _Waiting(NamedTuple):
    """One change that waits for publication."""

    change: Change
    entry: _Entry


class OutboxRelay:
    """One sale's relay. Every replica runs one; the fence lets only one of them publish at a time.

    `build_batch` makes the message for consecutive changes (maps with `sequence`, `at_ms`, `act` …). An
    outbox entry's id is `<sequence of its last change>-0`; its field `e` is the msgpack list of changes.
    Where it has `s` and `a`, its own stamp and that of the entry before, it is published only after that
    very entry; `n` is the epoch that its changes were made under.
    """

    def __init__(
        self,
        redis: Redis,
        js: JetStreamContext,
        sale: str,
        outbox_key: str,
        subject: str,
        build_batch: BuildBatch,
        *,
        trim_after_s: float = 300.0,
        longest_poll_s: float = 0.25,
    ) -> None:
        """`trim_after_s`: how long an entry stays in the outbox after JetStream has it. `longest_poll_s`: how
        often an idle outbox is looked at without being poked."""
        self._redis = redis
        self._js = js
        self._sale = sale
        self._key = outbox_key
        self._subject = subject
        self._stream = stream_of(subject)
        self._build_batch = build_batch
        self._trim_after_s = trim_after_s
        self._longest_poll_s = longest_poll_s
        self._poked = asyncio.Event()
        self._poll_s = SHORTEST_POLL_S
        self._fence = 0
        # Of the last change that JetStream has; 0 where its message says none.
        self._stamp = 0
        self._rival = False
        # Whether JetStream was asked where to go on, and nothing happened since that makes it doubtful.
        self._known = False
        # (when JetStream was seen to have it, sequence), oldest first: what may be trimmed, and when.
        self._acked: deque[tuple[float, int]] = deque()
        self._tidied_at = time.monotonic()
        self._moved = asyncio.Condition()
        self.published = 0
        """Sequence of the last change that JetStream is known to have."""

    def poke(self) -> None:
        """Say that the outbox has something new. Without it the relay looks at it ever more seldom."""
        self._poked.set()

    def doubt(self) -> None:
        """Say that JetStream may have changes which were never in this outbox: it is asked anew."""
        self._known = False
        self.poke()

    async def wait_published(self, sequence: int) -> None:
        """Wait until JetStream has this change."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.published >= sequence)

    async def catch_up(self) -> None:
        """Wait until JetStream has all that the outbox has now. Raises what Redis raises."""
        if await self._redis.exists(self._key):
            last = await self._last_entry()
            self.poke()
            await self.wait_published(last)

    async def run(self) -> None:
        """Publish until cancelled. Raises OutboxBroken; outages of Redis and NATS are waited out."""
        self._known = False
        while True:
            raise_if_cancelled()
            try:
                if not self._known:
                    # Before it is asked: a doubt that comes meanwhile is another one.
                    self._known = True
                    await self._resume()
                    await self._check_not_behind()
                await self._step()
            except WrongSequence:
                metrics.RELAY_CONFLICTS.labels(self._stream).inc()
                self._rival, self._known = True, False
            except (NatsError, RedisError, TimeoutError, OSError) as problem:
                # Whether the last publish arrived is unknown now: JetStream is asked before the next.
                self._known = False
                log.warning("relay_waits", sale=self._sale, subject=self._subject, problem=repr(problem))
                await asyncio.sleep(random.uniform(RETRY_S / 2, RETRY_S))  # noqa: S311 - jitter

    async def _resume(self) -> None:
        """Learn from JetStream where to go on."""
        last = await last_message(self._js, self._stream, self._subject, from_leader=True)
        self._fence = last.seq if last else 0
        self._stamp = int(last.headers.get(STAMP_HEADER, 0)) if last else 0
        await self._advance(int(last.headers[LAST_SEQUENCE_HEADER]) if last else 0)

    async def _step(self) -> None:
        changes = await self._read()
        if changes and self._rival:
            # Whoever was faster last time is likely to be again; if it is gone, JetStream stands still.
            before = self.published
            await asyncio.sleep(random.uniform(YIELD_S, 2 * YIELD_S))  # noqa: S311 - jitter
            await self._resume()
            if self.published > before:
                return
        if changes:
            self._poll_s = SHORTEST_POLL_S
            for batch in self._batches(changes):
                await self._publish(batch)
            await asyncio.sleep(BREATH_S)
        else:
            await self._wait()
        if time.monotonic() - self._tidied_at >= min(TIDY_EVERY_S, self._trim_after_s):
            self._tidied_at = time.monotonic()
            await self._check_not_behind()
            await self._trim()

    async def _read(self) -> list[_Waiting]:
        """The next unpublished changes, as far as they go on from one another."""
        entries: Any = await self._redis.xrange(self._key, min=f"{self.published + 1}-0", count=PAGE_ENTRIES)
        read = [_Entry.of(fields) for _, fields in entries]
        if read and not self._follows(read[0], self.published, self._stamp):
            await self._check_gap(read[0].changes[0]["sequence"])
            return []
        following: list[_Waiting] = []
        published, stamp = self.published, self._stamp
        for entry in read:
            # What comes after a hole waits: the next read begins at the hole and judges it.
            if not self._follows(entry, published, stamp):
                break
            following += (
                _Waiting(change, entry) for change in entry.changes if change["sequence"] > published
            )
            published, stamp = entry.changes[-1]["sequence"], entry.stamp
        return following

    @staticmethod
    def _follows(entry: _Entry, published: int, stamp: int) -> bool:
        """Whether the entry goes on after this change, or has it among its own."""
        first = entry.changes[0]["sequence"]
        if first > published + 1:
            return False
        if not stamp or not entry.stamp:
            return True
        return (entry.after if first == published + 1 else entry.stamp) == stamp

    async def _check_gap(self, found: int) -> None:
        before = self.published
        await self._resume()
        # Another relay may have published, and trimmed, what this one had not seen.
        if self.published == before:
            raise OutboxBroken(self._sale, self.published, found)

    async def _check_not_behind(self) -> None:
        """An outbox that ends before JetStream does belongs to a store that lost its tail."""
        if not await self._redis.exists(self._key):
            return
        last = await self._last_entry()
        if last < self.published:
            raise OutboxBroken(self._sale, self.published, last)

    async def _last_entry(self) -> int:
        """Sequence of the last change that the outbox ever had."""
        info: dict[str, bytes] = await self._redis.xinfo_stream(self._key)
        return int(info["last-generated-id"].split(b"-")[0])

    def _batches(self, waiting: list[_Waiting]) -> list[list[_Waiting]]:
        batches: list[list[_Waiting]] = [[]]
        size = 0
        for each in waiting:
            another_epoch = batches[-1] and batches[-1][0].entry.epoch != each.entry.epoch
            if batches[-1] and (another_epoch or size + each.entry.size > MAX_BATCH_BYTES):
                batches.append([])
                size = 0
            batches[-1].append(each)
            size += each.entry.size
        return batches

    async def _publish(self, batch: list[_Waiting]) -> None:
        changes, entry = [each.change for each in batch], batch[-1].entry
        message = self._build_batch(changes, entry.epoch)
        last = changes[-1]
        headers = outbox_headers(
            self._stream, self._sale, message, last["sequence"], last["at_ms"], entry.stamp
        )
        payload = message.SerializeToString()
        self._fence = await publish_fenced(self._js, self._subject, payload, self._fence, headers)
        self._stamp = entry.stamp
        self._rival = False
        now_ms = time.time() * 1000
        # One measure for each run of the script: its changes have one time.
        for at_ms in {change["at_ms"] for change in changes}:
            metrics.RELAY_DELAY.labels(self._stream).observe(max(0.0, now_ms - at_ms) / 1000)
        await self._advance(last["sequence"])

    async def _advance(self, sequence: int) -> None:
        if sequence != self.published or not self._acked:
            self._acked.append((time.monotonic(), sequence))
        self.published = sequence
        async with self._moved:
            self._moved.notify_all()

    async def _wait(self) -> None:
        try:
            await asyncio.wait_for(self._poked.wait(), self._poll_s)
        except TimeoutError:
            self._poll_s = min(self._poll_s * 2, self._longest_poll_s)
        else:
            self._poll_s = SHORTEST_POLL_S
        self._poked.clear()

    async def _trim(self) -> None:
        """Remove the entries that JetStream has had for long enough."""
        settled = 0
        while self._acked and self._acked[0][0] <= time.monotonic() - self._trim_after_s:
            settled = self._acked.popleft()[1]
        if settled:
            await self._redis.xtrim(self._key, minid=f"{settled + 1}-0", approximate=False)


async def last_published(js: JetStreamContext, subject: str) -> int:
    """Sequence of the last change of a sale that JetStream has, by the subject of its changes; 0 for none."""
    last = await last_message(js, stream_of(subject), subject, from_leader=True)
    return int(last.headers[LAST_SEQUENCE_HEADER]) if last else 0


def outbox_headers(
    stream: str, sale: str, message: Message, sequence: int, at_ms: int, stamp: int
) -> dict[str, str]:
    """The headers of a message of a sale's changes, by the sequence and time of its last one."""
    headers = cloud_headers(
        type=message.DESCRIPTOR.full_name,
        source=f"catraca/{stream.lower()}",
        subject=sale,
        id=f"{stream.lower()}/{sale}/{sequence}",
        at_ms=at_ms,
    )
    headers[LAST_SEQUENCE_HEADER] = str(sequence)
    if stamp:
        headers[STAMP_HEADER] = str(stamp)
    return headers
