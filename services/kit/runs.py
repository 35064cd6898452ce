"""Runs a service's script under each sale's epoch, as long as the store has all that was seen of the sale."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from redis.asyncio import Redis

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.lua import NotLoaded, Script
from services.kit.redis import ONLY_ONE, OUTAGES, Copies

log = get_logger(__name__)

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
        self._last_published = last_published
        self._copies = copies
        # The last change that was seen of each sale, and under which epoch: it says nothing of another one.
        self._known: dict[str, tuple[int, int]] = {}
        # How often a connection was lost, in all and as it was when each sale was last compared with
        # JetStream.
        self._losses = 0
        self._compared: dict[str, int] = {}
        # Sales whose store lost changes, until it is filled again: what was known of them.
        self._lost: dict[str, tuple[int, int]] = {}
        self._on_lost: Callable[[str, int], None] = lambda _, __: None
        self._on_changes: Callable[[str], None] = lambda _: None

    def on_lost(self, callback: Callable[[str, int], None]) -> None:
        """Call with a sale's id each time that its store is met without what was seen of it.

        And with the epoch under which it is wrong, 0 where it may be whole by now; see Rebuilding.recover.
        """
        self._on_lost = callback

    def on_changes(self, callback: Callable[[str], None]) -> None:
        """Call with a sale's id after every run that finds it changed since the last one."""
        self._on_changes = callback

    def connection_lost(self) -> None:
        """Whoever answers from now on may be another server, which lacks what the last one had."""
        self._losses += 1

    def known(self, sale: str) -> int:
        """The last change of a sale that this process has seen; 0 for none."""
        return self._known.get(sale, (0, 0))[1]

    async def run(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        """The commands' results, in order. Raises NotLoaded, SALE_NOT_LOADED, and what Redis raises."""
        if sale in self._lost:
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
        self._saw(sale, epoch, await self._last_published(sale))
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
        seen = await self._last_published(sale)
        lost_epoch, known = self._lost.get(sale, (0, 0))
        envelope = {"epoch": epoch, "seen": max(seen, known) if lost_epoch == epoch else seen}
        try:
            await self._patiently(lambda: self._once(sale, envelope, commands))
        except NotLoaded:
            return False
        return True

    def lost(self, sale: str, *, is_another: bool = False) -> NotLoaded:
        """Refuses the sale's commands from now on: its store does not hold what was seen of it.

        `is_another` says that it is a copy which went on another way than what was published.
        """
        if sale not in self._lost:
            self._lost[sale] = self._known.get(sale, (0, 0))
            epoch, sequence = self._lost[sale]
            log.error("sale_lost", store=self._script.name, sale=sale, epoch=epoch, sequence=sequence)
            metrics.STORE_BROKEN.labels(self._script.name, sale).set(1)
        self._on_lost(sale, self._lost[sale][0] if is_another else 0)
        return NotLoaded()

    def recovered(self, sale: str) -> None:
        """Takes the sale's commands again: its store is whole."""
        if self._lost.pop(sale, None) is not None:
            metrics.STORE_BROKEN.labels(self._script.name, sale).set(0)

    def forget(self, sale: str) -> None:
        """Lets go of an archived sale."""
        self.recovered(sale)
        metrics.STORE_BROKEN.remove(self._script.name, sale)
        self._known.pop(sale, None)
        self._compared.pop(sale, None)

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        seconds, micros = await self._patiently(self._redis.time)
        return int(seconds) * 1000 + int(micros) // 1000

    async def _run(self, sale: str, epoch: int, commands: Sequence[Command], **more: object) -> list[Result]:
        async def once() -> list[Result]:
            envelope = {"epoch": epoch, "seen": await self._seen(sale, epoch), **more}
            return await self._once(sale, envelope, commands)

        results = await self._patiently(once)
        if self._saw(sale, epoch, results[-1]["sequence"]):
            self._on_changes(sale)
        return results

    async def _once(
        self, sale: str, envelope: Mapping[str, object], commands: Sequence[Command]
    ) -> list[Result]:
        return await self._script.run(self._redis, self._keys_of(sale), envelope, commands, self._copies)

    async def _patiently(self, once: Callable[[], Awaitable[R]]) -> R:
        return await patiently(once, self.connection_lost)

    async def _seen(self, sale: str, epoch: int) -> int:
        """The last change that the store must have: at first, and after a lost connection, JetStream's."""
        losses = self._losses
        if self._compared.get(sale) != losses:
            self._saw(sale, epoch, await self._last_published(sale))
            self._compared[sale] = losses
        known_epoch, sequence = self._known.get(sale, (0, 0))
        return sequence if known_epoch == epoch else 0

    def _saw(self, sale: str, epoch: int, sequence: int) -> bool:
        """Notes a change that the store had under an epoch, and says whether it was news."""
        is_news = (epoch, sequence) > self._known.get(sale, (0, 0))
        if is_news:
            self._known[sale] = (epoch, sequence)
        return is_news
