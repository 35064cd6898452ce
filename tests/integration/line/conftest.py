"""The line's store on the shared Redis."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from local.servers.nats import Nats
from local.servers.redis import Redis as RedisServer
from services.kit.redis import connect
from services.kit.streams import connect_nats, declare
from services.queue.store import LineStore
from tests.integration.line.fakes import MemoryLedger, OneEpoch, nothing_published
from tests.integration.line.leading import Sale
from tests.integration.line.replicas import NatsUrl, Replicas


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
    return LineStore(redis, epochs, nothing_published)


@pytest.fixture
async def replicas(nats_server: Nats, redis: Redis) -> AsyncIterator[Replicas]:
    """Replicas on the shared servers."""
    nc = await connect_nats(NatsUrl(nats_server.url))
    await declare(nc.jetstream())
    made = Replicas(nc, redis)
    yield made
    await made.stop()
    await nc.close()


@pytest.fixture
async def sale(store: LineStore, sale_id: str) -> AsyncIterator[Sale]:
    """A sale with a line, of 1000 units."""
    made = Sale(sale_id, store, MemoryLedger(stock=1000))
    yield made
    await made.stop()
