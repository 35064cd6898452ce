"""Follows inventory's events of each sale that someone here cares for: leaders wake, watchers look again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from catraca.events.v1 import events_pb2
from google.protobuf.message import DecodeError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from services.kit.logs import get_logger
from services.kit.streams import Follower
from services.kit.tasks import stop

STREAM = "INVENTORY"
RETRY_S = 0.5

Changes = Sequence[events_pb2.InventoryChange]
Listener = Callable[[Changes], None]

log = get_logger("stock")


class StockNews:
    """One follower per sale with listeners, shared by all of them."""

    def __init__(self, js: JetStreamContext) -> None:
        """Nothing is followed until someone listens."""
        self._js = js
        self._listeners: dict[str, list[Listener]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def listening(self, sale: str, listener: Listener) -> AsyncIterator[None]:
        """Calls `listener` with a sale's changes as they are published; it must not take long.

        Nothing is promised about changes published before the follower stands: listeners also poll.
        """
        listeners = self._listeners.setdefault(sale, [])
        listeners.append(listener)
        if sale not in self._tasks:
            self._tasks[sale] = asyncio.create_task(self._follow(sale), name=f"stock-{sale}")
        try:
            yield
        finally:
            listeners.remove(listener)
            if not listeners:
                self._listeners.pop(sale, None)
                task = self._tasks.pop(sale, None)
                if task is not None:
                    await stop(task)

    async def _follow(self, sale: str) -> None:
        while True:
            try:
                async with Follower(self._js, STREAM, [f"catraca.inventory.{sale}.units"]) as follower:
                    while True:
                        for message in await follower.next_batch():
                            self._tell(sale, message.data)
            except (NatsError, TimeoutError) as problem:
                log.warning("stock_news_wait", sale=sale, problem=str(problem) or type(problem).__name__)
                await asyncio.sleep(RETRY_S)

    def _tell(self, sale: str, data: bytes) -> None:
        try:
            changes = events_pb2.InventoryBatch.FromString(data).changes
        except DecodeError:
            log.error("stock_news_unreadable", sale=sale)
            return
        for listener in tuple(self._listeners.get(sale, ())):
            listener(changes)
