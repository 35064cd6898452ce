"""SQL as source code: named queries in files, and numbered migrations under a lock."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg

from services.kit.logs import get_logger

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_log = get_logger("sql")


class MigrationError(Exception):
    """The database and the migrations in the code contradict each other."""


class Queries(Mapping[str, str]):
    """The queries of a folder's `.sql` files; each begins with `-- name: claim_outbox`, its attribute."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = dict(queries)

    @classmethod
    def load(cls, folder: Path) -> "Queries":
        """Reads the folder's files, not those of folders in it. Raises ValueError for a name used twice."""
        queries: dict[str, str] = {}
        for path in sorted(folder.glob("*.sql")):
            before, *named = _NAME.split(path.read_text("utf-8"))
            if any(line and not line.startswith("--") for line in before.splitlines()):
                raise ValueError(f"{path.name} has SQL before its first name")
            for name, text in zip(named[::2], named[1::2], strict=True):
                if name in queries or not text.strip():
                    raise ValueError(f"{path.name}: the query {name} is empty or named twice")
                queries[name] = text.strip()
        if not queries:
            raise ValueError(f"{folder} has no queries")
        return cls(queries)

    def __getattr__(self, name: str) -> str:
        """The query of this name."""
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(f"there is no query named {name}") from None

    def __getitem__(self, name: str) -> str:
        return self._queries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._queries)

    def __len__(self) -> int:
        return len(self._queries)


async def migrate(pool: "asyncpg.Pool[Any]", folder: Path, lock_id: int) -> list[str]:
    """Applies the folder's migrations (`0001_name.sql`, …) that the database lacks; returns their names.

    All in one transaction under an advisory lock: replicas that start together wait for the first, and a
    failure changes nothing. A newer version of the code may have been here before; that is no error. Raises
    MigrationError for numbers with gaps and for an applied migration whose text was changed.
    """
    migrations = _migrations(folder)
    applied_now = []
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_id)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.migrations ("
            "number int PRIMARY KEY, name text NOT NULL, digest text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT number, digest FROM public.migrations")
        applied = {row["number"]: row["digest"] for row in rows}
        for number, name, text in migrations:
            digest = hashlib.sha256(text.encode()).hexdigest()
            if applied.get(number, digest) != digest:
                raise MigrationError(f"{name} was changed after it was applied; add a new one instead")
            if number not in applied:
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO public.migrations (number, name, digest) VALUES ($1, $2, $3)",
                    number,
                    name,
                    digest,
                )
                applied_now.append(name)
    if applied_now:
        _log.info("migrated", migrations=applied_now)
    return applied_now


async def missing_migrations(pool: "asyncpg.Pool[Any]", folder: Path) -> list[str]:
    """The folder's migrations that the database lacks, for who may not apply them."""
    try:
        rows = await pool.fetch("SELECT number FROM public.migrations")
    except (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError):
        # Whoever makes the tables grants the reading of them afterwards.
        rows = []
    applied = {row["number"] for row in rows}
    return [name for number, name, _ in _migrations(folder) if number not in applied]


def _migrations(folder: Path) -> list[tuple[int, str, str]]:
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _MIGRATION.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named like 0001_what_it_does.sql")
        found.append((int(match[1]), path.stem, path.read_text("utf-8")))
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"the migrations of {folder} do not count 0001, 0002, … without gaps")
    return found
