"""The line's store on the shared Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from local.servers.redis import Redis as RedisServer
from services.kit.redis import connect
from services.queue.store import LineStore
from tests.integration.line.fakes import MemoryLedger, OneEpoch
from tests.integration.line.leading import Sale


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


@pytest.fixture
async def sale(store: LineStore, sale_id: str) -> AsyncIterator[Sale]:
    """A sale with a line, of 1000 units."""
    made = Sale(sale_id, store, MemoryLedger(stock=1000))
    yield made
    await made.stop()
