"""What a join costs beside a call that does nothing, and what a line of a million costs at all.

One queue process, as the embedded stack runs it, with every write on disk before its answer. First rounds of
an empty call on the same server, unary joins, JoinMany, and the join script straight at Redis. Then lines of
a thousand to a million, joined in turn: what one more join takes. Then the million's memory, and 20,000 of
its buyers who watch while the sale opens.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from catraca.queue.v1 import queue_pb2 as queue
from redis.asyncio import Redis as Client
from rich.console import Console

from bench.ground import BUYER, DURABLE, Ground, ground, sale
from bench.joining import Joining, Straight, subject_of
from bench.rounds import Rounds, interleaved
from bench.table import Goal, table, told
from local.rush.sale import timestamp
from services.queue.store import keys_of

UNARY_GOAL, BATCHED_GOAL = 0.85, 100_000
GROWTH_GOAL, BYTES_GOAL = 1.3, 100
ROUNDS = 5
LOBBY_S = 3600.0
LINES = (1_000, 10_000, 100_000, 1_000_000)
WATCHERS = 20_000
OPENS_IN_S = 3.0
KNOWN_WITHIN_S = 90.0
TICKETS = 50_000
WATCH = "/catraca.queue.v1.QueueService/Watch"
WATCHES_AT_ONCE = 200
# Far from what the service makes of subjects.
OTHERS = 10**12
MB = 1024 * 1024

EMPTY, UNARY, MANY, STRAIGHT = "empty unary call", "unary Join", "JoinMany", "script straight at Redis"


async def measure(console: Console) -> bool:
    """Tells what was found. True where every goal is met."""
    async with ground("queue") as found:
        await found.sync(DURABLE)
        rates_met = _tell_rates(console, await _rates(found))
        lines = Lines(found)
        before = await _used(found.redis)
        await lines.fill()
        cost = Cost(lines.absorbed_s, *await _bytes(found.redis, lines.name(LINES[-1]), before))
        growth_met = _tell_growth(console, await lines.grown())
        opened = await _opened(found, lines.name(LINES[-1]))
    return _tell_million(console, cost, opened) and rates_met and growth_met


# ---- rates ----


async def _rates(found: Ground) -> Rounds:
    await found.organiser.define("joins", sale(TICKETS, line=True, opens_in_s=LOBBY_S))
    joining, straight = Joining(found, "joins"), Straight(found.redis, "straight")
    await straight.open()
    rounds = await interleaved(
        {EMPTY: found.empty, UNARY: joining.unary, MANY: joining.batched, STRAIGHT: straight.batched}, ROUNDS
    )
    await joining.check()
    return rounds


def _tell_rates(console: Console, rounds: Rounds) -> bool:
    made = table("Joins of one queue process", "", "rate", "ratio", "of", "goal")
    unary, many = (
        Goal(rounds.ratio(UNARY, EMPTY), least=UNARY_GOAL),
        Goal(rounds.of(MANY), least=BATCHED_GOAL),
    )
    made.add_row(EMPTY, f"{rounds.of(EMPTY):,.0f}/s", "", "", "")
    made.add_row(UNARY, f"{rounds.of(UNARY):,.0f}/s", f"{unary.number:.2f}", EMPTY, str(unary))
    ratio = f"{rounds.ratio(MANY, STRAIGHT):.2f}"
    made.add_row(MANY, f"{rounds.of(MANY):,.0f}/s", ratio, STRAIGHT, f"{many}")
    made.add_row(STRAIGHT, f"{rounds.of(STRAIGHT):,.0f}/s", "", "", "")
    return told(console, made, [unary, many])


# ---- growth ----


class Lines:
    """Lines of every length, each a sale of its own whose lobby is open."""

    def __init__(self, found: Ground) -> None:
        self._found = found
        self._joining = {size: Joining(found, self.name(size)) for size in LINES}
        self._straight = {
            size: Straight(found.redis, self.name(size), OTHERS * (place + 1))
            for place, size in enumerate(LINES)
        }
        self.absorbed_s = 0.0
        """How long the longest took to join."""

    @staticmethod
    def name(size: int) -> str:
        """The sale with a line of this length."""
        return f"line-{size}"

    async def fill(self) -> None:
        """Lets everybody join; the longest line last, and alone."""
        for size, joining in self._joining.items():
            await self._found.organiser.define(self.name(size), sale(TICKETS, line=True, opens_in_s=LOBBY_S))
            await self._found.at_rest()
            self.absorbed_s = await joining.join_many(size)
            await joining.check()
        await self._found.at_rest()

    async def grown(self) -> tuple[Rounds, Rounds]:
        """Milliseconds of a unary join, and microseconds of script for one, by the line's length."""
        latency = await interleaved(
            {str(size): joining.one_by_one for size, joining in self._joining.items()}, ROUNDS
        )
        script = await interleaved(
            {str(size): straight.script_us for size, straight in self._straight.items()}, ROUNDS
        )
        return latency, script


def _tell_growth(console: Console, grown: tuple[Rounds, Rounds]) -> bool:
    made = table("One more join", "in line", "unary, ms", "of the shortest", "script, µs", "of the shortest")
    first, last = str(LINES[0]), str(LINES[-1])
    for size in LINES:
        cells = [f"{size:,}"]
        for rounds in grown:
            cells += [f"{rounds.of(str(size)):.2f}", f"{rounds.ratio(str(size), first):.2f}"]
        made.add_row(*cells)
    goals = [Goal(rounds.ratio(last, first), most=GROWTH_GOAL) for rounds in grown]
    made.add_row("goal", "", str(goals[0]), "", str(goals[1]))
    return told(console, made, goals)


