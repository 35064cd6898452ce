"""One reading for many callers: availability is asked by everyone at once and may be a second old."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Snapshots(Generic[T]):
    """Shares each key's reading among all who ask within `age_s` seconds of its beginning."""

    def __init__(self, read: Callable[[str], Awaitable[T]], age_s: float) -> None:
        self._read = read
        self._age_s = age_s
        self._kept: dict[str, tuple[float, asyncio.Task[T]]] = {}

    async def get(self, key: str) -> T:
        """The key's reading. A reading that failed is not kept."""
        begun, task = self._kept.get(key, (0.0, None))
        if task is None or time.monotonic() - begun > self._age_s or _has_failed(task):
            task = asyncio.ensure_future(self._reading(key))
            self._kept[key] = (time.monotonic(), task)
        # One caller that gives up must not take the reading from the others.
        return await asyncio.shield(task)

    def forget(self, key: str) -> None:
        """Lets go of a key's reading."""
        self._kept.pop(key, None)

    async def _reading(self, key: str) -> T:
        return await self._read(key)


def _has_failed(task: "asyncio.Task[T]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
