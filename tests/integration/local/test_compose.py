"""What compose.yaml's desk makes and does, with real servers in the containers' places."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import asyncpg
import nats
import pytest

from local import compose, discovery
from local.compose import Settings
from local.discovery import NotRunning
from local.servers import binaries
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from services.kit.streams import STREAMS

PATIENCE_S = 60.0


def settings_in(folder: Path) -> Settings:
    return Settings(
        oidc_issuer="http://localhost:9000",
        edge_url="http://localhost:8080",
        compose_folder=folder / ".catraca",
        compose_stores=folder / "stores",
    )


async def test_the_desk_prepares_the_stores_and_is_found_until_it_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ".catraca"
    # The same folder has the same passwords.
    servers = Nats(folder), Postgres(folder)
    for server in servers:
        await server.up()
    monkeypatch.setattr(
        compose, "STORES", {"redis": "127.0.0.1:1", **{server.name: server.address for server in servers}}
    )
    desk = asyncio.create_task(compose.stay(settings_in(tmp_path)))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await until_prepared(folder, desk)
        running = discovery.find(folder)
        nc = await nats.connect(running.nats_url)
        for stream in STREAMS:
            await nc.jetstream().stream_info(stream.name)
        await nc.close()
        # What checkout is told lets it in, with its own rights.
        checkout = await asyncpg.connect((folder / "secrets" / "url-postgres-checkout").read_text())
        assert await checkout.fetchval("select count(*) from orders.orders") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await checkout.execute("drop table orders.orders")
        await checkout.close()

        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(desk, PATIENCE_S)
        with pytest.raises(NotRunning):
            discovery.find(folder)
    finally:
        desk.cancel()
        for server in servers:
            server.stop()


async def until_prepared(folder: Path, desk: "asyncio.Task[None]") -> None:
    """Wait until the auditor, who is made last of all, is let into Postgres."""
    while True:
        if desk.done():
            desk.result()
        try:
            running = discovery.find(folder)
            await (await asyncpg.connect(running.auditor["postgres"])).close()
        except (NotRunning, OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)
        else:
            return


def test_envoy_takes_the_edge_of_the_containers(tmp_path: Path) -> None:
    compose.make(tmp_path / ".catraca", tmp_path / "stores", settings_in(tmp_path))

    command = [
        str(binaries.envoy()),
        "--mode",
        "validate",
        "--config-path",
        str(tmp_path / "stores/edge.yaml"),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr
