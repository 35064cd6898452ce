"""The line's store on the shared Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from local.servers.redis import Redis as RedisServer
from services.kit.redis import connect
from services.queue.store import LineStore
from tests.integration.line.fakes import OneEpoch


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    client = connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def epochs() -> OneEpoch:
    """The epoch that the store is told."""
    return OneEpoch()


@pytest.fixture
def store(redis: Redis, epochs: OneEpoch) -> LineStore:
    """The line's store."""
    return LineStore(redis, epochs)
