"""The two usual designs of a reservation, each a coroutine that reserves for one buyer."""

import secrets
from pathlib import Path
from typing import TypeAlias

import asyncpg
from redis.asyncio import Redis as Client

from services.kit.sql import Queries

CAPACITY = 1_000_000
SECTION = "hall"
LOCK_MS = 10_000
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class Designs:
    """How each reserves. asyncpg prepares every statement when it is first used."""

    def __init__(self, locks: Client) -> None:
        """`locks` is the Redis that locks are taken in."""
        self._sql = Queries.load(Path(__file__).with_name("sql"))
        self._locks = locks
        self._release = locks.register_script(RELEASE)

    async def prepare(self, url: str) -> None:
        """Makes the tables. Raises AssertionError where Postgres answers before it has written."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(self._sql["schema"])
            await connection.execute(self._sql["open_section"], SECTION, CAPACITY)
            for setting in ("synchronous_commit", "fsync"):
                if await connection.fetchval(f"show {setting}") != "on":
                    raise AssertionError(f"{setting} is off: reservations would not be on disk")
        finally:
            await connection.close()

    async def row_lock(self, pool: Pool, number: int) -> None:
        """Locks the section's counter, looks, writes it and a row for the hold."""
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
