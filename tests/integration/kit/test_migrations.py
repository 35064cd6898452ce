"""Migrations on a real Postgres: once, in order, all or nothing, also by several at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from services.kit.sql import MigrationError, migrate, missing_migrations

LOCK = 4711


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    async with asyncpg.create_pool(postgres_url, min_size=0, max_size=4) as pool:
        yield pool
        async with pool.acquire() as connection:
            await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


def folder_with(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.sql").write_text(text)
    return path


TABLE = "CREATE TABLE things (id int PRIMARY KEY);\nINSERT INTO things VALUES (1);"


async def test_each_is_applied_once(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"0001_things": TABLE})
    assert await migrate(pool, folder, LOCK) == ["0001_things"]
    assert await migrate(pool, folder, LOCK) == []
    folder_with(tmp_path, **{"0002_more": "INSERT INTO things VALUES (2)"})
    assert await migrate(pool, folder, LOCK) == ["0002_more"]
    assert await pool.fetchval("SELECT array_agg(id ORDER BY id) FROM things") == [1, 2]


async def test_replicas_that_start_together_agree(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"0001_things": TABLE, "0002_more": "INSERT INTO things VALUES (2)"})
    applied = await asyncio.gather(*(migrate(pool, folder, LOCK) for _ in range(4)))
    assert sorted(map(len, applied)) == [0, 0, 0, 2]
    assert await pool.fetchval("SELECT count(*) FROM things") == 2


async def test_a_failure_changes_nothing(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"0001_things": TABLE, "0002_broken": "INSERT INTO nothing VALUES (2)"})
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(pool, folder, LOCK)
    assert await pool.fetchval("SELECT to_regclass('things')") is None
    folder_with(tmp_path, **{"0002_broken": "INSERT INTO things VALUES (2)"})
    assert await migrate(pool, folder, LOCK) == ["0001_things", "0002_broken"]


async def test_an_applied_migration_is_never_changed(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"0001_things": TABLE})
    await migrate(pool, folder, LOCK)
    folder_with(tmp_path, **{"0001_things": TABLE + " "})
    with pytest.raises(MigrationError, match="0001_things was changed after it was applied"):
        await migrate(pool, folder, LOCK)


async def test_newer_code_may_have_been_here_before(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    newer = folder_with(tmp_path / "newer", **{"0001_things": TABLE, "0002_more": "SELECT 1"})
    older = folder_with(tmp_path / "older", **{"0001_things": TABLE})
    await migrate(pool, newer, LOCK)
    assert await migrate(pool, older, LOCK) == []


@pytest.mark.parametrize(
    "names", [["0002_x"], ["0001_x", "0003_y"], ["0001_x", "0001_y"], ["1_x"], ["0001-x"]]
)
async def test_numbers_count_without_gaps(
    pool: "asyncpg.Pool[Any]", tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(MigrationError):
        await migrate(pool, folder_with(tmp_path, **dict.fromkeys(names, "SELECT 1")), LOCK)


async def test_who_may_not_migrate_sees_what_is_missing(pool: "asyncpg.Pool[Any]", tmp_path: Path) -> None:
    folder = folder_with(tmp_path, **{"0001_things": TABLE, "0002_more": "INSERT INTO things VALUES (2)"})

    assert await missing_migrations(pool, folder) == ["0001_things", "0002_more"]
    await migrate(pool, folder, LOCK)
    assert await missing_migrations(pool, folder) == []
    folder_with(tmp_path, **{"0003_last": "INSERT INTO things VALUES (3)"})
    assert await missing_migrations(pool, folder) == ["0003_last"]
