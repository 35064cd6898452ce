"""The same reservation as the usual designs do it: by a row lock in Postgres, by a lock per seat in Redis.

- A row lock: `select … for update` on the section's counter, which is then written, with a row for the hold,
  in one transaction. Beside it the same in one statement, which few do: the lock is the row's all the same.
- A lock per seat, as Redlock's description has it with one Redis: `set nx px` with a token of one's own, the
  seat's row in Postgres, and a script that deletes the lock if it is still one's own. Everyone wants another
  seat, so nobody ever waits for a lock.

They are at an advantage: no service stands before them, they have no line, no limit per buyer, no events and
no idempotence; statements are prepared, the lock's Redis does not write to its disk, and each runs with the
pool that suits it best of those tried. Ours is measured through gRPC with everything it does, on the same
machine in the same rounds. All of them answer when the reservation is on disk.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TypeAlias

import asyncpg
from redis.asyncio import Redis as Client
from rich.console import Console

from bench.ground import DURABLE, ground, sale
from bench.hall import own_redis
from bench.holding import Holding
from bench.rounds import Rounds, interleaved
from bench.table import Goal, table, told
from services.kit.sql import Queries

BATCHED_GOAL, UNARY_GOAL = 30, 3
ROUNDS = 5
ROUND_S, TRIAL_S = 1.5, 0.7
POOLS = (4, 8, 16, 32, 64)
CAPACITY = 1_000_000
SECTION = "hall"
LOCK_MS = 10_000
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

UNARY, STREAM = "ours, unary Hold", "ours, ApplyStream"
ROW, STATEMENT, LOCK = "row lock in Postgres", "the same in one statement", "lock per seat, row in Postgres"

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Reserve = Callable[[Pool, int], Awaitable[None]]
"""Reserves for a buyer of this number."""


class Rival:
    """One of the usual designs."""

    def __init__(self, url: str, reserve: Reserve) -> None:
        self._url = url
        self._reserve = reserve
        self._number = count(1)
        self.size = POOLS[0]
        """Of the pool."""

    async def tune(self) -> None:
        """Takes the pool with which it is fastest."""
        rates = []
        for self.size in POOLS:
            async with self._pool() as pool:
                rates.append((await self._drive(pool, TRIAL_S), self.size))
        _, self.size = max(rates)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Callable[[], Awaitable[float]]]:
        """What measures a round."""
        async with self._pool() as pool:

            async def once() -> float:
                return await self._drive(pool, ROUND_S)

            yield once

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[Pool]:
        async with asyncpg.create_pool(self._url, min_size=self.size, max_size=self.size) as pool:
            yield pool

    async def _drive(self, pool: Pool, seconds: float) -> float:
        """Reservations a second, with as many on their way as there are connections."""
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


class Designs:
    """How each reserves."""

    def __init__(self, locks: Client) -> None:
        self._sql = Queries.load(Path(__file__).with_name("sql"))
        self._locks = locks
        self._release = locks.register_script(RELEASE)

    async def prepare(self, url: str) -> None:
        """Makes the tables."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(self._sql["schema"])
            await connection.execute(self._sql["open_section"], SECTION, CAPACITY)
            if await connection.fetchval("show synchronous_commit") != "on":
                raise AssertionError("Postgres answers before it has written")
        finally:
            await connection.close()

    async def row_lock(self, pool: Pool, number: int) -> None:
        """Locks the counter, looks, writes both rows."""
        async with pool.acquire() as connection, connection.transaction():
            free = await connection.fetchval(self._sql["lock_section"], SECTION)
            if free < 1:
                raise AssertionError("the section is sold out")
            await connection.execute(self._sql["take_from_section"], SECTION, 1)
            await connection.execute(self._sql["insert_hold"], SECTION, f"buyer-{number}", 1)

    async def one_statement(self, pool: Pool, number: int) -> None:
        """The same without a way back and forth under the lock."""
        async with pool.acquire() as connection:
            done = await connection.execute(self._sql["hold_in_one_statement"], SECTION, f"buyer-{number}", 1)
            if done != "INSERT 0 1":
                raise AssertionError("the section is sold out")

    async def seat_lock(self, pool: Pool, number: int) -> None:
        """Locks the seat, writes its row, lets go of the lock."""
        key, token = f"lock:{SECTION}:{number}", secrets.token_hex(16)
        if not await self._locks.set(key, token, nx=True, px=LOCK_MS):
            raise AssertionError(f"somebody else has the lock of seat {number}")
        try:
            async with pool.acquire() as connection:
                await connection.execute(self._sql["insert_seat"], SECTION, number, f"buyer-{number}")
        finally:
            await self._release(keys=[key], args=[token])


async def measure(console: Console) -> bool:
    """Tells the rates. True where ours are as many times those of the usual designs as the goals say."""
    async with ground("inventory") as found, own_redis() as locks:
        await found.sync(DURABLE)
        await locks.config_set("appendonly", "no")
        designs, url = Designs(locks), found.running.postgres_url
        await designs.prepare(url)
        rivals = {
            ROW: Rival(url, designs.row_lock),
            STATEMENT: Rival(url, designs.one_statement),
            LOCK: Rival(url, designs.seat_lock),
        }
        for rival in rivals.values():
            await rival.tune()
        await found.organiser.define("ours", sale(CAPACITY))
        holding = Holding(found, "ours")
        async with (
            rivals[ROW].running() as row,
            rivals[STATEMENT].running() as statement,
            rivals[LOCK].running() as lock,
        ):
            rounds = await interleaved(
                {UNARY: holding.unary, STREAM: holding.batched, ROW: row, STATEMENT: statement, LOCK: lock},
                ROUNDS,
            )
        await holding.check()
    return _tell(console, rounds, {name: rival.size for name, rival in rivals.items()})


def _tell(console: Console, rounds: Rounds, sizes: dict[str, int]) -> bool:
    made = table("Reservations on disk", "", "rate", "pool", "ours batched", "goal", "unary", "goal")
    goals: list[Goal] = []
    for name in (UNARY, STREAM, ROW, STATEMENT, LOCK):
        rate = f"{rounds.of(name):,.0f}/s"
        if name not in sizes:
            made.add_row(name, rate, "", "", "", "", "")
            continue
        batched, unary = (rounds.ratio(ours, name) for ours in (STREAM, UNARY))
        cells: Sequence[str] = ("", "")
        if name != STATEMENT:
            both = [Goal(batched, least=BATCHED_GOAL), Goal(unary, least=UNARY_GOAL)]
            goals += both
            cells = [str(goal) for goal in both]
        made.add_row(
            *(name, rate, str(sizes[name]), f"{batched:.1f} ×", cells[0], f"{unary:.1f} ×", cells[1])
        )
    return told(console, made, goals)
