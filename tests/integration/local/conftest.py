"""The issuer in this process, as its clients reach it over HTTP."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from local.issuer.clients import make_clients, registered
from local.issuer.keeper import Keeper
from local.issuer.server import application
from local.issuer.tokens import Minter, write_service_token

ISSUER = "http://issuer.test"
SECRET = "development"
Client = TestClient[Any, Any]


@pytest.fixture(scope="session")
def ring_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ring of keys, made once: it takes a while. Every test has its own copy."""
    file = tmp_path_factory.mktemp("ring") / "issuer.json"
    Minter(file, ISSUER)
    return file


@pytest.fixture
def minter(tmp_path: Path, ring_file: Path) -> Minter:
    shutil.copy(ring_file, tmp_path)
    return Minter(tmp_path / "issuer.json", ISSUER)


@pytest.fixture
def keeper(minter: Minter, tmp_path: Path) -> Keeper:
    write_service_token(tmp_path / "token.jwt", minter)
    return Keeper(minter, tmp_path / "token.jwt", key_age_s=3600)


@pytest.fixture
async def client(keeper: Keeper, tmp_path: Path) -> AsyncIterator[Client]:
    make_clients(tmp_path / "clients.json")
    app = application(keeper, registered(tmp_path / "clients.json"), SECRET)
    async with TestClient(TestServer(app)) as client:
        yield client
