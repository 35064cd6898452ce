"""What the watches tell, put where it belongs: a keeper for each TicketSale, the fleet, the scaler."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from catraca_operator import metrics
from catraca_operator.fleet import Body, Fleet
from catraca_operator.floors import Wish
from catraca_operator.keda import Keda
from catraca_operator.keeper import Keeper
from catraca_operator.progress import Progress
from catraca_operator.scaler import Scaler
from services.kit.logs import get_logger
from services.kit.tasks import stop

log = get_logger("watch")

SCALER, KEDA = "scaler", "keda"


class Watched:
    """Every TicketSale with its keeper. Loops begin with `begin`, once everything there is was listed."""

    def __init__(self, fleet: Fleet, progress: Progress) -> None:
        """What needs what is here is given later, by `wire`."""
        self.fleet = fleet
        self._progress = progress
        self._keepers: dict[str, Keeper] = {}
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        """Keepers' loops by sale."""
        self._loops: dict[str, asyncio.Task[Any]] = {}
        """The others."""
        self._make: Callable[[Body], Keeper] | None = None
        self._scaler: Scaler | None = None
        self._keda: Keda | None = None
        self._closed = False

    def wire(self, make: Callable[[Body], Keeper], scaler: Scaler, keda: Keda) -> None:
        """What makes a keeper, what keeps the floors, and what looks for services that KEDA scales."""
        self._make, self._scaler, self._keda = make, scaler, keda

    def wishes(self) -> list[Wish]:
        """What every sale wants of floors, in order of names."""
        wishes = [self._keepers[name].wish for name in sorted(self._keepers)]
        return [wish for wish in wishes if wish is not None]

    # ---- listed: before anything is done ----

    async def list_scaled_objects(self) -> None:
        """What KEDA scales, so that no sale waits for a service that seems to have no autoscaler."""
        if self._keda is not None:
            await self._keda.look()

    def list_sale(self, body: Body) -> None:
        """A TicketSale that came or changed."""
        name = body["metadata"]["name"]
        keeper = self._keepers.get(name)
        if keeper is not None and keeper.uid == body["metadata"]["uid"]:
            keeper.seen(body)
        elif self._make is not None:
            self._end(name)
            self._keepers[name] = self._make(body)
        metrics.SALES.set(len(self._keepers))

    # ---- handled: everything was listed ----

    def begin(self) -> None:
        """Run what is known: from here on floors may be lowered, as every sale that wants one is known."""
        if self._closed:
            return
        for loop, of in ((SCALER, self._scaler), (KEDA, self._keda)):
            if loop not in self._loops and of is not None:
                self._loops[loop] = asyncio.create_task(
                    of.run(functools.partial(self._progress.within, loop))
                )
        for name, keeper in self._keepers.items():
            if name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._keep(name, keeper))
        self.changed()

    def lost_sale(self, body: Body) -> None:
        """A TicketSale is gone."""
        name = body["metadata"]["name"]
        keeper = self._keepers.get(name)
        if keeper is not None and keeper.uid == body["metadata"]["uid"]:
            self._end(name)
        metrics.SALES.set(len(self._keepers))
        self.changed()

    def changed(self) -> None:
        """Something that floors or readiness depend on is another."""
        if self._scaler is not None:
            self._scaler.wake()

    def fleet_changed(self) -> None:
        """Replicas came or went: whoever waits for them looks again."""
        self.changed()
        for keeper in self._keepers.values():
            if keeper.waits_for_replicas:
                keeper.wake()

    async def close(self) -> None:
        """End every loop; none begins any more."""
        self._closed = True
        tasks = [*self._loops.values(), *self._tasks.values()]
        self._loops.clear()
        self._tasks.clear()
        await stop(*tasks)

    async def _keep(self, name: str, keeper: Keeper) -> None:
        loop = f"sale/{name}"
        try:
            await keeper.run(functools.partial(self._progress.within, loop))
        finally:
            self._progress.ended(loop)
        # The resource is gone, or about to be; a watch that was interrupted may never tell.
        log.info("let_go", sale=name)
        if self._keepers.get(name) is keeper:
            self._keepers.pop(name)
            self._tasks.pop(name, None)
            metrics.SALES.set(len(self._keepers))
            self.changed()

    def _end(self, name: str) -> None:
        self._keepers.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
