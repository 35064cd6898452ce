"""How long a batch keeps everyone else from Redis: the longest run of the script, whatever is in the batch.

Batches of as many commands as a replica gathers at most, of the largest kinds there are, alone and mixed, in
a sale of a million units and in a stadium. A run ends where its budget is spent, and the rest goes into the
next one. What is told of each run is the lesser of two times, neither of which can be less than the script's:
Redis' own clock, which goes on while the machine does other things, and what the processor gave to Redis from
the command to its answer.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any, Self

from redis.asyncio import Redis as Client
from rich.console import Console

from bench.ground import buyer
from bench.hall import BATCH, Hall, hold, own_redis, script_us
from bench.table import Goal, table, told
from services.kit.plans.layout import Layout, layouts
from tests.plans import seated_section, spec_of_seats, stadium_plan

GOAL_MS = 5.0
ROUNDS = 3
CAPACITY = 1_000_000
SEATS = 50_000
# The most that a contract lets one buyer have, one block take, and what a leader calls at once.
LIMIT, BLOCKED, CALLED = 100, 1000, 200
USUAL = 4
# Holds that are due at one moment, and the time they had.
DUE, DUE_MS = 2000, 1500

Command = dict[str, Any]
Batches = Callable[[], Sequence[Command]]


@dataclass(frozen=True, slots=True)
class Order:
    """What an order's commands name."""

    buyer: str
    hold_id: str
    order_id: str

    def command(self, op: str) -> Command:
        """A command that names it."""
        return {"op": op, "buyer": self.buyer, "hold_id": self.hold_id, "order_id": self.order_id}


class Meter:
    """What runs cost a Redis on this machine; the kernel says how long its one thread had a processor."""

    def __init__(self, client: Client, pid: int) -> None:
        self.client = client
        self._stat = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self.times_ms: list[float] = []

    @classmethod
    async def of(cls, client: Client) -> Self:
        """The meter of the Redis that answers this client."""
        return cls(client, int((await client.info("server"))["process_id"]))

    def hall(self, sale: str, capacity: int, layout: Layout | None = None) -> "MeteredHall":
        """A sale whose runs are metered."""
        return MeteredHall(self.client, sale, capacity, layout, self)

    @asynccontextmanager
    async def metering(self) -> AsyncIterator[None]:
        """Notes what a run takes that happens meanwhile."""
        before_us, before_ns = await script_us(self.client), self._on_cpu_ns()
        yield
        on_cpu_ns = self._on_cpu_ns() - before_ns
        clocked_us = await script_us(self.client) - before_us
        self.times_ms.append(min(on_cpu_ns / 1_000_000, clocked_us / 1000))

    def _on_cpu_ns(self) -> int:
        return int(self._stat.read_text().split()[0])


@dataclass
class MeteredHall(Hall):
    """A sale whose runs are metered, one after the other."""

    meter: Meter | None = None

    async def run(self, *commands: Command, create: bool = False) -> list[dict[str, Any]]:
        """As Hall.run."""
        assert self.meter is not None
        async with self.meter.metering():
            return await super().run(*commands, create=create)


