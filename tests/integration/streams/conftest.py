"""Connections to the shared NATS, with every stream declared, and to the shared Redis."""

from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from redis.asyncio import Redis

from local.servers.nats import Nats as NatsServer
from local.servers.redis import Redis as RedisServer
from services.kit.redis import connect
from services.kit.streams import connect_nats, declare


@pytest.fixture
async def nc(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A connection to the shared NATS."""
    client = await connect_nats(SimpleNamespace(nats_url=nats_server.url))
    yield client
    await client.close()


@pytest.fixture
async def js(nc: Client) -> JetStreamContext:
    """JetStream with every stream of the table."""
    js = nc.jetstream()
    await declare(js)
    return js


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client of the shared Redis."""
    client = connect(redis_server.url)
    yield client
    await client.aclose()
