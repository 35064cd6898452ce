"""A stack of its own for bad input: what it leaves behind is nobody else's, and so is what logs say."""

from collections.abc import AsyncIterator

import pytest

from local.stack import Stack
from tests.fuzz.fuzz import SETTINGS


@pytest.fixture(scope="module")
async def fuzz_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Every server and service, with nothing in it yet."""
    async with Stack(tmp_path_factory.mktemp("fuzz"), settings=SETTINGS) as running:
        yield running