# ---- a million ----


@dataclass(frozen=True)
class Cost:
    """What a million who wait cost."""

    absorbed_s: float
    waiting_bytes: float
    """Of each buyer's place in the line."""
    events_bytes: float
    """Of each buyer's event in the outbox, which goes some minutes after JetStream has it."""
    used_bytes: float
    """Of Redis' used memory, for each buyer of all lines but for the events."""


async def _bytes(client: Client, name: str, used_before: int) -> tuple[float, float, float]:
    sizes: dict[str, int] = {}
    for key in keys_of(name):
        sizes[key.rpartition(":")[2]] = await client.memory_usage(key, samples=0) or 0
    events = sizes.pop("out")
    others = 0
    for size in LINES[:-1]:
        others += await client.memory_usage(keys_of(Lines.name(size))[4], samples=0) or 0
    used = await _used(client) - used_before - events - others
    return sum(sizes.values()) / LINES[-1], events / LINES[-1], used / sum(LINES)


async def _used(client: Client) -> int:
    return int((await client.info("memory"))["used_memory"])


@dataclass(frozen=True)
class Opened:
    """What those who watch cost, and when they knew."""

    watchers: int
    idle_bytes: int
    watched_bytes: int
    first_s: float
    last_s: float


class Watching:
    """Buyers who watch their place."""

    def __init__(self, found: Ground, name: str) -> None:
        self._found = found
        self._name = name
        self.told = 0
        """How many have heard anything."""
        self.knew: list[float] = []
        """When each first knew their place, by the machine's clock."""
        self.ended: list[int] = []

    async def begin(self) -> None:
        """Opens the streams, some at a time."""
        request = queue.WatchRequest(sale=self._name).SerializeToString()
        for number in range(WATCHERS):
            call = self._found.caller.call(WATCH, request, (BUYER, subject_of(number)))
            wire = self._found.wires[number % len(self._found.wires)]
            wire.send(call, self.ended.append, self._listener())
            while number - self.told > WATCHES_AT_ONCE:
                await self._breathe()
        while self.told < WATCHERS:
            await self._breathe()

    async def all_know(self, within_s: float) -> None:
        """Returns when each knows their place."""
        async with asyncio.timeout(within_s):
            while len(self.knew) < WATCHERS:
                await self._breathe()

    async def _breathe(self) -> None:
        if self.ended:
            raise AssertionError(f"streams ended with status {set(self.ended)}")
        await asyncio.sleep(0.001)

    def _listener(self) -> "_Listener":
        return _Listener(self)


class _Listener:
    """One buyer's ear."""

    __slots__ = ("_heard", "_knows", "_of")

    def __init__(self, of: Watching) -> None:
        self._of = of
        self._heard = self._knows = False

    def __call__(self, message: bytes) -> None:
        if not self._heard:
            self._heard = True
            self._of.told += 1
        if not self._knows and queue.WatchResponse.FromString(message).place.HasField("place"):
            self._knows = True
            self._of.knew.append(time.time())


async def _opened(found: Ground, name: str) -> Opened:
    """Opens the sale while some of its buyers watch."""
    (pid,) = found.running.pids["queue"]
    process = psutil.Process(pid)
    idle = process.memory_info().rss
    watching = Watching(found, name)
    await watching.begin()
    watched = process.memory_info().rss
    spec = (await found.organiser.sale(name)).spec
    opens_at = time.time() + OPENS_IN_S
    spec.window.opens_at.CopyFrom(timestamp(opens_at))
    await found.organiser.define(name, spec)
    await watching.all_know(KNOWN_WITHIN_S)
    knew: Sequence[float] = watching.knew
    return Opened(WATCHERS, idle, watched, min(knew) - opens_at, max(knew) - opens_at)


def _tell_million(console: Console, cost: Cost, opened: Opened) -> bool:
    made = table("A million in line", "", "found", "goal")
    goal = Goal(cost.waiting_bytes, most=BYTES_GOAL)
    rate = LINES[-1] / cost.absorbed_s
    made.add_row("time to join, through JoinMany", f"{cost.absorbed_s:.1f} s, {rate:,.0f}/s", "")
    made.add_row("Redis, for each who waits", f"{cost.waiting_bytes:.1f} bytes", str(goal))
    made.add_row("  and for some minutes their event", f"{cost.events_bytes:.1f} bytes", "")
    made.add_row("  by used memory, events apart", f"{cost.used_bytes:.1f} bytes", "")
    each = (opened.watched_bytes - opened.idle_bytes) / opened.watchers
    made.add_row("queue process before anybody watches", f"{opened.idle_bytes / MB:,.0f} MB", "")
    made.add_row(f"  with {opened.watchers:,} open Watch streams", f"{opened.watched_bytes / MB:,.0f} MB", "")
    made.add_row("  for each stream", f"{each / 1024:.1f} kB", "")
    made.add_row("from opening until the first watcher knows", f"{opened.first_s:.1f} s", "")
    made.add_row("from opening until the last one does", f"{opened.last_s:.1f} s", "")
    return told(console, made, [goal])
