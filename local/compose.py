"""The desk of compose.yaml: makes what its containers need, and is where the `catraca` command finds them.

It makes keys, passwords and the configuration of the stores and of the edge, once; then streams, tables and
users as soon as NATS and Postgres answer; and announces the system until it is stopped, as a stack does.
"""

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from local import discovery
from local.discovery import AlreadyRunning, RunningStack
from local.issuer.tokens import AUDIENCE
from local.parts import SERVICES
from local.prepare import prepare_streams, prepare_tables
from local.private import write_private
from local.servers.envoy import BFF_REQUESTS_PER_S, PLAIN, REQUESTS_PER_S, TEMPLATE, endpoints, render
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from local.servers.server import Store
from local.wiring import OWNER, USERS, Keys
from services.kit import logs
from services.kit.rights import AUDITOR
from services.kit.settings import REQUIRED, load_or_exit, setting
from services.kit.tasks import stop

# Where the containers of compose.yaml are, by their names and ports there.
STORES = {"redis": "redis:6379", "nats": "nats:4222", "postgres": "postgres:5432"}
GRPC_PORT, METRICS_PORT, STANDING_PORT, EDGE_PORT, ADMIN_PORT = 50051, 9090, 8081, 8080, 9901
ISSUER, SANDBOX = "issuer:8080", "sandbox:8090"
ANYWHERE = "0.0.0.0"
STORE_DATA = Path("/data")
# Pages of the machine that runs the containers, whatever their port.
ORIGINS = [{"safe_regex": {"regex": r"http://(localhost|127\.0\.0\.1)(:[0-9]+)?"}}]

SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logs.get_logger("compose")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the desk is told."""

    oidc_issuer: str = setting(REQUIRED, "`iss` of every token: the issuer's URL as browsers reach it.")
    edge_url: str = setting(REQUIRED, "The edge's URL as browsers reach it.")
    compose_folder: Path = setting(Path(".catraca"), "Keys and passwords; for our own containers alone.")
    compose_stores: Path = setting(Path("stores"), "Configuration of Redis, NATS, Postgres and the edge.")


def main() -> None:
    """Make everything, and stay until SIGTERM or SIGINT."""
    settings = load_or_exit(Settings)
    logs.configure("compose", "info")
    try:
        asyncio.run(stay(settings))
    except AlreadyRunning as problem:
        raise SystemExit(f"catraca: {problem}") from None


async def stay(settings: Settings) -> None:
    """Announce the system until a signal to stop."""
    folder = settings.compose_folder.absolute()
    held = discovery.lock(folder)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    try:
        running = make(folder, settings.compose_stores.absolute(), settings)
        running.write()
        preparing = asyncio.create_task(prepare(running, folder))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({waiting, preparing}, return_when=asyncio.FIRST_COMPLETED)
        if preparing.done():
            preparing.result()
            log.info("prepared")
            await waiting
        await stop(preparing, waiting)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
        discovery.forget(folder)
        held.close()


def make(folder: Path, stores: Path, settings: Settings) -> RunningStack:
    """Write what is missing below both folders. Answers where everything is."""
    keys = Keys(folder / "keys")
    keys.make(settings.oidc_issuer)
    servers: dict[str, Store] = {"redis": Redis(folder), "nats": Nats(folder), "postgres": Postgres(folder)}
    urls = {name: _urls(name, server) for name, server in servers.items()}
    for name, by_user in urls.items():
        for user, url in by_user.items():
            if user in SERVICES:
                write_private(folder / "secrets" / f"url-{name}-{user}", url)
    redis, nats = servers["redis"], servers["nats"]
    assert isinstance(redis, Redis) and isinstance(nats, Nats)
    _shared(stores / "redis.conf", redis.configuration(ANYWHERE, 6379, STORE_DATA))
    _shared(stores / "nats.conf", nats.configuration(ANYWHERE, 4222, STORE_DATA))
    _shared(stores / "postgres-password", (folder / "secrets" / "postgres").read_text())
    _shared(stores / "edge.yaml", edge(settings.oidc_issuer))
    return RunningStack(
        data=str(folder),
        pid=os.getpid(),
        redis_url=urls["redis"][OWNER],
        nats_url=urls["nats"][OWNER],
        postgres_url=urls["postgres"][OWNER],
        auditor={name: by_user[AUDITOR] for name, by_user in urls.items()},
        issuer=settings.oidc_issuer,
        jwks_url=f"http://{ISSUER}/jwks.json",
        issuer_secret=keys.issuer_secret,
        sandbox_url=f"http://{SANDBOX}",
        edge_url=settings.edge_url,
        certificate={},
        targets={service: f"{service}:{GRPC_PORT}" for service in SERVICES},
        metrics={service: [f"http://{service}:{METRICS_PORT}/metrics"] for service in SERVICES},
        pids={},
        keys={purpose: str(file) for purpose, file in keys.files.items()},
    )


async def prepare(running: RunningStack, folder: Path) -> None:
    """Make streams, tables and users, as soon as there is somebody to make them."""
    server = Postgres(folder)
    passwords = {user: server.password_of(user) for user in USERS["postgres"]}
    await prepare_streams(running.nats_url)
    while True:
        try:
            return await prepare_tables(running.postgres_url, passwords)
        except (OSError, asyncpg.CannotConnectNowError) as problem:
            log.warning("postgres_waits", problem=repr(problem))
            await asyncio.sleep(1.0)


def edge(issuer: str) -> str:
    """The edge's configuration, with the containers' names."""
    values = {
        "LISTEN_ADDRESS": ANYWHERE,
        "LISTEN_PORT": str(EDGE_PORT),
        "ADMIN_ADDRESS": "127.0.0.1",
        "ADMIN_PORT": str(ADMIN_PORT),
        "TRUSTED_HOPS": "0",
        "ALLOWED_ORIGINS": json.dumps(ORIGINS),
        "REQUESTS_PER_S": str(REQUESTS_PER_S),
        # Docker's own proxy may be the address of every client.
        "CLIENT_REQUESTS_PER_S": str(REQUESTS_PER_S),
        "BFF_REQUESTS_PER_S": str(BFF_REQUESTS_PER_S),
        "OIDC_ISSUER": issuer,
        "AUDIENCE": AUDIENCE,
        "JWKS_URL": f"http://{ISSUER}/jwks.json",
        "DISCOVERY": "STRICT_DNS",
        "ISSUER_ENDPOINTS": endpoints([ISSUER]),
        "STANDING_ENDPOINTS": endpoints([f"queue:{STANDING_PORT}"]),
        **{f"{service.upper()}_ENDPOINTS": endpoints([f"{service}:{GRPC_PORT}"]) for service in SERVICES},
        **{f"{name}_TRANSPORT": PLAIN for name in ("LISTEN", "ISSUER", *map(str.upper, SERVICES))},
    }
    return render(TEMPLATE.read_text(), values)


def _urls(name: str, server: Store) -> dict[str, str]:
    """A store's URL by user, at its container."""
    urls = {OWNER: server.url, **{user: server.url_for(user) for user in USERS[name]}}
    return {user: url.replace(server.address, STORES[name]) for user, url in urls.items()}


def _shared(file: Path, text: str) -> None:
    """A file that the stores' own users read: no other container mounts its folder."""
    write_private(file, text)
    file.chmod(0o644)


if __name__ == "__main__":
    main()
