"""Stops loops that were cancelled."""

import asyncio
from typing import Any

# How long a task has to clean up before it is told once more.
AGAIN_S = 0.25


def raise_if_cancelled() -> None:
    """Raises CancelledError in a task that was cancelled and goes on.

    On Python 3.11 `wait_for`, and with it NATS' requests, loses a cancellation that arrives together with the
    awaited answer. A loop that calls this once per turn ends one turn later.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def stop(*tasks: "asyncio.Task[Any]") -> None:
    """Cancels tasks, once more after a while, until they have ended; how they ended is not asked."""
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            # Asked for, so that nothing is logged about an exception that nobody asked for.
            task.exception()
