"""The usual designs as methods on the inventory's server: `python -m bench.served.rivals`.

`Open` is told the URLs of Postgres and of the Redis for locks, one on each line. A request of the others is
the size of the pool and the buyer's number, as text.
"""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from bench.designs import Designs, Pool
from bench.served import SERVICE, serve_beside
from services.kit.redis import connect

LARGEST = 40
OPEN, ROW_LOCK, SEAT_LOCK = (f"/{SERVICE}/{name}" for name in ("Open", "RowLock", "SeatLock"))


class Reservations:
    """Reserves by one of the designs, on as many connections of a large pool as a call says."""

    def __init__(self) -> None:
        self._designs: Designs | None = None
        self._pool: Pool | None = None
        self._turns: dict[int, asyncio.Semaphore] = {}

    async def open(self, request: bytes, _context: object) -> bytes:
        """Comes before all others."""
        postgres_url, locks_url = request.decode().split()
        self._pool = await asyncpg.create_pool(postgres_url, min_size=LARGEST, max_size=LARGEST)
        self._designs = Designs(connect(locks_url))
        return b""

    async def row_lock(self, request: bytes, _context: object) -> bytes:
        """By a row lock."""
        return await self._reserve(request, self._opened.row_lock)

    async def seat_lock(self, request: bytes, _context: object) -> bytes:
        """By a lock per seat."""
        return await self._reserve(request, self._opened.seat_lock)

    @property
    def _opened(self) -> Designs:
        assert self._designs is not None, "nobody has said where the servers are"
        return self._designs

    @property
    def _connections(self) -> Pool:
        assert self._pool is not None, "nobody has said where the servers are"
        return self._pool

    async def _reserve(self, request: bytes, reserve: Callable[[Pool, int], Awaitable[None]]) -> bytes:
        size, number = map(int, request.split())
        if size not in self._turns:
            self._turns[size] = asyncio.Semaphore(size)
        async with self._turns[size]:
            await reserve(self._connections, number)
        return b""


if __name__ == "__main__":
    reservations = Reservations()
    serve_beside(
        "services.inventory",
        {
            OPEN: reservations.open,
            ROW_LOCK: reservations.row_lock,
            SEAT_LOCK: reservations.seat_lock,
        },
    )
