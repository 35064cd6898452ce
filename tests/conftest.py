"""Real servers for the tests: each started once, when the first test asks for it, on a free port of its own.

The servers are shared by all tests of a run and never flushed. What keeps tests apart is a `sale_id` of their
own (in Redis and NATS every name begins with it) and a database per test module.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from local.issuer.tokens import Minter
from local.parts import HttpProcess
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from local.wiring import Keys
from tests import resting

# Shared machines are slow at times, and no test judges by how long an example took.
hypothesis.settings.register_profile("catraca", deadline=None)
hypothesis.settings.load_profile("catraca")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The stack of the test's folder is at work."""
    resting.wake(item)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stacks whose tests are over let the others have the machine."""
    resting.rest(item, nextitem)


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the shared servers keep data and logs."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[Redis]:
    """The shared Redis: `redis_server.url` connects to it."""
    server = Redis(servers_folder)
    server.launch()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def nats_server(servers_folder: Path) -> Iterator[Nats]:
    """The shared NATS with JetStream: `nats_server.url` connects to it."""
    server = Nats(servers_folder)
    server.launch()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(servers_folder: Path) -> Iterator[Postgres]:
    """The shared Postgres. Tests use `postgres_url`, a database of their module's own."""
    server = Postgres(servers_folder)
    server.launch()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HttpProcess, Minter]]:
    """The token issuer, for its key set; and what mints the same tokens here."""
    folder = tmp_path_factory.mktemp("issuer")
    process = HttpProcess("issuer", folder, "local.issuer")
    url, keys = f"http://{process.address}", Keys(folder / "keys")
    keys.make(url)
    process.variables = keys.variables_of_issuer(process.address, url)
    process.start()
    process.wait_ready(30)
    yield process, Minter(keys.files["issuer"], url)
    process.stop()


@pytest.fixture(scope="module")
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database that this test module alone uses."""
    database = f"test_{secrets.token_hex(6)}"
    yield postgres_server.create_database(database)
    postgres_server.drop_database(database)


@pytest.fixture
def sale_id() -> str:
    """A sale id (a DNS label) that no other test uses."""
    return f"sale-{secrets.token_hex(6)}"
