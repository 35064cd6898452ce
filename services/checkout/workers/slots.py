"""Sweeps up slots that no order comes for: their sale is archived, or their worker ended too soon."""

import asyncio

from services.checkout.pacing import SECOND_US
from services.checkout.store import Store
from services.kit.definitions import Definitions
from services.kit.logs import get_logger

log = get_logger(__name__)

SWEEP_S = 60.0
# No order may wait for a worker longer than a day, so one that comes this late has lost its claim long ago.
PAST_US = 24 * 3600 * SECOND_US


async def run(store: Store, definitions: Definitions) -> None:
    """Sweep until cancelled. Replicas may do so at once."""
    while True:
        try:
            await sweep(store, definitions)
        except Exception as problem:
            log.warning("slots_not_swept", problem=repr(problem))
        await asyncio.sleep(SWEEP_S)


async def sweep(store: Store, definitions: Definitions) -> None:
    """Remove what is left behind now."""
    await store.drop_left_slots(definitions.archived(), PAST_US)
