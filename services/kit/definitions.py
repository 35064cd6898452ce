"""The definitions of all sales in memory, kept up to date from the key-value bucket `sales`."""

import asyncio
import contextlib
import inspect
import string
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, Sale
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from services.kit.errors import Refusal
from services.kit.logs import get_logger
from services.kit.messages import RawMsg, last_message
from services.kit.pulling import Follower
from services.kit.streams import kv_subject

log = get_logger(__name__)

BUCKET = "sales"
STREAM = "KV_sales"
PREFIX = kv_subject(BUCKET, "")
LABEL_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-")


@dataclass(frozen=True, slots=True)
class Definition:
    """A sale as it was defined. Its phase is ARCHIVED or not stated: phases follow from the clock."""

    sale: Sale
    revision: int

    @property
    def archived(self) -> bool:
        return self.sale.phase == SALE_PHASE_ARCHIVED


@dataclass(frozen=True, slots=True)
class _Archived:
    """An archived sale as the bucket has it: asked for seldom and kept for ever, so not as a message."""

    data: bytes
    revision: int

    def opened(self) -> Definition:
        sale = Sale.FromString(self.data)
        sale.revision = self.revision
        return Definition(sale, self.revision)


OnChange = Callable[[Definition], Awaitable[None] | None]


class Definitions:
    """Follows the bucket. `start` returns once everything that stood then is known and told."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._standing: dict[str, Definition] = {}
        self._archived: dict[str, _Archived] = {}
        self._callbacks: list[OnChange] = []
        self._changed = asyncio.Condition()
        self._untold: asyncio.Queue[Definition] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        follower = Follower(self._js, STREAM, [f"{PREFIX}>"], start="last_per_subject")
        await follower.open()
        left = follower.pending_at_start
        while left > 0:
            batch = await follower.next_batch()
            left -= len(batch)
            await self._take(batch)
        self._tasks = [
            asyncio.create_task(self._tell(), name="definitions-told"),
            asyncio.create_task(self._follow(follower), name="definitions"),
        ]
        await self._untold.join()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def get(self, sale: str) -> Definition:
        """The definition as it is known here, of an archived sale too. Raises Refusal SALE_NOT_FOUND."""
        definition = self._known(sale)
        if definition is None:
            raise Refusal("SALE_NOT_FOUND", sale=sale)
        return definition

    def active(self, sale: str) -> Definition:
        """The same, for what an archived sale refuses: also raises Refusal SALE_ARCHIVED."""
        definition = self.get(sale)
        if definition.archived:
            raise Refusal("SALE_ARCHIVED", sale=sale)
        return definition

    def here(self, sale: str) -> Definition | None:
        """What `found` answers where it need not wait; None for a sale that is archived or not known here."""
        return self._standing.get(sale)

    async def find(self, sale: str) -> Definition:
        """As `get`; what is not known here may have been defined a moment ago, so the bucket is asked."""
        return self._known(sale) or await self.latest(sale)

    async def found(self, sale: str) -> Definition:
        """`active`, also where a sale was defined a moment ago and the news of it is still on its way."""
        here = self.here(sale)
        if here is not None:
            return here
        await self.find(sale)
        return self.active(sale)

    def standing(self) -> list[str]:
        """The ids of the known sales that are not archived, in order."""
        return sorted(self._standing)

    def archived(self) -> list[str]:
        """Those of the archived ones, in order."""
        return sorted(self._archived)

    async def latest(self, sale: str) -> Definition:
        """The definition as the bucket has it now, asked from its leader. Raises Refusal SALE_NOT_FOUND."""
        if not set(sale) <= LABEL_CHARACTERS:
            # A dot, a space or a wildcard would ask for something else.
            raise Refusal("SALE_NOT_FOUND", sale=sale[:63])
        message = await last_message(self._js, STREAM, kv_subject(BUCKET, sale), from_leader=True)
        if message is not None:
            await self._take([message])
        return self.get(sale)

    async def at_least(self, sale: str, revision: int) -> Definition:
        """The definition once it has at least this revision; the caller bounds the time."""
        if self._revision(sale) < revision:
            with contextlib.suppress(Refusal):
                await self.latest(sale)
        async with self._changed:
            await self._changed.wait_for(lambda: self._revision(sale) >= revision)
        return self.get(sale)

    def on_change(self, callback: OnChange) -> None:
        """Call with every definition from now on; before `start`, with those that stand too."""
        self._callbacks.append(callback)

    async def _follow(self, follower: Follower) -> None:
        try:
            while True:
                await self._take(await follower.next_batch())
        finally:
            await follower.close()

    async def _take(self, batch: list[RawMsg]) -> None:
        for message in batch:
            definition = _definition(message)
            if definition is None:
                continue
            if self._revision(definition.sale.sale) >= definition.revision:
                continue
            self._remember(definition, message.data)
            self._untold.put_nowait(definition)
        async with self._changed:
            self._changed.notify_all()

    def _remember(self, definition: Definition, data: bytes) -> None:
        sale = definition.sale.sale
        if definition.archived:
            self._standing.pop(sale, None)
            self._archived[sale] = _Archived(data, definition.revision)
        else:
            self._archived.pop(sale, None)
            self._standing[sale] = definition

    def _known(self, sale: str) -> Definition | None:
        archived = self._archived.get(sale)
        return archived.opened() if archived is not None else self._standing.get(sale)

    def _revision(self, sale: str) -> int:
        """The latest revision that is known here, 0 where there is none."""
        known = self._archived.get(sale) or self._standing.get(sale)
        return known.revision if known is not None else 0

    async def _tell(self) -> None:
        """Call back in order, apart from whoever happened to read a definition first."""
        while True:
            definition = await self._untold.get()
            await self._call_back(definition)
            self._untold.task_done()

    async def _call_back(self, definition: Definition) -> None:
        for callback in self._callbacks:
            try:
                outcome = callback(definition)
                if inspect.isawaitable(outcome):
                    await outcome
            except Exception:
                # One part that cannot take a definition must not keep it from the others.
                log.error("definition_callback_failed", sale=definition.sale.sale, exc_info=True)


def _definition(message: RawMsg) -> Definition | None:
    """What a message of the bucket says; None for a value that only somebody's hand can have written."""
    sale = Sale()
    try:
        sale.ParseFromString(message.data)
    except DecodeError:
        log.error("definition_unreadable", subject=message.subject, revision=message.seq)
        return None
    if sale.sale != message.subject.removeprefix(PREFIX):
        return None
    sale.revision = message.seq
    return Definition(sale, message.seq)