class Batch:
    """Makes batches of commands that succeed in one sale. Orders are of as many units as one may have."""

    def __init__(self) -> None:
        self._number = count(1)
        self._claimed: list[Order] = []
        self._held: list[Order] = []
        self._sold: list[Order] = []
        self._blocks: list[str] = []
        self._watermark = 0
        self._random = random.Random(5)

    def holds(self, quantity: int, many: int = BATCH) -> list[Command]:
        """HOLD of so many units each, without an order."""
        numbers = islice(self._number, many)
        return [hold(buyer(number), f"hold-{number:09d}", quantity) for number in numbers]

    def seats(self, units: Sequence[int]) -> list[Command]:
        """HOLD of these seats, as many for each buyer as one may have."""
        groups = [list(units[at : at + LIMIT]) for at in range(0, len(units), LIMIT)]
        return [
            hold(buyer(number), f"hold-{number:09d}", len(group), units=group)
            for number, group in zip(self._number, groups, strict=False)
        ]

    def claims(self, many: int = BATCH) -> list[Command]:
        """CLAIM of an order."""
        items = hold("", "", LIMIT)["items"]
        orders = [
            Order(buyer(number), f"hold-{number:09d}", buyer(number + CAPACITY))
            for number in islice(self._number, many)
        ]
        self._claimed += orders
        return [
            {"op": "claim", "order_id": each.order_id, "buyer": each.buyer, "items": items} for each in orders
        ]

    def held(self, many: int = BATCH) -> list[Command]:
        """HOLD of what was claimed."""
        taken = self._moved(self._claimed, self._held, many)
        return [each.command("hold") for each in taken]

    def commits(self, many: int = BATCH) -> list[Command]:
        """COMMIT of what was held."""
        taken = self._moved(self._held, self._sold, many)
        return [each.command("commit") for each in taken]

    def returns(self, many: int = BATCH) -> list[Command]:
        """RETURN of what was sold."""
        taken = self._moved(self._sold, [], many)
        return [{**each.command("return"), "units": []} for each in taken]

    @staticmethod
    def _moved(source: list[Order], target: list[Order], many: int) -> list[Order]:
        taken = source[:many]
        del source[:many]
        target += taken
        return taken

    def blocks(self, many: int) -> list[Command]:
        """BLOCK of as many units as one may take."""
        made = []
        for number in islice(self._number, many):
            block_id, items = f"block-{number:09d}", hold("", "", BLOCKED)["items"]
            self._blocks.append(block_id)
            made.append({"op": "block", "block_id": block_id, "items": items})
        return made

    def unblocks(self, many: int) -> list[Command]:
        """UNBLOCK of what was blocked."""
        taken, self._blocks = self._blocks[:many], self._blocks[many:]
        return [{"op": "unblock", "block_id": each} for each in taken]

    def calls(self) -> list[Command]:
        """CALL of as many buyers as a leader sends."""
        start = self._watermark
        end = self._watermark = start + CALLED
        callees = [{"buyer": buyer(place), "place": place, "joined_at_ms": 0} for place in range(start, end)]
        return [{"op": "call", "from": start, "to": end, "callees": callees}]

    def mixed(self) -> list[Command]:
        """As many of each as there are to end, in any order; the rest are holds."""
        some = BATCH // 8
        commands = [
            *(self.returns(some) + self.commits(some) + self.held(some) + self.claims(some)),
            *(self.unblocks(some // 2) + self.blocks(some // 2) + self.holds(1, some)),
        ]
        commands += self.holds(LIMIT, BATCH - len(commands))
        self._random.shuffle(commands)
        return commands


async def measure(console: Console) -> bool:
    """Tells the longest runs. True where none is longer than the goal."""
    made = table("Runs of the ledger's script, in ms", f"batches of {BATCH}", "runs", "median", "longest")
    longest = 0.0
    async with own_redis() as client:
        meter = await Meter.of(client)
        for name, run in await _kinds(meter):
            meter.times_ms.clear()
            for _ in range(ROUNDS):
                await run()
            times = list(meter.times_ms)
            longest = max(longest, *times)
            made.add_row(name, str(len(times)), f"{median(times):.2f}", f"{max(times):.2f}")
    goal = Goal(longest, most=GOAL_MS)
    made.add_row("goal", "", "", str(goal))
    return told(console, made, [goal])


async def _kinds(meter: Meter) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    field, stadium, chosen, line = await _halls(meter)
    batch, seated, called = Batch(), Batch(), Batch()
    units = list(range(SEATS))
    random.Random(7).shuffle(units)

    def running(hall: Hall, commands: Batches) -> Callable[[], Awaitable[object]]:
        async def run() -> None:
            await _succeed(hall, commands())

        return run

    def named() -> Sequence[Command]:
        taken = [units.pop() for _ in range(LIMIT * 100)]
        return seated.seats(taken)

    return [
        ("holds of 1 unit", running(field, lambda: batch.holds(1))),
        (f"holds of {LIMIT} units", running(field, lambda: batch.holds(LIMIT))),
        (f"claims of {LIMIT} units", running(field, batch.claims)),
        (f"holds of orders of {LIMIT} units", running(field, batch.held)),
        (f"commits of {LIMIT} units", running(field, batch.commits)),
        (f"returns of {LIMIT} units", running(field, batch.returns)),
        (f"blocks of {BLOCKED} units, 16", running(field, lambda: batch.blocks(16))),
        (f"unblocks of {BLOCKED} units, 16", running(field, lambda: batch.unblocks(16))),
        ("all of these mixed", _mixed(field, batch)),
        (f"best {USUAL} of {SEATS} seats", running(stadium, lambda: seated.holds(USUAL))),
        (f"holds of {LIMIT} seats by name, 100", running(chosen, named)),
        (f"a call of {CALLED} buyers", running(line, called.calls)),
        (f"{DUE} holds of {USUAL} units end", _ending(meter, USUAL, DUE)),
        (f"{DUE // 10} holds of {LIMIT} units end", _ending(meter, LIMIT, DUE // 10)),
    ]


async def _halls(meter: Meter) -> tuple[Hall, Hall, Hall, Hall]:
    plan = stadium_plan(SEATS)
    laid = layouts(spec_of_seats(seated_section("hall", *plan.categories)), plan)["hall"]
    field, stadium = meter.hall("field", CAPACITY), meter.hall("stadium", SEATS, laid)
    chosen, line = meter.hall("chosen", SEATS, laid), meter.hall("line", CAPACITY)
    for hall in (field, stadium, chosen):
        await hall.open()
    await line.open(line=True)
    return field, stadium, chosen, line


def _mixed(hall: Hall, batch: Batch) -> Callable[[], Awaitable[object]]:
    """Mixed batches; before each something is sold and blocked that it gives back, which counts too."""

    async def run() -> None:
        for commands in (batch.claims(3 * BATCH // 8), batch.held(BATCH // 4), batch.commits(BATCH // 8)):
            await _succeed(hall, commands)
        await _succeed(hall, batch.blocks(BATCH // 16))
        await _succeed(hall, batch.mixed())

    return run


def _ending(meter: Meter, quantity: int, many: int) -> Callable[[], Awaitable[object]]:
    """Holds whose time is over at the same moment, ended by whoever comes by then."""
    sales, batch = count(1), Batch()

    async def run() -> None:
        others = Hall(meter.client, f"others-{quantity}-{next(sales)}", CAPACITY)
        await others.open()
        hall = meter.hall(f"ending-{quantity}-{next(sales)}", CAPACITY)
        await hall.open(hold_ms=DUE_MS)
        await _succeed(hall, batch.holds(quantity, many))
        due = asyncio.get_running_loop().time() + DUE_MS / 1000
        # Others are served meanwhile, as they would be: a processor that has slept is slow at first.
        while asyncio.get_running_loop().time() < due:
            await others.run({"op": "ledger"})
        ends = asyncio.get_running_loop().time() + 10
        while (ledger := (await hall.run_all([{"op": "ledger"}]))[0]["ledger"])["counts"]["held"]:
            if asyncio.get_running_loop().time() > ends:
                raise AssertionError(f"holds did not end: {ledger}")

    return run


async def _succeed(hall: Hall, commands: Sequence[Command]) -> None:
    words = {"hold": "HELD", "call": "CALLED", "return": "RETURNED", "claim": "CLAIMED"}
    words |= {"commit": "COMMITTED", "block": "BLOCKED", "unblock": "UNBLOCKED"}
    for command, result in zip(commands, await hall.run_all(commands), strict=True):
        if result["word"] != words[command["op"]]:
            raise AssertionError(f"{command['op']} was answered with {result}")
