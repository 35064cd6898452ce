"""Sees to it that a sale's store which lost changes is filled again, by one replica at a time.

Of several replicas the one that writes the next epoch by compare-and-set fills the store. The others wait for
it, and one of them takes over, under the epoch after that, if it gets no further. How a store is filled is
its service's own.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from services.kit import metrics
from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.lua import NotLoaded
from services.kit.tasks import stop

log = get_logger(__name__)

RETRY_S = 0.25
LONGEST_RETRY_S = 5.0


class Superseded(Exception):
    """Another replica began a later epoch."""


class Rebuilding(ABC):
    """Tells a service's replica when to fill which sale's store, and when it may answer again."""

    def __init__(
        self,
        service: str,
        epochs: Epochs,
        definitions: Definitions,
        takeover_s: float,
        on_recovered: Callable[[str], None],
    ) -> None:
        """`takeover_s`: how long another one may be silent. `on_recovered` is told of it on each replica."""
        self._service = service
        self._epochs = epochs
        self._definitions = definitions
        self._takeover_s = takeover_s
        self._on_recovered = on_recovered
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._condemned: dict[str, int] = {}
        # The epoch that this replica began last, and when it was written: what it left unfinished it need not
        # wait for.
        self._begun: dict[str, tuple[Epoch, float]] = {}

    @abstractmethod
    async def holds(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether the store has the sale under this epoch, to the last change that is known of."""

    @abstractmethod
    async def rebuild(self, definition: Definition, epoch: Epoch) -> int:
        """Fills the store; how many changes followed from that. Raises NotLoaded, Superseded."""

    @abstractmethod
    async def recovered(self, sale: str) -> None:
        """The store is whole: the sale's commands are taken again."""

    def recover(self, sale: str, condemned: int = 0) -> None:
        """See to it that the sale's store is filled again, by this replica or another.

        `condemned` is an epoch under which it is wrong, however much it has: a copy that went on another way.
        """
        self._condemned[sale] = max(condemned, self._condemned.get(sale, 0))
        if sale not in self._tasks:
            self._tasks[sale] = asyncio.create_task(self._run(sale), name=f"rebuild {sale}")

    async def close(self) -> None:
        """Stop; what is half done another replica does anew."""
        await stop(*self._tasks.values())

    async def check_epoch(self, sale: str, epoch: Epoch) -> None:
        """Raises Superseded where this epoch is not the latest any more."""
        current = await self._epochs.current(self._service, sale)
        if current is None or current.number != epoch.number:
            raise Superseded

    async def still_at_it(self, sale: str) -> None:
        """Says now and then that the rebuild gets on, so that nobody takes over. Raises Superseded."""
        epoch, written = self._begun[sale]
        if time.monotonic() < written + self._takeover_s / 3:
            return
        renewed = await self._epochs.renew(self._service, sale, epoch)
        if renewed is None:
            raise Superseded
        self._begun[sale] = renewed, time.monotonic()

    async def _run(self, sale: str) -> None:
        pause_s = RETRY_S
        try:
            while not await self._is_recovered(sale):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        finally:
            del self._tasks[sale]

    async def _is_recovered(self, sale: str) -> bool:
        """One try, and whether there is no need of another."""
        try:
            await self._recover(sale)
            await self.recovered(sale)
        except Refusal as refusal:
            if refusal.word in ("SALE_ARCHIVED", "SALE_NOT_FOUND"):
                return True
            log.warning("rebuild_waits", sale=sale, word=refusal.word, problem=refusal.message)
            return False
        except Exception as problem:
            refused = refusal_for(problem)
            log.warning("rebuild_waits", sale=sale, problem=repr(problem), exc_info=refused is None)
            return False
        self._begun.pop(sale, None)
        self._condemned.pop(sale, None)
        self._on_recovered(sale)
        return True

    async def _recover(self, sale: str) -> None:
        """Returns once the sale is loaded, whoever has done it."""
        waited: tuple[int, float] = (0, 0.0)
        while True:
            definition = await self._definitions.latest(sale)
            if definition.archived:
                raise Refusal("SALE_ARCHIVED", sale=sale)
            epoch = await self._epochs.current(self._service, sale)
            if epoch is not None and epoch.dropped:
                raise Refusal("SALE_ARCHIVED", sale=sale)
            if epoch is not None and epoch.loaded:
                is_condemned = epoch.number <= self._condemned.get(sale, 0)
                if not is_condemned and await self.holds(definition, epoch):
                    return
            elif epoch is not None and epoch.number > 1 and not self._began(sale, epoch):
                # Another replica is at it, or was.
                if waited[0] != epoch.revision:
                    waited = (epoch.revision, time.monotonic())
                if time.monotonic() < waited[1] + self._takeover_s:
                    await asyncio.sleep(RETRY_S)
                    continue
            mine = await self._epochs.create(self._service, sale, epoch)
            if mine is not None and await self._is_rebuilt(definition, mine):
                return
            await asyncio.sleep(RETRY_S)

    def _began(self, sale: str, epoch: Epoch) -> bool:
        begun = self._begun.get(sale)
        return begun is not None and begun[0].number == epoch.number

    async def _is_rebuilt(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether this replica filled the store; not where another began anew meanwhile."""
        sale, began = definition.sale.sale, time.monotonic()
        self._begun[sale] = epoch, began
        log.warning("rebuild_begins", sale=sale, epoch=epoch.number)
        try:
            changes = await self.rebuild(definition, epoch)
        except (NotLoaded, Superseded):
            log.warning("rebuild_superseded", sale=sale, epoch=epoch.number)
            return False
        if await self._epochs.mark_loaded(self._service, sale, self._begun[sale][0]) is None:
            return False
        metrics.REBUILDS.labels(self._service).inc()
        log.warning(
            "rebuild_done",
            sale=sale,
            epoch=epoch.number,
            changes=changes,
            seconds=round(time.monotonic() - began, 2),
        )
        return True
