"""A service that starts before its Redis waits for it, and one with a wrong password says so."""

import asyncio
import re
from pathlib import Path

import pytest

from local.servers.redis import Redis
from services.kit.redis import connect, require_noeviction
from services.kit.settings import SettingError


async def test_a_redis_that_starts_later_is_waited_for(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    client = connect(server.url)
    waiting = asyncio.create_task(require_noeviction(client))
    try:
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        await asyncio.to_thread(server.launch)
        async with asyncio.timeout(20):
            await waiting
    finally:
        await client.aclose()
        await asyncio.to_thread(server.stop)

    assert not done


async def test_a_wrong_password_is_named(redis_server: Redis) -> None:
    client = connect(re.sub(r"//:[^@]*@", "//:wrong@", redis_server.url))

    async with asyncio.timeout(20):
        with pytest.raises(SettingError, match="CATRACA_REDIS_URL"):
            await require_noeviction(client)
    await client.aclose()
