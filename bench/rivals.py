"""The same reservation as the usual designs do it: by a row lock in Postgres, by a lock per seat in Redis.

- A row lock: `select … for update` on the section's counter, which is then written, with a row for the hold,
  in one transaction.
- A lock per seat, as Redlock's description has it with one Redis: `set nx px` with a token of one's own, the
  seat's row in Postgres, and a script that deletes the lock if it is still one's own. Everyone wants another
  seat, so nobody ever waits for a lock.

Both are methods on the same server as ours, behind the same interceptor, called in the same way: what
differs is what they do. They are at an advantage: they have no line, no limit per buyer, no events and no
idempotence, the lock's Redis does not write to its disk, and each runs with the pool that suits it best of
those tried. All of them answer when the reservation is on disk. Beside them the same without any service
before them, and the row lock within one statement, which few do.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import count

import asyncpg
from rich.console import Console

from bench.designs import Designs, Pool
from bench.ground import BUYER, DURABLE, Ground, ground, sale
from bench.hall import redis_server
from bench.holding import Holding
from bench.rounds import Rounds, Subject, interleaved
from bench.served.rivals import LARGEST, OPEN, ROW_LOCK, SEAT_LOCK
from bench.table import Goal, table, told
from bench.wire import Call, Prepared
from services.kit.redis import connect

BATCHED_GOAL, UNARY_GOAL = 30, 3
ROUNDS = 5
ROUND_S, TRIAL_S = 1.0, 0.6
POOLS = (4, 8, 16, LARGEST)
CAPACITY = 1_000_000
# Each design's buyers are others, and so are those of each way to call it.
APART = 100_000_000

UNARY, STREAM = "ours, unary Hold", "ours, ApplyStream"
ROW, SEAT = "row lock in Postgres", "lock per seat, row in Postgres"
BARE = "  without a service"
STATEMENT = "  in one statement, without a service"

Reserve = Callable[[Pool, int], Awaitable[None]]
"""Reserves for a buyer of this number."""


class Served:
    """One of the designs, as a method of the server's."""

    def __init__(self, found: Ground, path: str, first: int) -> None:
        self._found = found
        self._path = path
        self._number = count(first)
        self.size = POOLS[0]
        """Of the pool."""
        self._prepared = Prepared(self._calls())

    async def tune(self) -> None:
        """Takes the pool with which it is fastest."""
        rates = []
        for self.size in POOLS:
            self._prepared = Prepared(self._calls())
            rates.append((await self.once(), self.size))
        _, self.size = max(rates)
        self._prepared = Prepared(self._calls())

    async def once(self) -> float:
        """Reservations a second, one in each call."""
        return (await self._found.play(self._prepared)).all(0).rate

    def _calls(self) -> Iterator[Call]:
        size = self.size
        for number in self._number:
            request = f"{size} {number}".encode()
            yield self._found.caller.call(self._path, request, (BUYER, f"buyer-{number:09d}"))


class Bare:
    """One of the designs, within this process."""

    def __init__(self, url: str, reserve: Reserve, first: int) -> None:
        self._url = url
        self._reserve = reserve
        self._number = count(first)
        self.size = POOLS[0]
        """Of the pool."""

    async def tune(self) -> None:
        """Takes the pool with which it is fastest."""
        rates = []
        for self.size in POOLS:
            async with self._pool() as pool:
                rates.append((await self._drive(pool, TRIAL_S), self.size))
        _, self.size = max(rates)

    async def once(self) -> float:
        """Reservations a second, as many on their way as there are connections."""
        async with self._pool() as pool:
            return await self._drive(pool, ROUND_S)

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[Pool]:
        async with asyncpg.create_pool(self._url, min_size=self.size, max_size=self.size) as pool:
            yield pool

    async def _drive(self, pool: Pool, seconds: float) -> float:
        began = time.perf_counter()
        ends = began + seconds

        async def lane() -> int:
            done = 0
            while time.perf_counter() < ends:
                await self._reserve(pool, next(self._number))
                done += 1
            return done

        done = await asyncio.gather(*(lane() for _ in range(self.size)))
        return sum(done) / (time.perf_counter() - began)


async def measure(console: Console) -> bool:
    """Tells the rates. True where ours are as many times those of the usual designs as the goals say."""
    async with redis_server() as locks_url, ground("inventory", "bench.served.rivals") as found:
        locks = connect(locks_url)
        try:
            await locks.config_set("appendonly", "no")
            await found.sync(DURABLE)
            return _tell(console, *await _measured(found, Designs(locks), locks_url))
        finally:
            await locks.aclose()


async def _measured(found: Ground, designs: Designs, locks_url: str) -> tuple[Rounds, Mapping[str, int]]:
    """The rates, and the pools that suited each."""
    url = found.running.postgres_url
    await designs.prepare(url)
    await found.call(OPEN, f"{url}\n{locks_url}".encode())
    served = {ROW: Served(found, ROW_LOCK, APART), SEAT: Served(found, SEAT_LOCK, 2 * APART)}
    bare = {
        ROW + BARE: Bare(url, designs.row_lock, 3 * APART),
        ROW + STATEMENT: Bare(url, designs.one_statement, 4 * APART),
        SEAT + BARE: Bare(url, designs.seat_lock, 5 * APART),
    }
    rivals: Mapping[str, Served | Bare] = {**served, **bare}
    for rival in rivals.values():
        await rival.tune()
    await found.organiser.define("ours", sale(CAPACITY))
    holding = Holding(found, "ours")
    subjects: dict[str, Subject] = {UNARY: holding.unary, STREAM: holding.batched}
    rounds = await interleaved(subjects | {name: rival.once for name, rival in rivals.items()}, ROUNDS)
    await holding.check()
    return rounds, {name: rival.size for name, rival in rivals.items()}


def _tell(console: Console, rounds: Rounds, sizes: Mapping[str, int]) -> bool:
    made = table("Reservations on disk", "", "rate", "pool", "ours batched", "goal", "unary", "goal")
    goals: list[Goal] = []
    for name in (UNARY, STREAM):
        made.add_row(name, f"{rounds.of(name):,.0f}/s", "", "", "", "", "")
    for name in (ROW, ROW + BARE, ROW + STATEMENT, SEAT, SEAT + BARE):
        both = [
            Goal(rounds.ratio(STREAM, name), least=BATCHED_GOAL),
            Goal(rounds.ratio(UNARY, name), least=UNARY_GOAL),
        ]
        judged = name in (ROW, SEAT)
        goals += both if judged else []
        cells = [cell for goal in both for cell in (f"{goal.number:.1f} ×", str(goal) if judged else "")]
        shown = name if judged else name.removeprefix(ROW).removeprefix(SEAT)
        made.add_row(shown, f"{rounds.of(name):,.0f}/s", str(sizes[name]), *cells)
    return told(console, made, goals)
