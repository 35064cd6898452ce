"""The one port to Redis: runs batches of commands in the promise ledger's script, under the sale's epoch."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catraca.sale.v1 import sale_pb2
from redis.asyncio import Redis

from services.inventory import metrics
from services.inventory.house import House
from services.inventory.rules import Command, definition_for_script, seats_of
from services.kit.batcher import Batcher, PerKey
from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epoch, Epochs
from services.kit.errors import Refusal, refuse_word
from services.kit.lua import NotLoaded, Script, WholeBatch
from services.kit.plans.compiled import Plan
from services.kit.plans.layout import layouts
from services.kit.redis import ONLY_ONE, Copies
from services.kit.runs import patiently
from services.kit.seen import Seen

SERVICE = "inventory"
REFUSED_FOR_S = 1.0
LUA = Path(__file__).parent / "lua"
KEYS = ("meta", "def", "promises", "claims", "holds", "buyers", "sections", "due", "out", "blocks")
"""The keys of a sale that every run names; those for each section follow."""
SECTION_KEYS = ("units", "returned", "layout", "runs")
"""The keys of a section; the last two are a seated one's."""

EMPTY = House()

Result = dict[str, Any]
"""What a command came to: `word`, and what the word brings with it."""


def key_of(sale: str, name: str) -> str:
    """A key of a sale; all of them share one hash tag."""
    return f"i:{{{sale}}}:{name}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sale that the store holds, as this process last knew it."""

    epoch: int
    revision: int
    """The latest that this process took in; the store may hold a later one."""
    sections: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much goes into one run."""

    commands: int
    pending: int
    linger_s: float
    budget: int
    refused_orders: int
    wait_s: float
    """How long a run waits for a definition that another process has already."""
    copies: Copies = ONLY_ONE


class Store:
    """Every sale's promise ledger. Commands of one sale run in the order in which they were submitted."""

    def __init__(
        self,
        redis: Redis,
        epochs: Epochs,
        definitions: Definitions,
        bounds: Bounds,
        last_published: Callable[[str], Awaitable[int]],
        plan_of: Callable[[str], Awaitable[Plan]],
    ) -> None:
        """`last_published` answers the sequence of the last change of a sale that JetStream has, `plan_of` a
        seating plan by its digest.
        """
        self._redis = redis
        self._epochs = epochs
        self._definitions = definitions
        self._bounds = bounds
        self._plan_of = plan_of
        # With what each was made from: seats are fixed once defined, but sections may come.
        self._houses: dict[str, tuple[sale_pb2.SaleSpec, House]] = {}
        self._script = Script.load(LUA, KEYS)
        self._loaded: dict[str, Loaded] = {}
        self._seen = Seen(self._script.name, last_published)
        self.on_lost = self._seen.on_lost
        self.connection_lost = self._seen.connection_lost
        self._refused: dict[str, tuple[Refusal, float]] = {}
        self._loading: PerKey[str, asyncio.Lock] = PerKey(lambda _: asyncio.Lock())
        self._batchers: PerKey[str, Batcher[Command, Result]] = PerKey(self._batcher)
        self._on_changes: list[Callable[[str], None]] = []
        # Of each sale's last change that a run has found and told.
        self._sequences: dict[str, int] = {}

    def on_changes(self, callback: Callable[[str], None]) -> None:
        """Call with a sale's id after every run that finds it changed since the last one."""
        self._on_changes.append(callback)

    # ---- commands ----

    async def submit(self, sale: str, command: Command) -> Result:
        """One command's result. Raises Refusal where the sale does not run here; see `loaded`."""
        if not self.is_loaded(sale):
            await self.loaded(sale)
        return await self._batchers[sale].submit(command)

    async def submit_many(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        """The results of commands that run in their order with nobody else's of this process between them."""
        await self.loaded(sale)
        return await self._batchers[sale].submit_many(commands)

    async def enqueue(self, sale: str, commands: Sequence[Command]) -> "asyncio.Future[list[Result]]":
        """As `submit_many`, but returns once the commands stand in line; the future has their results."""
        await self.loaded(sale)
        return self._batchers[sale].enqueue(commands)

    async def sweep(self, sale: str) -> float:
        """Ends what is due; answers in how many seconds the next thing ends, infinity where nothing will."""
        if sale not in self._loaded or self._seen.is_lost(sale):
            return math.inf
        swept = await self.submit(sale, {"op": "expire"})
        next_ms = swept.get("next_ms")
        return math.inf if next_ms is None else max(0.0, (next_ms - swept["at_ms"]) / 1000)

    def _batcher(self, sale: str) -> Batcher[Command, Result]:
        async def run(commands: list[Command]) -> list[Result]:
            return await self._run(sale, commands)

        bounds = self._bounds
        return Batcher(
            run,
            max_items=bounds.commands,
            max_pending=bounds.pending,
            linger_s=bounds.linger_s,
            name="inventory_commands",
        )

    async def _run(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        """Runs the script until every command is answered: one run stops where its budget is spent."""
        results: list[Result] = []
        while len(results) < len(commands):
            results += await self._run_some(sale, commands[len(results) :])
        metrics.count_commands(commands, results)
        self._tell(sale, results[-1]["sequence"])
        house = self.house(sale)
        return [house.named(result) for result in results]

    def _tell(self, sale: str, sequence: int) -> None:
        """Tells of changes of the sale, this process's own and those of others."""
        if self._sequences.get(sale) != sequence:
            self._sequences[sale] = sequence
            for callback in self._on_changes:
                callback(sale)

    async def _run_some(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        try:
            return await self._run_loaded(sale, commands)
        except WholeBatch as told:
            # The store's definition has sections that this process has not heard of yet.
            await self._load(await self._later(sale, told.answer["revision"]))
        except NotLoaded:
            await self._loaded_elsewhere(sale)
        try:
            return await self._run_loaded(sale, commands)
        except NotLoaded:
            raise self.lost(sale) from None

    async def _run_loaded(self, sale: str, commands: Sequence[Command]) -> list[Result]:
        loaded = await self.loaded(sale)
        results = await self._run_once(sale, loaded, commands)
        self._seen.saw(sale, loaded.epoch, results[-1]["sequence"])
        return results

    async def _loaded_elsewhere(self, sale: str) -> None:
        """Returns where another process has filled the store under a later epoch; else the sale is lost."""
        metrics.RELOADS.inc()
        before = self._loaded.get(sale)
        current = await self._epochs.current(SERVICE, sale)
        if current is None or before is None or not current.loaded or current.number == before.epoch:
            raise self.lost(sale)
        self._forget_epoch(sale)

    def _forget_epoch(self, sale: str) -> None:
        """What was found under an epoch says nothing of another one."""
        self._loaded.pop(sale, None)
        self._sequences.pop(sale, None)

    async def _run_once(
        self, sale: str, loaded: Loaded, commands: Sequence[Command], **more: Any
    ) -> list[Result]:
        """One run, sent again where its answer was lost. `more` is what its envelope has beside the usual."""
        keys = _keys(sale, loaded.sections)

        async def once() -> list[Result]:
            envelope: dict[str, Any] = {
                "epoch": loaded.epoch,
                "sections": loaded.sections,
                "budget": self._bounds.budget,
                "refused_orders": self._bounds.refused_orders,
                **more,
            }
            # Whoever looks at a store that may be another's says what it must have.
            if "seen" not in envelope:
                envelope["seen"] = await self._seen.least(sale, loaded.epoch)
            return await self._script.run(self._redis, keys, envelope, commands, self._bounds.copies)

        return await patiently(once, self.connection_lost)

    # ---- seats ----

    def house(self, sale: str) -> House:
        """The seats of a loaded sale; nobody's where it has none."""
        _, house = self._houses.get(sale, (None, EMPTY))
        return house

    async def _house_of(self, definition: Definition) -> House:
        """The seats of a definition, read from its plan where that is not done already."""
        sale, wanted = definition.sale.sale, seats_of(definition.sale.spec)
        known, house = self._houses.get(sale, (None, EMPTY))
        if not wanted.HasField("seating_plan") or known == wanted:
            return house
        plan = await self._plan_of(wanted.seating_plan.digest)
        # A stadium takes half a second.
        house = House(await asyncio.to_thread(layouts, wanted, plan))
        self._houses[sale] = wanted, house
        return house

    # ---- loading ----

    def is_loaded(self, sale: str) -> bool:
        """Whether `loaded` answers at once: nearly every call asks for a sale that runs."""
        is_here = self._definitions.here(sale) is not None
        return is_here and sale in self._loaded and not self._seen.is_lost(sale)

    async def loaded(self, sale: str) -> Loaded:
        """The sale as the store holds it, taking it in first if need be.

        Raises Refusal SALE_NOT_FOUND, SALE_ARCHIVED, DEFINITION_INVALID or SALE_NOT_LOADED.
        """
        definition = await self._definitions.found(sale)
        if self._seen.is_lost(sale):
            raise _not_loaded(sale)
        loaded = self._loaded.get(sale)
        return loaded if loaded is not None else await self._load_again(definition)

    async def _load_again(self, definition: Definition) -> Loaded:
        """As `_load`; a refusal stands for a while, so that a lost sale does not cost a reading per call."""
        sale = definition.sale.sale
        refusal, until = self._refused.get(sale, (None, 0.0))
        if refusal is not None and time.monotonic() < until:
            raise refusal
        try:
            return await self._load(definition)
        except Refusal as refused:
            self._refused[sale] = (refused, time.monotonic() + REFUSED_FOR_S)
            raise

    async def load(self, definition: Definition) -> int:
        """Takes a definition in, unless a later one is there; answers the latest revision taken in."""
        sale = definition.sale.sale
        loaded = self._loaded.get(sale)
        if loaded is None or loaded.revision < definition.revision:
            loaded = await self._load(definition)
        return loaded.revision

    async def _load(self, definition: Definition) -> Loaded:
        sale = definition.sale.sale
        async with self._loading[sale]:
            if self._seen.is_lost(sale):
                raise _not_loaded(sale)
            loaded = self._loaded.get(sale)
            if loaded is not None and loaded.revision >= definition.revision:
                return loaded
            epoch = await self._epoch(sale)
            loaded = await self._define_latest(definition, epoch)
            if not epoch.loaded:
                await self._epochs.mark_loaded(SERVICE, sale, epoch)
            self._loaded[sale] = loaded
            return loaded

    async def _epoch(self, sale: str) -> Epoch:
        epoch = await self._epochs.current(SERVICE, sale)
        if epoch is None:
            # Where another process is faster, its epoch is the one.
            epoch = await self._epochs.first(SERVICE, sale) or await self._epochs.current(SERVICE, sale)
        if epoch is None:
            raise Refusal("UNAVAILABLE")
        if not epoch.loaded and epoch.number > 1:
            # Somebody fills it again, or began to and died.
            raise self.lost(sale)
        return epoch

    async def _define_latest(self, definition: Definition, epoch: Epoch) -> Loaded:
        """Takes in this definition, or a later one that the store has already."""
        try:
            return await self._define(definition, epoch)
        except WholeBatch as told:
            sale, answer = definition.sale.sale, told.answer
            if answer["revision"] < definition.revision:
                raise Refusal("DEFINITION_FIXED", path=f"sections.{answer['section']}") from None
            return await self._define(await self._later(sale, answer["revision"]), epoch)

    async def _later(self, sale: str, revision: int) -> Definition:
        async with asyncio.timeout(self._bounds.wait_s):
            return await self._definitions.at_least(sale, revision)

    async def _define(self, definition: Definition, epoch: Epoch) -> Loaded:
        sale = definition.sale.sale
        command = _define_command(definition, await self._house_of(definition))
        loaded = _loaded_as(definition, epoch)
        # Only an epoch that nobody ever filled may be filled from nothing: a store that has lost a sale must
        # not sell it once more.
        seen = await self._seen.least(sale, epoch.number, compare=True)
        results: list[Result] = []
        while not results:
            try:
                results = await self._run_once(sale, loaded, [command], create=not epoch.loaded, seen=seen)
            except NotLoaded:
                raise self.lost(sale) from None
        (result,) = results
        if result["word"] not in ("DEFINED", "UNCHANGED"):
            raise refuse_word(result["word"], result.get("detail"))
        self._seen.saw(sale, epoch.number, result["sequence"])
        self._tell(sale, result["sequence"])
        return loaded

    def epoch(self, sale: str) -> int:
        """The epoch that a loaded sale runs under."""
        return self._loaded[sale].epoch

    # ---- a store that lost a sale ----

    def lost(self, sale: str, *, is_another: bool = False) -> Refusal:
        """Refuses the sale's commands from now on: its store does not hold what was published.

        `is_another` says that it is a copy which went on another way.
        """
        self._forget_epoch(sale)
        self._seen.lost(sale, is_another=is_another)
        return _not_loaded(sale)

    def recovered(self, sale: str) -> None:
        """Takes the sale's commands again: its store is filled, under an epoch that is read anew."""
        self._refused.pop(sale, None)
        self._seen.recovered(sale)

    async def holds(self, definition: Definition, epoch: Epoch) -> bool:
        """Whether the store has a sale under this epoch, to the last change that is known of."""
        seen = await self._seen.least_of_another(definition.sale.sale, epoch.number)
        return await self._has(definition, epoch, seen)

    async def _has(self, definition: Definition, epoch: Epoch, seen: int) -> bool:
        sale, loaded = definition.sale.sale, _loaded_as(definition, epoch)
        try:
            await self._run_once(sale, loaded, [{"op": "ledger"}], seen=seen)
        except WholeBatch:
            # It has a later definition.
            return True
        except NotLoaded:
            return False
        return True

    async def begin_filling(self, definition: Definition, epoch: Epoch) -> None:
        """Empties the sale's store and lays it out; from here on nobody is answered under an earlier epoch.

        Raises NotLoaded where the store is at a later epoch already.
        """
        command = _define_command(definition, await self._house_of(definition))
        loaded = _loaded_as(definition, epoch)
        await self._run_once(definition.sale.sale, loaded, [command], filling="begin", seen=0)

    async def fill(self, definition: Definition, epoch: Epoch, part: Command) -> None:
        """Fills in one part. Raises NotLoaded where somebody else began anew, or the store is lost again."""
        loaded = _loaded_as(definition, epoch)
        await self._run_once(definition.sale.sale, loaded, [part], filling="go on", seen=0)

    def forget(self, sale: str) -> None:
        """Lets go of an archived sale."""
        self._forget_epoch(sale)
        self._houses.pop(sale, None)
        self._refused.pop(sale, None)
        self._seen.forget(sale)
        self._batchers.drop(sale)
        self._loading.drop(sale)

    async def drop(self, sale: str, published: int) -> None:
        """Frees a settled sale's keys, if every change up to its last is published.

        Raises Refusal WRONG_PHASE, SALE_NOT_SETTLED or UNAVAILABLE.
        """
        epoch = await self._epochs.current(SERVICE, sale)
        command: Command = {"op": "drop", "published": published}
        # Asked before it is said: what is refused leaves nothing behind.
        (may,) = await self._run(sale, [{**command, "ask": True}])
        if may["word"] != "DROPPABLE":
            raise refuse_word(may["word"], may.get("detail"))
        # Said before it is done: nobody who finds the store empty may fill it again.
        marked = epoch and await self._epochs.mark_dropped(SERVICE, sale, epoch)
        if marked is None:
            raise Refusal("UNAVAILABLE")
        (result,) = await self._run(sale, [command])
        if result["word"] != "DROPPED":
            await self._epochs.mark_dropped(SERVICE, sale, marked, dropped=False)
            raise refuse_word(result["word"], result.get("detail"))

    async def is_dropped(self, definition: Definition) -> bool:
        """Whether the sale's keys were freed, or there never were any."""
        sale = definition.sale.sale
        epoch = await self._epochs.current(SERVICE, sale)
        if epoch is None:
            return True
        return epoch.dropped and not await self._has(definition, epoch, seen=0)


def _not_loaded(sale: str) -> Refusal:
    return Refusal("SALE_NOT_LOADED", sale=sale)


def _define_command(definition: Definition, house: House) -> Command:
    return {
        "op": "define",
        "revision": definition.revision,
        "def": definition_for_script(definition.sale, house.layouts),
        "layouts": {
            section: {"layout": layout.packed, "runs": layout.runs}
            for section, layout in house.layouts.items()
        },
    }


def _loaded_as(definition: Definition, epoch: Epoch) -> Loaded:
    sections = tuple(section.id for section in definition.sale.spec.sections)
    return Loaded(epoch.number, definition.revision, sections)


def _keys(sale: str, sections: Sequence[str]) -> list[str]:
    named = [key_of(sale, name) for name in KEYS]
    for section in sections:
        named += [key_of(sale, f"{name}:{section}") for name in SECTION_KEYS]
    return named
