"""Checkout as its own process: it starts without its database and ends when told, without a complaint."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.parts import GrpcProcess
from local.private import signing_keys, symmetric_keys
from local.servers import ports
from local.servers.nats import Nats
from tests.integration.checkout.shop import Sandbox

NOWHERE = "postgresql://nobody:x@127.0.0.1:1/nothing"


class Checkout(GrpcProcess):
    """The service, stopped in a way that tells how it ended."""

    async def ended(self) -> int:
        """Send SIGTERM and return the exit status."""
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._child.wait, 20)


@pytest.fixture
def checkout_on(tmp_path: Path, nats_server: Nats, sandbox: Sandbox) -> Iterator[Callable[[str], Checkout]]:
    """Starts the service on a database."""
    started: list[Checkout] = []

    def start(postgres_url: str) -> Checkout:
        process = Checkout("checkout", tmp_path, "services.checkout")
        process.variables = {
            "CATRACA_LISTEN": process.address,
            "CATRACA_NATS_URL": nats_server.url,
            "CATRACA_POSTGRES_URL": postgres_url,
            "CATRACA_OIDC_ISSUER": "http://127.0.0.1:1",
            "CATRACA_JWKS_URL": "http://127.0.0.1:1/jwks.json",
            "CATRACA_BUYER_HASH_KEY_FILE": str(symmetric_keys(tmp_path / "buyers.json")),
            "CATRACA_ADMISSION_KEY_FILE": str(symmetric_keys(tmp_path / "admission.json")),
            "CATRACA_SERVICE_TOKEN_FILE": str(tmp_path / "token"),
            "CATRACA_TICKET_KEY_FILE": str(signing_keys(tmp_path / "ticket.json")),
            "CATRACA_INVENTORY_TARGET": "127.0.0.1:1",
            "CATRACA_WEBHOOK_LISTEN": f"127.0.0.1:{ports.reserve()}",
            "CATRACA_WEBHOOK_URL": "http://127.0.0.1:1",
            "CATRACA_SANDBOX_URL": sandbox.url,
            "CATRACA_SANDBOX_KEY_FILE": str(sandbox.key_file),
            "CATRACA_LAME_DUCK_S": "0",
            "CATRACA_DRAIN_S": "5",
        }
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


async def test_it_ends_when_told(checkout_on: Callable[[str], Checkout], postgres_url: str) -> None:
    process = checkout_on(postgres_url)
    await process.until_ready()
    while "migrated" not in process.log_path.read_text():
        await asyncio.sleep(0.05)

    assert await process.ended() == 0
    assert "Traceback" not in process.log_path.read_text()


async def test_it_serves_while_its_database_is_down(checkout_on: Callable[[str], Checkout]) -> None:
    process = checkout_on(NOWHERE)
    await process.until_ready()
    while "database_waits" not in process.log_path.read_text():
        await asyncio.sleep(0.05)

    assert process.running
    assert await process.ended() == 0
    assert "Traceback" not in process.log_path.read_text()


async def test_a_wrong_password_of_its_database_ends_it_with_a_sentence(
    checkout_on: Callable[[str], Checkout], postgres_url: str
) -> None:
    host = postgres_url.partition("@")[2]
    process = checkout_on(f"postgresql://catraca:a-wrong-password@{host}")
    assert process._child is not None

    assert await asyncio.to_thread(process._child.wait, 60) == 2
    log = process.log_path.read_text()
    assert "CATRACA_POSTGRES_URL is refused by its Postgres; expected a user and password" in log
    assert "a-wrong-password" not in log and "Traceback" not in log
