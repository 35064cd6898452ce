"""A ledger of each test's own on the shared Redis."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from local.servers.redis import Redis
from services.kit.redis import connect
from tests.integration.inventory.book import Book, definition


@pytest.fixture
async def redis(redis_server: Redis) -> AsyncIterator[Client]:
    """A client of the shared Redis."""
    client = connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def book_of(redis: Client, sale_id: str) -> Callable[..., Awaitable[Book]]:
    """Opens the test's sale with a definition of its own."""

    async def open_book(**changes: Any) -> Book:
        return await Book.open(redis, sale_id, definition(**changes))

    return open_book


@pytest.fixture
async def book(book_of: Callable[..., Awaitable[Book]]) -> Book:
    """The test's sale with a line."""
    return await book_of()
