"""Asks again while what was killed is not found again, as clients of ours do, with the same ids each time.

A part that runs again is not found again at once. A channel that was refused waits up to a second before it
tries another time, and so do the services' own to each other. So whoever kills a part asks patiently from
then on; what is refused for any other reason is raised at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import aiohttp
import grpc.aio

from services.kit.errors import Refusal, refusal_of

T = TypeVar("T")

PATIENCE_S = 90.0
"""For what must come; a test that needs all of it has failed."""
PAUSE_S = 0.1
BROKEN = "BROKEN"
"""Stands for a connection that ended, or could not be made: no service had its say."""
NOT_LOADED = ("SALE_NOT_LOADED",)
"""What passes where a store was lost and no part is killed."""
OUTAGES = (BROKEN, "UNAVAILABLE", "OVERLOADED", "DEADLINE", *NOT_LOADED)


async def patiently(
    ask: Callable[[], Awaitable[T]],
    *,
    passing: Collection[str] = OUTAGES,
    within_s: float = PATIENCE_S,
    pause_s: float = PAUSE_S,
) -> T:
    """The answer, however often it takes while it is refused for what passes.

    Fails where a service refuses for what passes and does not say when to ask again.
    """
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await ask()
            except (Refusal, grpc.aio.AioRpcError, aiohttp.ClientError, OSError) as error:
                if _word_of(error) not in passing:
                    raise
            await asyncio.sleep(pause_s)


def _word_of(error: Exception) -> str:
    """What was refused, by its name."""
    refusal = error if isinstance(error, Refusal) else refusal_of(error)
    if refusal is None:
        return BROKEN
    assert refusal.word not in OUTAGES or refusal.retry_after_s is not None, refusal
    return refusal.word
