"""Compares what is sold with checkout's orders from time to time, and repairs what stays wrong."""

import asyncio
import random
import time
from collections.abc import Callable, Collection

from services.inventory import metrics
from services.inventory.orders import Orders
from services.inventory.reconcile import Disagreement, SoldHold, disagreements
from services.inventory.store import Store
from services.kit.errors import refusal_for
from services.kit.logs import get_logger

log = get_logger(__name__)

HOLDS_PER_PAGE = 200
DONE = frozenset({"RETURNED", "COMMITTED", "REACQUIRED"})


class Reconciler:
    """Every replica has one. A repair is guarded on its hold: two of the same are one."""

    def __init__(
        self,
        store: Store,
        orders: Orders,
        sales: Callable[[], Collection[str]],
        every_s: float,
        saga_max_s: float,
    ) -> None:
        """`saga_max_s` is how long a disagreement must have lasted before it is repaired."""
        self._store = store
        self._orders = orders
        self._sales = sales
        self._every_s = every_s
        self._saga_max_s = saga_max_s
        # When each disagreement was first seen, by the monotonic clock.
        self._seen: dict[str, dict[Disagreement, float]] = {}

    async def run(self) -> None:
        """Compare until cancelled."""
        while True:
            # Replicas that start together do not all read at once.
            await asyncio.sleep(self._every_s * random.uniform(0.75, 1.25))  # noqa: S311 - jitter
            sales = list(self._sales())
            self._seen = {sale: self._seen.get(sale, {}) for sale in sales}
            for sale in sales:
                try:
                    await self.compare(sale)
                except Exception as problem:
                    refusal = refusal_for(problem)
                    word = refusal.word if refusal is not None else repr(problem)
                    log.warning("not_reconciled", sale=sale, problem=word, exc_info=refusal is None)

    async def compare(self, sale: str) -> None:
        """One comparison of a sale; repairs what it had found before, long enough ago."""
        # In this order, an order that the ledger knows is among those that are read.
        sold = await self._sold(sale)
        orders = await self._orders.read(sale)
        before, now = self._seen.get(sale, {}), time.monotonic()
        found = {each: before.get(each, now) for each in disagreements(orders, sold)}
        self._seen[sale] = found
        for each, since in found.items():
            if each in before and now - since >= self._saga_max_s:
                words = [
                    result["word"]
                    for result in await self._store.submit_many(
                        sale, each.commands(orders.get(each.order_id))
                    )
                ]
                word = next((word for word in words if word in DONE), words[-1])
                metrics.REPAIRS.labels(each.act, word).inc()
                log.error(
                    "repaired" if word in DONE else "not_repaired",
                    sale=sale,
                    act=each.act,
                    order=each.order_id,
                    word=word,
                )

    async def _sold(self, sale: str) -> list[SoldHold]:
        """Every hold that the ledger has SOLD."""
        sold: list[SoldHold] = []
        cursor = "0"
        while True:
            command = {"op": "sold", "cursor": cursor, "count": HOLDS_PER_PAGE}
            page = await self._store.submit(sale, command)
            sold += (SoldHold.of(hold) for hold in page["holds"])
            cursor = page["cursor"]
            if cursor == "0":
                return sold
