"""Fills the line of a sale again whose store lost changes: one replica at a time, under a new epoch.

The order of its steps is what keeps it right while others go on:

1. the next epoch, by compare-and-set: of several replicas one has it;
2. the store is emptied under that epoch: whoever still believes in an earlier one is answered NOT_LOADED
   from here on;
3. the published changes are read, and filled in as they are read;
4. REBUILT is published after them, fenced: a relay that still had changes of the lost store either came
   first, and then those are filled in too, or never comes;
5. the line goes on: with the latest definition, and from the ledger's watermark, as whoever was called stays
   called;
6. the epoch is marked as loaded.

It may die after any of them: another replica takes the next epoch, and begins from what is published by then.
"""

import asyncio
import time
from collections.abc import Callable

from catraca.events.v1 import events_pb2 as pb
from nats.js import JetStreamContext

from services.kit.buyers import to_text
from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.errors import Refusal
from services.kit.logs import get_logger
from services.kit.rebuilding import Rebuilding
from services.kit.relay import outbox_headers
from services.kit.streams import WrongSequence, publish_fenced, read_all, stream_of
from services.queue import rules
from services.queue.draw import Permutation
from services.queue.events import subject_of
from services.queue.filling import Filling
from services.queue.ledger import Ledger
from services.queue.store import SERVICE, LineStore

log = get_logger("rebuilder")

LEDGER_RETRY_S = 0.25
# Of those who were called last, so many are looked at in one run.
CALLED_PER_RUN = 500


class Rebuilder(Rebuilding):
    """Give `recover` to LineStore.on_lost. `on_recovered` is told of a sale by its id, on every replica."""

    def __init__(
        self,
        js: JetStreamContext,
        store: LineStore,
        epochs: Epochs,
        definitions: Definitions,
        ledger: Ledger,
        takeover_s: float,
        on_recovered: Callable[[str], None],
    ) -> None:
        super().__init__(SERVICE, epochs, definitions, takeover_s, on_recovered)
        self._js = js
        self._store = store
        self._ledger = ledger
        # A ledger that does not answer must not keep the line from those who only wait.
        self._ledger_wait_s = takeover_s / 2

    async def holds(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether the store has the line under this epoch, to the last change that is known of."""
        return await self._store.holds(definition.sale.sale, epoch.number)

    async def recovered(self, sale: str) -> None:
        """The store takes the sale's commands again."""
        await self._store.recovered(sale)

    async def rebuild(self, definition: Definition, epoch: Epoch) -> int:
        """Steps 2 to 5; how many changes were filled in."""
        sale, number = definition.sale.sale, epoch.number
        content = rules.script_definition(definition.sale)
        await self._store.begin_filling(sale, number, content)
        filling, fence = Filling(), 0
        while True:
            fence = await self._fill_from(sale, number, filling, fence)
            stamp = time.time_ns() // 1000
            try:
                await self._publish_rebuilt(sale, number, filling, fence, stamp)
                break
            except WrongSequence:
                await self.check_epoch(sale, epoch)
        called = await self._called(sale, number, filling) if filling.draw_key else 0
        last = {"sequence": filling.sequence, "at_ms": filling.at_ms, "stamp": stamp}
        await self._store.end_filling(sale, number, last, definition.revision, content, called)
        return filling.sequence

    async def _fill_from(self, sale: str, epoch: int, filling: Filling, after: int) -> int:
        """Fills in what is published behind a message of the stream; the last message's place in it."""
        subject = subject_of(sale)
        async for message in read_all(self._js, stream_of(subject), subject, after=after):
            for part in filling.take(pb.QueueBatch.FromString(message.data).changes):
                await self.still_at_it(sale)
                await self._store.fill(sale, epoch, part)
            after = message.seq
        await self._store.fill(sale, epoch, filling.rest())
        return after

    async def _publish_rebuilt(self, sale: str, epoch: int, filling: Filling, fence: int, stamp: int) -> None:
        """Publishes REBUILT after the last message. Raises WrongSequence if there is a later one."""
        at_ms = max(round(time.time() * 1000), filling.at_ms)
        rebuilt = pb.QueueChange(sequence=filling.sequence + 1, at_ms=at_ms, act=pb.QUEUE_ACT_REBUILT)
        batch, subject = pb.QueueBatch(sale=sale, epoch=epoch, changes=[rebuilt]), subject_of(sale)
        headers = outbox_headers(stream_of(subject), sale, batch, rebuilt.sequence, at_ms, stamp)
        await publish_fenced(self._js, subject, batch.SerializeToString(), fence, headers)
        filling.note(rebuilt)

    async def _called(self, sale: str, epoch: int, filling: Filling) -> int:
        """Up to which place the ledger has called; as published, where it does not say in time.

        Then the leader follows it, once it answers.
        """
        try:
            async with asyncio.timeout(self._ledger_wait_s):
                called = await self._watermark(sale)
                await self._lapse_those_who_left(sale, epoch, filling, called)
        except (TimeoutError, Refusal) as problem:
            log.warning("rebuild_without_ledger", sale=sale, problem=repr(problem))
            return filling.serving
        return called

    async def _watermark(self, sale: str) -> int:
        while True:
            try:
                return (await self._ledger.state(sale)).watermark
            except Refusal as refusal:
                if refusal.retry_after_s is None:
                    raise
            await asyncio.sleep(LEDGER_RETRY_S)

    async def _lapse_those_who_left(self, sale: str, epoch: int, filling: Filling, called: int) -> None:
        """As the leader does where it follows the ledger: a promise to who left meanwhile is idle."""
        permutation = Permutation(filling.draw_key, filling.cohort) if filling.cohort else None
        called = min(called, filling.count)
        for start in range(filling.serving, called, CALLED_PER_RUN):
            places = range(start, min(called, start + CALLED_PER_RUN))
            indexes = [rules.index_at(place, filling.cohort, permutation) for place in places]
            found = await self._store.callees_in_filling(sale, epoch, indexes)
            gone = [(to_text(found.members[at].buyer), places[at]) for at in sorted(found.gone)]
            if gone:
                await self._ledger.lapse(sale, gone)
