"""Fills the store of a sale again that lost changes: one replica at a time, under a new epoch.

The order of its steps is what keeps it right while others go on:

1. the next epoch, by compare-and-set: of several replicas one has it;
2. the store is emptied under that epoch: whoever still believes in an earlier one is answered NOT_LOADED
   from here on;
3. checkout's orders are read: what was answered before step 2 and written down is among them;
4. the published changes are read, and what leads from them to what holds is published after them, fenced: a
   relay that still had changes of the lost store either came first, and this step is done again, or never
   comes;
5. the store is filled with just that, and answers again;
6. the epoch is marked as loaded.

It may die after any of them: another replica takes the next epoch, and begins from what is published by then.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from catraca.events.v1 import events_pb2 as pb
from catraca.sale.v1 import sale_pb2
from nats.js import JetStreamContext

from services.inventory import events, metrics
from services.inventory.filling import parts_of
from services.inventory.orders import Orders
from services.inventory.rebuild import Rebuild
from services.inventory.replay import Replay
from services.inventory.store import SERVICE, Store
from services.inventory.workers.relay import last_published
from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.lua import NotLoaded
from services.kit.relay import outbox_headers
from services.kit.streams import WrongSequence, publish_fenced, read_all, stream_of
from services.kit.tasks import stop

log = get_logger(__name__)

RETRY_S = 0.25
LONGEST_RETRY_S = 5.0
CHANGES_PER_MESSAGE = 1000
LOST_SUBJECT = "catraca.lost.{sale}.{buyer}.{hold_id}"


class Superseded(Exception):
    """Another replica began a later epoch."""


class Rebuilder:
    """Give `recover` to Store.on_lost. `on_recovered` is told of a sale by its id, on every replica."""

    def __init__(
        self,
        js: JetStreamContext,
        store: Store,
        epochs: Epochs,
        definitions: Definitions,
        orders: Orders,
        takeover_s: float,
        on_recovered: Callable[[str], None],
    ) -> None:
        self._js = js
        self._store = store
        self._epochs = epochs
        self._definitions = definitions
        self._orders = orders
        self._takeover_s = takeover_s
        self._on_recovered = on_recovered
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # The entry of the epoch that this replica began of a sale: its own failures it does not wait out.
        self._begun: dict[str, int] = {}

    def recover(self, sale: str) -> None:
        """See to it that the sale's store is filled again, by this replica or another."""
        if sale not in self._tasks:
            self._tasks[sale] = asyncio.create_task(self._run(sale), name=f"rebuild {sale}")

    async def close(self) -> None:
        """Stop; what is half done another replica does anew."""
        await stop(*self._tasks.values())

    async def _run(self, sale: str) -> None:
        pause_s = RETRY_S
        try:
            while not await self._is_recovered(sale):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        finally:
            del self._tasks[sale]
            self._begun.pop(sale, None)

    async def _is_recovered(self, sale: str) -> bool:
        """One try, and whether there is no need of another."""
        try:
            await self._recover(sale)
        except Refusal as refusal:
            if refusal.word in ("SALE_ARCHIVED", "SALE_NOT_FOUND"):
                return True
            log.warning("rebuild_waits", sale=sale, word=refusal.word, problem=refusal.message)
            return False
        except Exception as problem:
            refused = refusal_for(problem)
            log.warning("rebuild_waits", sale=sale, problem=repr(problem), exc_info=refused is None)
            return False
        self._store.recovered(sale)
        self._on_recovered(sale)
        return True

    async def _recover(self, sale: str) -> None:
        """Returns once the sale is loaded, whoever has done it."""
        waited: tuple[int, float] = (0, 0.0)
        while True:
            definition = await self._definitions.latest(sale)
            if definition.archived:
                raise Refusal("SALE_ARCHIVED", sale=sale)
            epoch = await self._epochs.current(SERVICE, sale)
            if epoch is not None and epoch.dropped:
                raise Refusal("SALE_ARCHIVED", sale=sale)
            if epoch is not None and epoch.loaded:
                published = await last_published(self._js, sale)
                if await self._store.holds(definition, epoch, published):
                    return
            elif epoch is not None and epoch.number > 1 and epoch.revision != self._begun.get(sale):
                # Another replica is at it, or was.
                if waited[0] != epoch.revision:
                    waited = (epoch.revision, time.monotonic())
                if time.monotonic() < waited[1] + self._takeover_s:
                    await asyncio.sleep(RETRY_S)
                    continue
            mine = await self._epochs.create(SERVICE, sale, epoch)
            if mine is not None:
                self._begun[sale] = mine.revision
                if await self._is_rebuilt(definition, mine):
                    return

    async def _is_rebuilt(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether this replica filled the store; not where another began anew meanwhile."""
        sale, began = definition.sale.sale, time.monotonic()
        log.warning("rebuild_begins", sale=sale, epoch=epoch.number)
        try:
            changes = await self._rebuild(definition, epoch)
        except (NotLoaded, Superseded):
            log.warning("rebuild_superseded", sale=sale, epoch=epoch.number)
            return False
        if await self._epochs.mark_loaded(SERVICE, sale, epoch) is None:
            return False
        metrics.REBUILDS.inc()
        for act in changes:
            metrics.REBUILT_CHANGES.labels(act).inc()
        log.warning(
            "rebuild_done",
            sale=sale,
            epoch=epoch.number,
            changes=len(changes),
            seconds=round(time.monotonic() - began, 2),
        )
        return True

    async def _rebuild(self, definition: Definition, epoch: Epoch) -> list[str]:
        """Steps 2 to 5; the acts of the changes that were made."""
        sale = definition.sale.sale
        await self._store.begin_filling(definition, epoch)
        house = self._store.house(sale)
        orders = await self._orders.read(sale)
        while True:
            replay, fence = await self._replayed(sale)
            rebuild = Rebuild(replay, definition.sale, house, epoch.number, round(time.time() * 1000))
            rebuild.follow(orders)
            for order_id in rebuild.conflicts:
                log.error("rebuild_conflict", sale=sale, order=order_id)
            stamp = time.time_ns() // 1000
            try:
                await self._publish(definition.sale, epoch, rebuild.changes, fence, stamp)
                break
            except WrongSequence:
                await self._check_epoch(sale, epoch)
        await self._tell(sale, replay, rebuild.changes)
        for part in parts_of(replay, orders, house, stamp):
            await self._store.fill(definition, epoch, part)
        return [events.act_name(change.act) for change in rebuild.changes]

    async def _tell(self, sale: str, replay: Replay, changes: Sequence[pb.InventoryChange]) -> None:
        """Tell the buyers of holds that are lost, each once, before they can ask for others."""
        for change in changes:
            if change.act != pb.INVENTORY_ACT_LOST:
                continue
            lost = pb.HoldLost(
                sale=sale,
                buyer=change.buyer,
                hold_id=change.hold_id,
                units=replay.holds[change.buyer, change.hold_id].units,
                restored=change.restored,
                at_ms=change.at_ms,
            )
            subject = LOST_SUBJECT.format(sale=sale, buyer=change.buyer, hold_id=change.hold_id)
            # Where a rebuilder before this one came so far, they were told.
            with contextlib.suppress(WrongSequence):
                await publish_fenced(self._js, subject, lost.SerializeToString(), 0)

    async def _check_epoch(self, sale: str, epoch: Epoch) -> None:
        current = await self._epochs.current(SERVICE, sale)
        if current is None or current.revision != epoch.revision:
            raise Superseded

    async def _replayed(self, sale: str) -> tuple[Replay, int]:
        """What was published, and the stream sequence of the last message of it."""
        replay, fence = Replay(), 0
        subject = events.SUBJECT.format(sale=sale)
        async for message in read_all(self._js, stream_of(subject), subject):
            for change in pb.InventoryBatch.FromString(message.data).changes:
                replay.apply(change)
            fence = message.seq
        return replay, fence

    async def _publish(
        self,
        sale: sale_pb2.Sale,
        epoch: Epoch,
        changes: Sequence[pb.InventoryChange],
        fence: int,
        stamp: int,
    ) -> None:
        """Publish the changes after the last message. Raises WrongSequence if there is a later one."""
        subject = events.SUBJECT.format(sale=sale.sale)
        for some in _some(changes):
            batch = pb.InventoryBatch(sale=sale.sale, epoch=epoch.number, changes=some)
            last = some[-1]
            headers = outbox_headers(stream_of(subject), sale.sale, batch, last.sequence, last.at_ms, stamp)
            fence = await publish_fenced(self._js, subject, batch.SerializeToString(), fence, headers)


def _some(changes: Sequence[pb.InventoryChange]) -> Iterator[Sequence[pb.InventoryChange]]:
    for start in range(0, len(changes), CHANGES_PER_MESSAGE):
        yield changes[start : start + CHANGES_PER_MESSAGE]
