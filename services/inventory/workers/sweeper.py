"""Ends what is due in every loaded sale, so that units come back also where nobody else comes by."""

import asyncio
from collections.abc import Callable, Collection

from services.inventory.store import Store
from services.kit.errors import refusal_for
from services.kit.logs import get_logger

log = get_logger(__name__)


class Sweeper:
    """Sweeps the sales that `sales` names, every `every_s` seconds."""

    def __init__(self, store: Store, sales: Callable[[], Collection[str]], every_s: float) -> None:
        self._store = store
        self._sales = sales
        self._every_s = every_s

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await asyncio.gather(*(self._sweep(sale) for sale in list(self._sales())))

    async def _sweep(self, sale: str) -> None:
        try:
            await self._store.sweep(sale)
        except Exception as error:
            refusal = refusal_for(error)
            problem = refusal.word if refusal is not None else repr(error)
            log.warning("sweep_failed", sale=sale, problem=problem)
