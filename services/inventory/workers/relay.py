"""Publishes every loaded sale's changes to JetStream, a task for each."""

import asyncio
from collections.abc import Callable

from nats.js import JetStreamContext

from services.inventory import events
from services.inventory.store import Store
from services.kit import relay
from services.kit.logs import get_logger
from services.kit.relay import OutboxBroken, OutboxRelay
from services.kit.tasks import stop

log = get_logger(__name__)

RESTART_S = 1.0
SETTLE_S = 2.0


async def last_published(js: JetStreamContext, sale: str) -> int:
    """Sequence of the last change of a sale that JetStream has; 0 where it has none."""
    return await relay.last_published(js, events.SUBJECT.format(sale=sale))


class Relays:
    """One relay per sale; every replica runs its own, and a fence lets one of them publish at a time."""

    def __init__(self, store: Store, make: Callable[[str], OutboxRelay]) -> None:
        self._store = store
        self._make = make
        self._relays: dict[str, OutboxRelay] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def sales(self) -> list[str]:
        """Whose changes are published here."""
        return list(self._tasks)

    def published(self, sale: str) -> int | None:
        """The last change of a sale that JetStream is known to have."""
        of_sale = self._relays.get(sale)
        return None if of_sale is None else of_sale.published

    def start(self, sale: str) -> None:
        """Publish this sale's changes from now on."""
        if sale not in self._tasks:
            self._relays[sale] = self._make(sale)
            self._tasks[sale] = asyncio.create_task(self._run(sale), name=f"relay {sale}")

    def go_on(self, sale: str) -> None:
        """As `start`, where the store may have been filled again: what followed from that is published."""
        self.start(sale)
        self._relays[sale].doubt()

    def stop(self, sale: str) -> None:
        """The sale is archived: everything is published."""
        self._relays.pop(sale, None)
        task = self._tasks.pop(sale, None)
        if task is not None:
            task.cancel()

    def poke(self, sale: str) -> None:
        """The sale's outbox may have something new."""
        of_sale = self._relays.get(sale)
        if of_sale is not None:
            of_sale.poke()

    async def wait_published(self, sale: str, sequence: int) -> None:
        """Wait until JetStream has this change of the sale."""
        self.go_on(sale)
        await self._relays[sale].wait_published(sequence)

    async def settle(self) -> None:
        """See to it that JetStream has all that was changed until now, as far as it answers soon."""
        try:
            async with asyncio.timeout(SETTLE_S):
                await asyncio.gather(*(each.catch_up() for each in self._relays.values()))
        except Exception as problem:
            # Nothing is lost: another replica publishes it, or this one after its next start.
            log.warning("relays_unsettled", problem=repr(problem))

    async def close(self) -> None:
        """Stop publishing; what is left in the outboxes is published after the next start."""
        await stop(*self._tasks.values())

    async def _run(self, sale: str) -> None:
        while True:
            try:
                await self._relays[sale].run()
            except OutboxBroken as broken:
                log.error("outbox_broken", sale=sale, published=broken.published, found=broken.found)
                self._store.lost(sale, is_another=broken.is_another)
                # Once the store is filled again it goes on after what is published then.
                await asyncio.sleep(RESTART_S)
            except Exception:
                log.exception("relay_failed", sale=sale)
                await asyncio.sleep(RESTART_S)
