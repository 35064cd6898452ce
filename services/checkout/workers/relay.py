"""Publishes orders' states from the outbox: each exactly once visible, and one order's in their order.

Whoever wrote a state publishes it at once, from memory. The fence is the order's own subject: a state is
stored only on top of the one before it. So replicas may race, a process may die in between, and what is left
over is published by any replica a little later.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Protocol

from catraca.events.v1.events_pb2 import OrderChanged
from nats.js import JetStreamContext

from services.checkout.messages import Announcement
from services.checkout.saga import now_ms
from services.checkout.store import OutboxRow, Store
from services.kit import metrics, tracing
from services.kit.logs import get_logger
from services.kit.publisher import Publisher
from services.kit.streams import WrongSequence, cloud_headers, last_message

log = get_logger(__name__)

STREAM = "CHECKOUT"
SOURCE = "catraca/checkout"
EVENT_TYPE = "catraca.order.changed"
VERSION_HEADER = "Catraca-Version"
BATCH = 500
REMEMBERED = 50_000
PAUSE_S = 0.25

Mark = tuple[str, int, int | None]
"""Order, version, and where JetStream has it."""
Fence = tuple[int, int]
"""Version and stream sequence of an order's last published state."""


class RelaySettings(Protocol):
    """What the relay reads of the settings."""

    @property
    def relay_pending(self) -> int: ...
    @property
    def relay_stale_s(self) -> float: ...


