"""The embedded servers start, keep data through kill -9, refuse strangers and leave no process behind."""

import asyncio
import re
import socket
from collections.abc import Callable
from pathlib import Path

import asyncpg
import nats
import nats.errors
import psutil
import pytest
import redis
from nats.js.api import StreamConfig
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.servers import ports
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.process import Process, StartFailed, wait_gone
from local.servers.redis import Redis
from local.servers.server import Server

SERVERS = [Redis, Nats, Postgres]
every_server = pytest.mark.parametrize("make", SERVERS, ids=lambda make: make.__name__)


class Sleeper(Process):
    """A process that is ready when the test says so."""

    def __init__(self, folder: Path, script: str, probe: Callable[[], None] = lambda: None) -> None:
        super().__init__("sleeper", folder)
        self._script = script
        self._ready = probe

    @property
    def address(self) -> str:
        return "nowhere"

    def command(self) -> list[str]:
        return ["sh", "-c", self._script]

    def probe(self) -> None:
        self._ready()


def tree(process: Process) -> list[psutil.Process]:
    """The process and everything below it."""
    leader = psutil.Process(process.pid)
    return [leader, *leader.children(recursive=True)]


def command_line(process: psutil.Process) -> str:
    """What everybody on the machine can read of it; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return wait_gone(processes, timeout_s=10)


@every_server
def test_stop_leaves_no_process(make: type[Server], tmp_path: Path) -> None:
    server = make(tmp_path)
    server.launch()
    family = tree(server)

    server.stop()

    assert not server.running
    assert still_running(family) == []
    assert psutil.Process().pid not in {process.pid for process in family}


@every_server
def test_kill9_takes_the_whole_family(make: type[Server], tmp_path: Path) -> None:
    server = make(tmp_path)
    server.launch()
    family = tree(server)

    server.kill9()

    assert still_running(family) == []


@every_server
def test_nothing_secret_in_the_process_list(make: type[Server], tmp_path: Path) -> None:
    server = make(tmp_path)
    server.launch()
    secret = re.search(r":([0-9a-f]{48})@", server.url)
    assert secret is not None

    lines = [command_line(process) for process in tree(server)]
    server.stop()

    assert any(lines)
    assert not [line for line in lines if secret[1] in line]


@every_server
def test_files_with_secrets_belong_to_their_owner(make: type[Server], tmp_path: Path) -> None:
    server = make(tmp_path)
    server.launch()
    secret = re.search(r":([0-9a-f]{48})@", server.url)
    assert secret is not None
    server.stop()

    holding = [
        path for path in tmp_path.rglob("*") if path.is_file() and secret[1].encode() in path.read_bytes()
    ]

    assert holding
    assert [path for path in holding if path.stat().st_mode & 0o077] == []


@every_server
def test_a_port_taken_by_somebody_else_is_replaced(make: type[Server], tmp_path: Path) -> None:
    server = make(tmp_path)
    wanted = server.port
    with socket.create_server((ports.HOST, wanted)):
        server.launch()
        assert server.port != wanted
        server.stop()


def test_redis_keeps_its_data_through_kill9(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    server.launch()
    url = server.url
    redis.Redis.from_url(url).set("unit", "sold")

    server.kill9()
    server.start()
    server.wait_ready()

    assert server.url == url
    assert redis.Redis.from_url(url).get("unit") == b"sold"
    server.stop()


def test_redis_is_configured_for_money(redis_server: Redis) -> None:
    settings = redis.Redis.from_url(redis_server.url).config_get("*")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["bind"] == "127.0.0.1"


def test_redis_refuses_a_client_without_password(redis_server: Redis) -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=redis_server.port, retry=Retry(NoBackoff(), 0)).ping()


async def test_nats_keeps_its_streams_through_kill9(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    server.launch()
    connection = await nats.connect(server.url)
    stream = connection.jetstream()
    await stream.add_stream(StreamConfig(name="orders", subjects=["orders.>"]))
    await stream.publish("orders.one", b"accepted")
    await connection.close()

    server.kill9()
    server.start()
    await asyncio.to_thread(server.wait_ready)

    connection = await nats.connect(server.url)
    kept = await connection.jetstream().get_last_msg("orders", "orders.one")
    assert kept.data == b"accepted"
    await connection.close()
    server.stop()


async def test_nats_refuses_a_client_without_password(nats_server: Nats) -> None:
    async def ignore(_error: Exception) -> None:
        return None

    with pytest.raises(nats.errors.Error):
        await nats.connect(
            f"nats://{nats_server.address}", allow_reconnect=False, max_reconnect_attempts=0, error_cb=ignore
        )


async def test_postgres_keeps_its_rows_through_kill9(tmp_path: Path) -> None:
    server = Postgres(tmp_path)
    server.launch()
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE tickets (unit int PRIMARY KEY)")
    await connection.execute("INSERT INTO tickets VALUES (7)")

    server.kill9()
    server.start()
    await asyncio.to_thread(server.wait_ready)

    again = await asyncpg.connect(server.url)
    assert await again.fetchval("SELECT unit FROM tickets") == 7
    await again.close()
    server.stop()


async def test_postgres_starts_although_its_old_id_belongs_to_another_process(tmp_path: Path) -> None:
    server = Postgres(tmp_path)
    server.launch()
    server.kill9()
    lock = server.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lines[0] = str(psutil.Process().pid)
    lock.write_text("\n".join(lines) + "\n")

    server.start()
    await asyncio.to_thread(server.wait_ready)

    assert server.running
    server.stop()


async def test_postgres_refuses_a_wrong_password(postgres_server: Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_server.url, password="guess")


async def test_each_module_has_an_empty_database(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await connection.close()

    assert tables == 0


def test_a_failed_start_says_why_with_the_log(tmp_path: Path) -> None:
    process = Sleeper(tmp_path, "echo cannot read the seating plan; exit 4", lambda: 1 / 0)
    process.start()

    with pytest.raises(StartFailed) as caught:
        process.wait_ready()

    assert caught.value.name == "sleeper"
    assert "status 4" in str(caught.value)
    assert "cannot read the seating plan" in str(caught.value)


def test_the_log_of_an_earlier_start_is_not_blamed(tmp_path: Path) -> None:
    process = Sleeper(tmp_path, "echo first life; exit 1", lambda: 1 / 0)
    process.start()
    with pytest.raises(StartFailed):
        process.wait_ready()
    process._script = "echo second life; exit 1"
    process.start()

    with pytest.raises(StartFailed) as caught:
        process.wait_ready()

    assert "second life" in caught.value.log
    assert "first life" not in caught.value.log


def test_a_start_that_takes_too_long_leaves_nothing(tmp_path: Path) -> None:
    process = Sleeper(tmp_path, "sleep 300 & wait", lambda: 1 / 0)
    process.start()
    family = tree(process)

    with pytest.raises(StartFailed, match="not ready after"):
        process.wait_ready(timeout_s=0.3)

    assert still_running(family) == []


def test_a_process_deaf_to_its_signal_is_killed(tmp_path: Path) -> None:
    process = Sleeper(tmp_path, "trap '' TERM; while true; do sleep 0.1; done")
    process.stop_timeout_s = 0.3
    process.start()
    family = tree(process)

    process.stop()

    assert still_running(family) == []


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    process = Sleeper(tmp_path, "")
    process.command = lambda: ["no-such-program"]  # type: ignore[method-assign]
    process.probe = lambda: 1 / 0  # type: ignore[method-assign]
    process.start()

    with pytest.raises(StartFailed, match="no-such-program: No such file"):
        process.wait_ready()


def test_reserved_ports_differ_and_stay_below_the_ephemeral_range() -> None:
    chosen = [ports.reserve() for _ in range(50)]
    for port in chosen:
        ports.release(port)

    assert len(set(chosen)) == 50
    assert max(chosen) < ports._ephemeral_start()
