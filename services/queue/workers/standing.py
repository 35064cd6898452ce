"""One poller per watched sale: reads the standing, feeds all watchers, asks for their turns in batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.tasks import stop
from services.queue.ledger import Ledger
from services.queue.line import Line
from services.queue.states import Standing
from services.queue.store import LineStore
from services.queue.watchers import Watchers
from services.queue.workers.stock import Changes, StockNews

BACKOFF_S = 1.0
READY_S = 5.0
# A sale whose last watcher left is read on for a while: watchers come back.
LINGER_S = 5.0

log = get_logger("standing")


class Hub:
    """What the watchers of one sale on this replica share."""

    def __init__(
        self, sale: str, store: LineStore, line: Line, ledger: Ledger, near: int, poll_s: float
    ) -> None:
        """Nothing is read before `poll`."""
        self.sale = sale
        self._store = store
        self._ledger = ledger
        self._poll_s = poll_s
        self._standing: Standing | None = None
        # Set, and replaced by the next one, at every standing that differs from the one before.
        self.stepped = asyncio.Event()
        self._ask = asyncio.Event()
        self._failing: set[str] = set()
        self.draining = False
        self.users = 0
        # How often somebody began to use it: a reader of one moment keeps it alive too.
        self.visits = 0
        self.watchers = Watchers(lambda entry, standing: line.place(sale, entry, standing), near)

    @property
    def standing(self) -> Standing:
        """The latest standing; there is one after `ready`."""
        if self._standing is None:
            raise Refusal("UNAVAILABLE")
        return self._standing

    async def ready(self) -> None:
        """Waits for the first standing. Raises Refusal UNAVAILABLE if it does not come soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                while self._standing is None:
                    await self.stepped.wait()
                    self.check()
        if self._standing is None:
            raise Refusal("UNAVAILABLE")

    def check(self) -> None:
        """Raises Refusal UNAVAILABLE once this process is draining: the client opens its stream elsewhere."""
        if self.draining:
            raise Refusal("UNAVAILABLE")

    def drain(self) -> None:
        """Ends every stream."""
        self.draining = True
        self._step()
        self.watchers.wake_all()

    def listen(self, changes: Changes) -> None:
        """Takes inventory's changes: turns that may be over or spent."""
        self.watchers.stock_changed({change.buyer for change in changes})
        self._ask.set()

    def _step(self) -> None:
        stepped, self.stepped = self.stepped, asyncio.Event()
        stepped.set()

    async def poll(self) -> None:
        """Reads the standing until cancelled."""
        while True:
            try:
                now = await self._store.standing(self.sale)
            except Exception as error:
                await self._wait_out("standing", error)
                continue
            self._failing.discard("standing")
            before, self._standing = self._standing, now
            self.watchers.step(before, now)
            if before is not None and before.epoch != now.epoch:
                # The store was filled again: who is not in line any more is to know at once.
                self.watchers.touch_all()
            self._ask.set()
            if before is None or _shown(before) != _shown(now):
                self._step()
            await asyncio.sleep(self._poll_s)

    async def ask_for_turns(self) -> None:
        """Asks the ledger for the turns of whom was called, until cancelled."""
        while True:
            await self._ask.wait()
            self._ask.clear()
            asked = self.watchers.to_ask()
            if not asked:
                continue
            try:
                turns = await self._ledger.look(self.sale, asked)
            except Exception as error:
                self.watchers.ask_again(asked)
                await self._wait_out("turns", error)
                continue
            self._failing.discard("turns")
            for (buyer, place), turn in zip(asked, turns, strict=True):
                self.watchers.take_turn(buyer, place, turn, self.standing)

    async def _wait_out(self, what: str, error: Exception) -> None:
        """An outage is told once and waited out."""
        if what not in self._failing:
            refusal = refusal_for(error)
            word = refusal.word if refusal else "INTERNAL"
            log.warning("watching_waits", sale=self.sale, what=what, word=word, exc_info=refusal is None)
            self._failing.add(what)
        await asyncio.sleep(BACKOFF_S)


class Hubs:
    """The hubs of the sales that are watched here, each while someone watches."""

    def __init__(
        self, store: LineStore, line: Line, ledger: Ledger, stock: StockNews, near: int, poll_s: float
    ) -> None:
        """`near` and `poll_s` as for Hub."""
        self._store = store
        self._line = line
        self._ledger = ledger
        self._stock = stock
        self._near = near
        self._poll_s = poll_s
        self._hubs: dict[str, Hub] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.draining = False

    @contextlib.asynccontextmanager
    async def watching(self, sale: str) -> AsyncIterator[Hub]:
        """The sale's hub, with a standing. The sale must exist."""
        hub = self._hubs.get(sale)
        if hub is None:
            hub = Hub(sale, self._store, self._line, self._ledger, self._near, self._poll_s)
            hub.draining = self.draining
            self._hubs[sale] = hub
            self._tasks[sale] = asyncio.create_task(self._run(hub), name=f"standing-{sale}")
        hub.users += 1
        hub.visits += 1
        try:
            await hub.ready()
            yield hub
        finally:
            hub.users -= 1

    async def _run(self, hub: Hub) -> None:
        """Runs a hub until nobody has used it for a while."""
        async with self._stock.listening(hub.sale, hub.listen):
            running = [asyncio.create_task(hub.poll()), asyncio.create_task(hub.ask_for_turns())]
            try:
                seen = -1
                while hub.users or seen != hub.visits:
                    seen = hub.visits
                    ended, _ = await asyncio.wait(
                        running, timeout=LINGER_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    for task in ended:
                        # They end by a defect only; the next watcher begins with another hub.
                        task.result()
            finally:
                self._hubs.pop(hub.sale, None)
                self._tasks.pop(hub.sale, None)
                await stop(*running)

    def touch(self, sale: str, buyer: str) -> None:
        """This buyer's place was changed by a call here: whoever watches it reads it at once."""
        hub = self._hubs.get(sale)
        if hub is not None:
            hub.watchers.touch(buyer)

    def drain(self) -> None:
        """Ends every stream, also those that open later."""
        self.draining = True
        for hub in self._hubs.values():
            hub.drain()

    async def close(self) -> None:
        """Stops every hub."""
        await stop(*self._tasks.values())


def _shown(standing: Standing) -> tuple[object, ...]:
    """What of a standing is news to everyone."""
    return (
        standing.phase,
        standing.serving,
        standing.joined,
        standing.cohort,
        standing.drawn,
        standing.availability,
        standing.opens_ms,
        standing.closes_ms,
    )