class Relay:
    """One per process. Orders are published side by side, one order's states one after another."""

    def __init__(self, store: Store, js: JetStreamContext, settings: RelaySettings) -> None:
        self._store = store
        self._js = js
        self._publisher = Publisher(js, STREAM)
        self._most = settings.relay_pending
        self._stale_ms = round(settings.relay_stale_s * 1000)
        self._pending: deque[Announcement] = deque()
        self._arrived = asyncio.Event()
        self._marks: deque[Mark] = deque()
        self._to_mark = asyncio.Event()
        self._fences: OrderedDict[str, Fence] = OrderedDict()
        self._idle = asyncio.Event()
        self._idle.set()
        store.on_announced(self._offer)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish_offered())
            tasks.create_task(self._write_marks())
            tasks.create_task(self._publish_stale())

    async def idle(self) -> None:
        """Return when everything offered was published, or left to the outbox."""
        await self._idle.wait()
        await self._flush_marks()

    def _offer(self, announced: Sequence[Announcement]) -> None:
        """Take what was just written. Beyond the bound it stays in the outbox alone."""
        room = self._most - len(self._pending)
        self._pending.extend(announced[:room] if room > 0 else ())
        if self._pending:
            self._idle.clear()
            self._arrived.set()

    # ---- the loops ----

    async def _publish_offered(self) -> None:
        while True:
            while not self._pending:
                self._arrived.clear()
                await self._arrived.wait()
            batch = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
            by_order: dict[str, list[Announcement]] = {}
            for each in batch:
                by_order.setdefault(each.order_id, []).append(each)
            await asyncio.gather(*(self._publish_known(states) for states in by_order.values()))
            if not self._pending:
                self._idle.set()

    async def _publish_stale(self) -> None:
        """What nobody published in time: read from the outbox."""
        while True:
            try:
                until_ms = now_ms() - self._stale_ms
                stale = await self._store.stale_announcements(until_ms, BATCH)
                await self._publish_from_outbox(stale)
            except Exception as problem:
                log.warning("outbox_unread", problem=repr(problem))
                stale = []
            if len(stale) < BATCH:
                await asyncio.sleep(self._stale_ms / 2000)

    async def _write_marks(self) -> None:
        while True:
            while not self._marks:
                self._to_mark.clear()
                await self._to_mark.wait()
            try:
                await self._flush_marks()
            except Exception as problem:
                # Published all the same: the stale ones are tried again, and found on the subject.
                log.warning("marks_unwritten", problem=repr(problem))
                await asyncio.sleep(PAUSE_S)

    async def _flush_marks(self) -> None:
        marks = list(self._marks)
        self._marks.clear()
        if marks:
            await self._store.mark_published(marks)

    # ---- publishing ----

    async def _publish_known(self, states: Sequence[Announcement]) -> None:
        """An order's states from memory. What does not fit what was published last is left to the outbox."""
        order_id = states[0].order_id
        try:
            for state in states:
                if state.version > 0 and self._fence(order_id)[0] != state.version - 1:
                    # The version before was written elsewhere, or is not out yet.
                    await self._publish_from_outbox([order_id])
                    return
                await self._publish(state)
        except Exception as problem:
            log.info("state_waits", order=order_id, problem=repr(problem))

    async def _publish_from_outbox(self, order_ids: Sequence[str]) -> None:
        if not order_ids:
            return
        rows = await self._store.outbox_of(order_ids)
        outcomes = await asyncio.gather(
            *(self._publish_rows(of_order) for of_order in rows.values()), return_exceptions=True
        )
        for problem in outcomes:
            if isinstance(problem, BaseException):
                log.info("state_waits", problem=repr(problem))

    async def _publish_rows(self, rows: Sequence[OutboxRow]) -> None:
        for row in rows:
            state = row.announcement
            if row.published:
                if row.stream_sequence is not None:
                    self._remember(state.order_id, (state.version, row.stream_sequence))
                continue
            await self._publish(state)

    async def _publish(self, state: Announcement) -> None:
        """Store one state on top of the version before it; if it is there already, note that."""
        version, sequence = self._fence(state.order_id)
        if version >= state.version:
            self._mark((state.order_id, state.version, sequence if version == state.version else None))
            return
        if version == state.version - 1:
            try:
                with tracing.continued("CHECKOUT publish", state.traceparent, tracing.SpanKind.PRODUCER):
                    sequence = await self._store_state(state, sequence)
            except WrongSequence:
                metrics.RELAY_CONFLICTS.labels(STREAM).inc()
            else:
                delay_s = max(0.0, time.time() - state.decided_at_ms / 1000)
                metrics.RELAY_DELAY.labels(STREAM).observe(delay_s)
                self._remember(state.order_id, (state.version, sequence))
                self._mark((state.order_id, state.version, sequence))
                return
        await self._catch_up(state)

    async def _store_state(self, state: Announcement, after: int) -> int:
        """Store one state after its subject's message `after`; where JetStream has it then."""
        event_id = f"{state.order_id}-{state.version}"
        # A process that traces nothing itself still hands the trace on.
        headers = cloud_headers(
            EVENT_TYPE, SOURCE, state.subject, event_id, state.decided_at_ms, state.traceparent
        )
        headers[VERSION_HEADER] = str(state.version)
        return await self._publisher.publish(state.subject, state.payload, after, headers)

    async def _catch_up(self, state: Announcement) -> None:
        """Learn from the subject what was published last, and go on from there."""
        message = await last_message(self._js, STREAM, state.subject, from_leader=True)
        fence = (-1, 0) if message is None else (_version_of(message.data), message.seq)
        self._remember(state.order_id, fence)
        if fence[0] < state.version - 1:
            raise RuntimeError(f"{state.order_id}: {fence[0]} is published, {state.version} comes too early")
        await self._publish(state)

    def _fence(self, order_id: str) -> Fence:
        """What this process knows to be published last; nothing known counts as nothing published."""
        return self._fences.get(order_id, (-1, 0))

    def _remember(self, order_id: str, fence: Fence) -> None:
        self._fences[order_id] = fence
        self._fences.move_to_end(order_id)
        if len(self._fences) > REMEMBERED:
            self._fences.popitem(last=False)

    def _mark(self, mark: Mark) -> None:
        self._marks.append(mark)
        self._to_mark.set()


def _version_of(payload: bytes) -> int:
    return OrderChanged.FromString(payload).order.version
