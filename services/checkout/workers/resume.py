"""The sweeper: takes up orders whose deadline passed, and those that their process left behind."""

import asyncio
from typing import Protocol

from services.checkout import metrics
from services.checkout.saga import Saga, now_ms
from services.checkout.store import Store
from services.kit.logs import get_logger

log = get_logger(__name__)


class SweepSettings(Protocol):
    """What the sweeper reads of the settings."""

    @property
    def sweep_s(self) -> float: ...
    @property
    def sweep_batch(self) -> int: ...
    @property
    def resume_s(self) -> float: ...
    @property
    def resume_longest_s(self) -> float: ...


async def run(store: Store, saga: Saga, settings: SweepSettings) -> None:
    """Sweep until cancelled. Replicas share the due orders between them."""
    while True:
        found = 0
        try:
            await saga.room()
            found = await sweep(store, saga, settings)
        except Exception as problem:
            log.warning("sweep_failed", problem=repr(problem))
        if found < settings.sweep_batch:
            await asyncio.sleep(settings.sweep_s)


async def sweep(store: Store, saga: Saga, settings: SweepSettings) -> int:
    """Take up what is due now; how many orders that were."""
    retry_ms, longest_ms = round(settings.resume_s * 1000), round(settings.resume_longest_s * 1000)
    due = await store.due(now_ms(), retry_ms, longest_ms, settings.sweep_batch)
    if due:
        metrics.RESUMED.inc(len(due))
        for order in (await store.load(due)).values():
            saga.nudge(order)
    return len(due)
