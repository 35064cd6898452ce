"""The sandbox's own ledger in SQLite: what it answers is on disk first, so a `kill -9` loses nothing."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

from services.kit.batcher import Batcher

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], object]

BATCH = 500
SCHEMA = """
create table if not exists sessions (
    session_id      text primary key,
    idempotency_key text not null unique,
    request         text not null,
    order_id        text not null,
    sale            text not null,
    amount          integer not null,
    currency        text not null,
    webhook_url     text not null,
    expires_at_ms   integer not null,
    state           text not null check (
        state in ('open', 'processing', 'authorized', 'captured', 'voided', 'refunded')
    ),
    card            text not null default '',
    decide_at_ms    integer not null default 0,
    declines        integer not null default 0,
    captured        integer not null default 0,
    refunded        integer not null default 0
) strict;
create index if not exists sessions_by_sale on sessions (sale);
create index if not exists sessions_undecided on sessions (decide_at_ms) where state = 'processing';
create table if not exists events (
    event_id    text primary key,
    webhook_url text not null,
    body        text not null,
    tries       integer not null default 0,
    next_at_ms  integer not null
) strict;
create index if not exists events_due on events (next_at_ms);
"""


class Ledger:
    """Runs functions on the database, many of them in one transaction: one sync to disk serves them all."""

    def __init__(self, path: Path) -> None:
        # SQLite wants one thread per connection, and one writer is all it has anyway.
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._path = path
        self._batches: Batcher[Work, object] = Batcher(self._run, BATCH, name="sandbox_ledger")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, making it if need be."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once that is on disk. What it raises is raised
        here, and leaves no trace in the ledger."""
        outcome = await self._batches.submit(work)
        if isinstance(outcome, Exception):
            raise outcome
        return cast(T, outcome)

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.executescript(SCHEMA)
        self._connection = connection

    async def _run(self, batch: list[Work]) -> list[object]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, batch)

    def _transact(self, batch: list[Work]) -> list[object]:
        connection = self._connection
        if connection is None:
            raise RuntimeError("the ledger is not open")
        connection.execute("begin immediate")
        try:
            outcomes = [_alone(connection, work) for work in batch]
            connection.execute("commit")
        except BaseException:
            connection.execute("rollback")
            raise
        return outcomes


def _alone(connection: sqlite3.Connection, work: Work) -> object:
    """One work within the batch's transaction: if it fails, its own writes are undone and nobody else's."""
    connection.execute("savepoint work")
    try:
        outcome = work(connection)
    except Exception as error:
        connection.execute("rollback to work")
        outcome = error
    connection.execute("release work")
    return outcome
