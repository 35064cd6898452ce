"""Ends what is due in every loaded sale, so that units come back also where nobody else comes by."""

import asyncio
import math
import time
from collections.abc import Callable, Collection

from services.inventory.store import Store
from services.kit.errors import refusal_for
from services.kit.logs import get_logger

log = get_logger(__name__)

# A sale that stands still is looked at this often: another process may have died with its deadlines.
QUIET_S = 5.0


class Sweeper:
    """Sweeps the sales that `sales` names, every `every_s` seconds if anything changed or ends."""

    def __init__(self, store: Store, sales: Callable[[], Collection[str]], every_s: float) -> None:
        self._store = store
        self._sales = sales
        self._every_s = every_s
        # When each sale is to be swept next, by the monotonic clock.
        self._due: dict[str, float] = {}

    def wake(self, sale: str) -> None:
        """The sale changed: something may end sooner than was known."""
        self._due[sale] = 0.0

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            now = time.monotonic()
            # Made anew each time, so that an archived sale leaves nothing behind.
            self._due = {sale: self._due.get(sale, 0.0) for sale in self._sales()}
            due = [sale for sale, at in self._due.items() if at <= now]
            await asyncio.gather(*(self._sweep(sale) for sale in due))

    async def _sweep(self, sale: str) -> None:
        # Set before the sweep: what changes meanwhile has the last word.
        self._due[sale] = math.inf
        next_s = QUIET_S
        try:
            next_s = await self._store.sweep(sale)
        except Exception as error:
            refusal = refusal_for(error)
            problem = refusal.word if refusal is not None else repr(error)
            log.warning("sweep_failed", sale=sale, problem=problem)
        self._due[sale] = min(self._due[sale], time.monotonic() + min(QUIET_S, next_s))
