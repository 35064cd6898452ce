"""Brings each sale's definition into the line's store, and keeps its loops running until it is archived."""

import asyncio
import contextlib
from collections.abc import Callable

from nats.js import JetStreamContext

from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.lua import NotLoaded
from services.kit.relay import OutboxRelay
from services.kit.tasks import stop
from services.queue import rules
from services.queue.store import SERVICE, LineStore
from services.queue.workers.leader import Leader
from services.queue.workers.relay import keep_publishing, line_relay
from services.queue.workers.stock import StockNews

RETRY_S = (0.2, 5.0)
DROP_WAIT_S = 10.0
# How long a leader waits for a change to be published before it asks again.
PUBLISH_WAIT_S = 1.0

log = get_logger("loader")


class EpochCache:
    """The sales' epochs in the bucket, remembered; see EpochBook."""

    def __init__(self, epochs: Epochs) -> None:
        """Nothing is read before it is asked for."""
        self._epochs = epochs
        self._known: dict[str, int] = {}

    async def epoch(self, sale: str, *, fresh: bool = False) -> int:
        """The sale's epoch.

        Raises Refusal SALE_NOT_LOADED where its store was never filled, NotLoaded where it is being filled
        again, or whoever did that has died.
        """
        number = None if fresh else self._known.get(sale)
        if number is None:
            current = await self._epochs.current(SERVICE, sale)
            if current is None or (current.number == 1 and not current.loaded):
                raise Refusal("SALE_NOT_LOADED", sale=sale)
            if not current.loaded:
                raise NotLoaded
            number = self._known[sale] = current.number
        return number

    def last(self, sale: str) -> int:
        """The epoch as last seen, 0 if never."""
        return self._known.get(sale, 0)

    def forget(self, sale: str) -> None:
        """Lets go of an archived sale."""
        self._known.pop(sale, None)


