"""The whole system for the end-to-end tests, started once: they reach it as any client does, over gRPC."""

from collections.abc import AsyncIterator

import pytest

from local.discovery import RunningStack
from local.stack import Stack


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Every server and service, healthy. Tests that kill a part restart it before they end."""
    async with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def running(stack: Stack) -> RunningStack:
    """Addresses, keys and a token minter of the running stack."""
    return stack.running
