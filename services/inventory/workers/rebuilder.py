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
from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.logs import get_logger
from services.kit.rebuilding import Rebuilding
from services.kit.relay import outbox_headers
from services.kit.streams import WrongSequence, publish_fenced, read_all, stream_of

log = get_logger(__name__)

CHANGES_PER_MESSAGE = 1000
LOST_SUBJECT = "catraca.lost.{sale}.{buyer}.{hold_id}"


class Rebuilder(Rebuilding):
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
        super().__init__(SERVICE, epochs, definitions, takeover_s, on_recovered)
        self._js = js
        self._store = store
        self._orders = orders

    async def holds(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether the store has the sale under this epoch, to the last change that is known of."""
        return await self._store.holds(definition, epoch)

    async def rebuild(self, definition: Definition, epoch: Epoch) -> int:
        """Steps 2 to 5; how many changes were made."""
        changes = await self._rebuild(definition, epoch)
        for act in changes:
            metrics.REBUILT_CHANGES.labels(act).inc()
        return len(changes)

    async def recovered(self, sale: str) -> None:
        """The store takes the sale's commands again."""
        self._store.recovered(sale)

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
                await self.check_epoch(sale, epoch)
        await self._tell(sale, replay, rebuild.changes)
        for part in parts_of(replay, orders, house, stamp):
            await self.still_at_it(sale)
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