class Loader:
    """Loads definitions, and runs a relay and a leader for each sale with a line."""

    def __init__(
        self,
        js: JetStreamContext,
        definitions: Definitions,
        epochs: Epochs,
        cache: EpochCache,
        store: LineStore,
        stock: StockNews,
        leader_of: Callable[[str], Leader],
        forget: Callable[[str], None],
    ) -> None:
        """`leader_of` makes a sale's leader; `forget` lets go of what else is kept for a sale."""
        self._js = js
        self._definitions = definitions
        self._epochs = epochs
        self._cache = cache
        self._store = store
        self._stock = stock
        self._leader_of = leader_of
        self._forget = forget
        self._changed: dict[str, asyncio.Event] = {}
        self._kept: dict[str, asyncio.Task[None]] = {}
        self._relays: dict[str, OutboxRelay] = {}
        self._leaders: dict[str, Leader] = {}

    @property
    def with_line(self) -> list[str]:
        """The sales whose line is kept here."""
        return [sale for sale in self._relays if rules.has_line(self._definitions.get(sale).sale)]

    def published(self, sale: str) -> int | None:
        """The last change of a sale that JetStream is known to have."""
        relay = self._relays.get(sale)
        return None if relay is None else relay.published

    def leads(self, sale: str) -> bool:
        """Whether this replica calls the sale's line."""
        leader = self._leaders.get(sale)
        return leader is not None and leader.leads

    def arrived(self, sale: str) -> None:
        """Somebody joined a line in which nobody waited, here or at another replica."""
        leader = self._leaders.get(sale)
        if leader is not None:
            leader.arrived()

    def on_change(self, definition: Definition) -> None:
        """Takes a definition from the bucket; what follows from it goes on in the background."""
        sale = definition.sale.sale
        if sale in self._changed:
            self._changed[sale].set()
        elif not definition.archived:
            self._changed[sale] = asyncio.Event()
            self._kept[sale] = asyncio.create_task(self._keep(sale), name=f"sale-{sale}")

    async def load(self, sale: str, revision: int) -> None:
        """Returns once the line's store holds at least this revision. Raises Refusal in an outage."""
        definition = await self._definitions.at_least(sale, revision)
        content = rules.script_definition(definition.sale)
        epoch = await self._epochs.current(SERVICE, sale)
        if epoch is None:
            epoch = await self._epochs.first(SERVICE, sale) or await self._epochs.current(SERVICE, sale)
        if epoch is None:
            raise Refusal("UNAVAILABLE")
        if not epoch.loaded:
            await self._create(sale, epoch, definition.revision, content)
        await self._store.define(sale, definition.revision, content)

    async def _create(self, sale: str, epoch: Epoch, revision: int, content: dict[str, object]) -> None:
        """Makes a store that never was. Raises NotLoaded where it was, and is to be filled again."""
        if epoch.number > 1:
            # Somebody fills it again, or began to and died.
            raise self._store.lost(sale)
        try:
            # Whoever began this and died, or is at it too, does the same: creating twice is harmless.
            await self._store.create(sale, epoch.number, revision, content)
        except NotLoaded:
            raise self._store.lost(sale) from None
        await self._epochs.mark_loaded(SERVICE, sale, epoch)

    async def drop(self, sale: str) -> None:
        """Frees a closed sale's store once JetStream has all of its changes. Repeating changes nothing.

        Raises Refusal WRONG_PHASE, SALE_NOT_LOADED, UNAVAILABLE.
        """
        epoch = await self._epochs.current(SERVICE, sale)
        if epoch is None or (epoch.dropped and not await self._store.holds(sale, epoch.number)):
            log.info("nothing_to_drop", sale=sale)
            return
        # Asked before it is said: what is refused leaves nothing behind.
        await self._store.ask_to_drop(sale)
        await self._publish_upto(sale, await self._store.sequence(sale))
        # Said before it is done: nobody who finds the store empty may fill it again.
        marked = await self._epochs.mark_dropped(SERVICE, sale, epoch)
        if marked is None:
            raise Refusal("UNAVAILABLE")
        try:
            await self._store.drop(sale)
        except Refusal as refusal:
            # Any other refusal may follow from a drop that was done, and whose answer was lost.
            if refusal.word == "WRONG_PHASE":
                await self._epochs.mark_dropped(SERVICE, sale, marked, dropped=False)
            raise

    async def _publish_upto(self, sale: str, sequence: int) -> None:
        """Sees to it that JetStream has a change, also where no loop of this sale runs here any more."""
        relay = line_relay(self._store, self._js, sale)
        publishing = asyncio.create_task(relay.run())
        try:
            async with asyncio.timeout(DROP_WAIT_S):
                await relay.wait_published(sequence)
        finally:
            await stop(publishing)

    async def kept(self, sale: str, sequence: int) -> None:
        """Returns once JetStream has a change. Raises Refusal UNAVAILABLE where it does not take it soon."""
        relay = self._relays.get(sale)
        if relay is None:
            raise Refusal("UNAVAILABLE")
        relay.poke()
        try:
            async with asyncio.timeout(PUBLISH_WAIT_S):
                await relay.wait_published(sequence)
        except TimeoutError:
            # It may be there, and have been published by whoever filled the store again.
            relay.doubt()
            raise Refusal("UNAVAILABLE") from None

    def poke(self, sale: str) -> None:
        """The sale's line has changed: there is something to publish."""
        relay = self._relays.get(sale)
        if relay is not None:
            relay.poke()

    def recovered(self, sale: str) -> None:
        """The sale's store was filled again: its line goes on."""
        relay, leader = self._relays.get(sale), self._leaders.get(sale)
        if relay is not None:
            relay.doubt()
        if leader is not None:
            leader.wake()

    async def close(self) -> None:
        """Stops every loop; leaders give their leases back."""
        await stop(*self._kept.values())

    async def _keep(self, sale: str) -> None:
        """Loads every new definition of a sale and runs its loops, until it is archived."""
        leader = self._leaders[sale] = self._leader_of(sale)
        loops: list[asyncio.Task[None]] = []
        try:
            while True:
                self._changed[sale].clear()
                definition = self._definitions.get(sale)
                if definition.archived:
                    return
                if not await self._loaded(sale, definition.revision):
                    continue
                leader.wake()
                if not loops:
                    loops = self._start(sale, leader, with_line=rules.has_line(definition.sale))
                await self._changed[sale].wait()
        finally:
            await stop(*loops)
            self._changed.pop(sale, None)
            self._kept.pop(sale, None)
            self._relays.pop(sale, None)
            self._leaders.pop(sale, None)
            self._cache.forget(sale)
            self._store.forget(sale)
            self._forget(sale)

    def _start(self, sale: str, leader: Leader, *, with_line: bool) -> list[asyncio.Task[None]]:
        relay = line_relay(self._store, self._js, sale)
        self._relays[sale] = relay
        loops = [asyncio.create_task(keep_publishing(relay, sale, self._broken), name=f"relay-{sale}")]
        if with_line:
            loops.append(asyncio.create_task(self._lead(sale, leader), name=f"leader-{sale}"))
        return loops

    def _broken(self, sale: str) -> None:
        self._store.lost(sale, is_another=True)

    async def _lead(self, sale: str, leader: Leader) -> None:
        async with self._stock.listening(sale, lambda _changes: leader.stock_changed()):
            await leader.run()

    async def _loaded(self, sale: str, revision: int) -> bool:
        """Loads until it works; False if another definition came in the meantime."""
        pause_s = 0.0
        while not self._changed[sale].is_set():
            try:
                await self.load(sale, revision)
                return True
            except Exception as error:
                refusal = refusal_for(error)
                if pause_s == 0.0:
                    word = refusal.word if refusal else "INTERNAL"
                    log.warning("loading_waits", sale=sale, word=word, exc_info=refusal is None)
                pause_s = min(max(RETRY_S[0], 2 * pause_s), RETRY_S[1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._changed[sale].wait()
        return False
