"""Runs a service's script under each sale's epoch, as long as the store has all that was seen of the sale."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis

from services.kit.lua import NotLoaded, Script
from services.kit.redis import ONLY_ONE, OUTAGES, Copies
from services.kit.seen import Seen

R = TypeVar("R")
Command = Mapping[str, Any]
Result = dict[str, Any]

# A run whose answer was lost is sent again: a command that is repeated changes nothing.
TRIES = 5
RETRY_S = (0.02, 0.5)


async def patiently(once: Callable[[], Awaitable[R]], connection_lost: Callable[[], None]) -> R:
    """What is asked for, asked again where its answer was lost. `connection_lost` is told each time.

    Raises what Redis raises at the last of TRIES.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return await once()
        except OUTAGES:
            connection_lost()
            if attempt == TRIES:
                raise
            shortest, longest = RETRY_S
            await asyncio.sleep(min(longest, shortest * 2**attempt) * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError("the last attempt returns or raises")


class EpochBook(Protocol):
    """Which filling of the store is the valid one, per sale."""

    async def epoch(self, sale: str, *, fresh: bool = False) -> int:
        """The sale's epoch; `fresh` asks for it again.

        Raises Refusal SALE_NOT_LOADED where its store was never filled, NotLoaded where it is to be filled
        again.
        """


class Runs:
    """The store's runs. `redis` must not repeat commands by itself.

    Each run says the last change that this process has seen; at first, and after a lost connection, when
    another server may answer, it is also compared with what JetStream has. A store that lacks it answers
    NOT_LOADED.
    """

    def __init__(
        self,
        redis: Redis,
        script: Script,
        keys_of: Callable[[str], Sequence[str]],
        epochs: EpochBook,
        last_published: Callable[[str], Awaitable[int]],
        copies: Copies = ONLY_ONE,
    ) -> None:
        """`last_published` answers the sequence of the last change of a sale that JetStream has.

        `copies` are the replicas of Redis that must have what a run changed before it is answered.
        """
        self._redis = redis
        self._script = script
        self._keys_of = keys_of
        self._epochs = epochs
        self._copies = copies
        self._seen = Seen(script.name, last_published)
        self.on_lost = self._seen.on_lost
        self.connection_lost = self._seen.connection_lost
        self.known = self._seen.last
        self.recovered = self._seen.recovered
        self.forget = self._seen.forget
        self._on_changes: Callable[[str], None] = lambda _: None

    def on_changes(self, callback: Callable[[str], None]) -> None:
        """Call with a sale's id after every run that finds it changed since the last one."""
        self._on_changes = callback

    async def run(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        """The commands' results, in order. Raises NotLoaded, SALE_NOT_LOADED, and what Redis raises."""
        if self._seen.is_lost(sale):
            raise NotLoaded
        try:
            epoch = await self._epochs.epoch(sale)
            with contextlib.suppress(NotLoaded):
                return await self._run(sale, epoch, commands)
            # It may have been filled again under a later epoch than the one remembered here.
            later = await self._epochs.epoch(sale, fresh=True)
            if later == epoch:
                raise NotLoaded
            return await self._run(sale, later, commands)
        except NotLoaded:
            raise self.lost(sale) from None

    async def create(self, sale: str, epoch: int, commands: Sequence[Command]) -> list[Result]:
        """As `run`, and makes the store of a sale of which nothing was ever published. Raises NotLoaded."""
        await self._seen.least(sale, epoch, compare=True)
        return await self._run(sale, epoch, commands, create=True)

    async def fill(
        self, sale: str, epoch: int, commands: Sequence[Command], *, begin: bool = False
    ) -> list[Result]:
        """Fills a store again under its new epoch, which `begin` empties first; nobody else is answered.

        Raises NotLoaded where somebody else began anew, or the store is lost again.
        """
        envelope = {"epoch": epoch, "filling": "begin" if begin else "go on"}
        return await self._patiently(lambda: self._once(sale, envelope, commands))

    async def holds(self, sale: str, epoch: int, commands: Sequence[Command]) -> bool:
        """Whether the store has a sale under this epoch, to the last change that is known of.

        `commands` change nothing.
        """
        envelope = {"epoch": epoch, "seen": await self._seen.least_of_another(sale, epoch)}
        try:
            await self._patiently(lambda: self._once(sale, envelope, commands))
        except NotLoaded:
            return False
        return True

    def lost(self, sale: str, *, is_another: bool = False) -> NotLoaded:
        """Refuses the sale's commands from now on: its store does not hold what was seen of it.

        `is_another` says that it is a copy which went on another way than what was published.
        """
        self._seen.lost(sale, is_another=is_another)
        return NotLoaded()

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        seconds, micros = await self._patiently(self._redis.time)
        return int(seconds) * 1000 + int(micros) // 1000

    async def _run(self, sale: str, epoch: int, commands: Sequence[Command], **more: object) -> list[Result]:
        async def once() -> list[Result]:
            envelope = {"epoch": epoch, "seen": await self._seen.least(sale, epoch), **more}
            return await self._once(sale, envelope, commands)

        results = await self._patiently(once)
        if self._seen.saw(sale, epoch, results[-1]["sequence"]):
            self._on_changes(sale)
        return results

    async def _once(
        self, sale: str, envelope: Mapping[str, object], commands: Sequence[Command]
    ) -> list[Result]:
        return await self._script.run(self._redis, self._keys_of(sale), envelope, commands, self._copies)

    async def _patiently(self, once: Callable[[], Awaitable[R]]) -> R:
        return await patiently(once, self.connection_lost)
