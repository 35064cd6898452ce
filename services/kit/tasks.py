"""Ending background tasks for certain."""

import asyncio
from typing import Any

# How long a task has to clean up before it is told once more.
AGAIN_S = 0.25


async def stop(*tasks: "asyncio.Task[Any]") -> None:
    """Cancels tasks until they have ended; how they ended is not asked.

    Once is not enough on Python 3.11: `asyncio.wait_for`, which the clients of Redis and NATS use, swallows a
    cancellation that comes in the moment in which what it waits for is done.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            # Asked for, so that nothing is logged about an exception that nobody asked for.
            task.exception()
