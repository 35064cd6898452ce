"""The embedded stack: every server and service of Catraca, started in order and stopped without a trace."""

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from local import discovery
from local.authority import Authority, Certificate
from local.discovery import RunningStack
from local.parts import (
    SERVICES,
    GrpcProcess,
    HttpProcess,
    Part,
    PythonProcess,
    State,
    service_process,
    side_by_side,
)
from local.prepare import prepare_streams, prepare_tables
from local.replicas import check
from local.servers.envoy import Envoy
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from local.servers.server import Store
from local.wiring import OWNER, USERS, Keys, Wiring
from services.kit.rights import AUDITOR

SERVERS: dict[str, Callable[[Path], Store]] = {"redis": Redis, "nats": Nats, "postgres": Postgres}
HELPERS = {"issuer": "local.issuer", "sandbox": "local.sandbox"}
EDGE = "edge"
LEDGER = "inventory"
READY_TIMEOUT_S = 60.0
# Whoever had lost a replica looks for it every second at most. Until they have it back, its neighbour stays.
FOUND_AGAIN_S = 1.5


class Stack:
    """The whole system below one folder. `async with Stack(folder) as stack:` runs it for the block.

    `settings` are environment variables for every process; they win over what the stack provides.
    `replicas` is how many processes of a service run, one where it is not named; ValueError for a wrong one.
    `modules` are run in place of the services' own, by service: a measurement serves something beside them.
    With `tls` the services, the edge and NATS speak TLS, each with a certificate of an authority that lies in
    the folder; services and edge show theirs to each other too.
    Use it from the main thread: the kernel ends the children with the thread that started them.
    """

    def __init__(
        self,
        data: Path,
        *,
        settings: Mapping[str, str] | None = None,
        replicas: Mapping[str, int] | None = None,
        modules: Mapping[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        self.data = data.absolute()
        self.keys = Keys(self.data / "keys")
        self.parts: dict[str, Part] = {}
        self.started = False
        """Whether every part became healthy."""
        self._settings = dict(settings or {})
        self._replicas = dict(replicas or {})
        check(self._replicas)
        self._modules = {**SERVICES, **(modules or {})}
        self._urls: dict[str, str] = {}
        self._lock: IO[str] | None = None
        self._certificates: dict[str, Certificate] = {}
        if tls:
            authority = Authority(self.data / "tls")
            names = (*SERVICES, EDGE, "nats", OWNER)
            self._certificates = {name: authority.issue(name) for name in names}

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await _to_the_end(self._stop())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await _to_the_end(self._stop())

    async def restart(self, name: str) -> None:
        """Stop a part if it still runs, start it on the same address and data, and wait for health."""
        await self.parts[name].down()
        await self.parts[name].up(READY_TIMEOUT_S)
        self.running.write()

    async def restart_replica(self, name: str, index: int) -> None:
        """The same for one replica of a part, while the others go on."""
        await self.parts[name].restart_replica(index, READY_TIMEOUT_S)
        self.running.write()

    async def rolling_restart(
        self, restarted: Callable[[str, int], None] = lambda _name, _index: None
    ) -> None:
        """Restart every replica of every service, one at a time. `restarted` is told of each."""
        for name in SERVICES:
            for index in range(len(self.parts[name].processes)):
                await self.restart_replica(name, index)
                restarted(name, index)
                await asyncio.sleep(FOUND_AGAIN_S)

    def kill9(self, name: str, index: int | None = None) -> None:
        """End all processes of a part at once, or one replica, as a crash would."""
        processes = self.parts[name].processes
        for process in processes if index is None else [processes[index]]:
            process.kill9()

    def kill_all(self) -> None:
        """End every part at once, for somebody who will not wait for them to finish what they hold."""
        for name in self.parts:
            self.kill9(name)

    @property
    def running(self) -> RunningStack:
        """Addresses, keys and process ids, as another terminal finds them."""
        wiring = self._wiring()
        return RunningStack(
            data=str(self.data),
            pid=os.getpid(),
            redis_url=wiring.urls["redis"][OWNER],
            nats_url=wiring.urls["nats"][OWNER],
            postgres_url=wiring.urls["postgres"][OWNER],
            auditor={name: urls[AUDITOR] for name, urls in wiring.urls.items()},
            issuer=wiring.issuer_url,
            jwks_url=wiring.jwks_url,
            issuer_secret=self.keys.issuer_secret,
            sandbox_url=wiring.sandbox_url,
            edge_url=f"http{'s' * bool(self._certificates)}://{self.parts[EDGE].addresses[0]}",
            certificate=_files(self._certificates.get(OWNER)),
            targets=wiring.targets,
            metrics={name: part.metrics for name, part in self.parts.items() if part.metrics},
            pids={name: part.pids for name, part in self.parts.items()},
            keys={purpose: str(path) for purpose, path in self.keys.files.items()},
        )

    async def _start(self) -> None:
        self._lock = discovery.lock(self.data)
        discovery.forget(self.data)
        self._lay_out()
        self.keys.make(self._wiring().issuer_url)
        self._wire()
        await self._up([*SERVERS, *HELPERS])
        # A server may have moved to another port while it started. The services wait for each other by
        # themselves, as they must in a cluster, so they need no order.
        self._wire()
        await self._prepare()
        await self._up(SERVICES)
        await self._up([EDGE])
        self.running.write()
        self.started = True

    async def _stop(self) -> None:
        """Stop from the outside in: the services finish what they hold, for which they need the servers."""
        if self._lock is None:
            return
        self.started = False
        discovery.forget(self.data)
        # Nobody calls a service whose every replica says that it stops: the ledger goes last, as the others
        # need it for what they hold.
        for group in ([EDGE], [name for name in SERVICES if name != LEDGER], [LEDGER], HELPERS, SERVERS):
            await side_by_side(self.parts[name].down() for name in group if name in self.parts)
        self._lock.close()
        self._lock = None

    def _lay_out(self) -> None:
        """Give every part its processes and ports."""
        for name, server in SERVERS.items():
            given = os.environ.get(f"CATRACA_{name.upper()}_URL", "")
            self._urls[name] = given
            if given:
                parts = urlsplit(given)
                self.parts[name] = Part(name, [], State.GIVEN, f"{parts.hostname}:{parts.port}")
            else:
                self.parts[name] = Part(name, [self._server(name, server)])
        for name, module in HELPERS.items():
            self.parts[name] = Part(name, [HttpProcess(name, self.data, module)])
        for name, module in self._modules.items():
            count = self._replicas.get(name, 1)
            names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
            process = service_process(name)
            self.parts[name] = Part(name, [process(each, self.data, module) for each in names])
        self.parts[EDGE] = Part(EDGE, [Envoy(self.data)])

    def _wiring(self) -> Wiring:
        return Wiring(
            data=self.data,
            keys=self.keys,
            urls={name: self._urls_of(name) for name in SERVERS},
            issuer_url=f"http://{self.parts['issuer'].addresses[0]}",
            sandbox_url=f"http://{self.parts['sandbox'].addresses[0]}",
            services={name: self.parts[name] for name in SERVICES},
            certificates=self._certificates,
        )

    def _server(self, name: str, make: Callable[[Path], Store]) -> Store:
        """A server of ours. The wheels of Redis and Postgres are built without TLS; NATS has it."""
        return Nats(self.data, certificate=self._certificates.get(name)) if make is Nats else make(self.data)

    def _urls_of(self, name: str) -> dict[str, str]:
        """A server's URLs by user. A given server has one, for all of them."""
        given = self._urls[name]
        if given:
            return dict.fromkeys([OWNER, *USERS[name]], given)
        (server,) = (process for process in self.parts[name].processes if isinstance(process, Store))
        return {OWNER: server.url, **{user: server.url_for(user) for user in USERS[name]}}

    async def _prepare(self) -> None:
        """Make streams, tables and users, as the servers' owner."""
        owner = self._certificates.get(OWNER)
        context = None if owner is None else ssl.create_default_context(cafile=owner.ca)
        await prepare_streams(self._urls_of("nats")[OWNER], context)
        passwords = {
            user: server.password_of(user)
            for server in self.parts["postgres"].processes
            if isinstance(server, Postgres)
            for user in USERS["postgres"]
        }
        await prepare_tables(self._urls_of("postgres")[OWNER], passwords)

    def _wire(self) -> None:
        """Tell every process of ours its environment."""
        wiring = self._wiring()
        for part in self.parts.values():
            for process in part.processes:
                if isinstance(process, GrpcProcess):
                    process.certificate = self._certificates.get(part.name)
                if isinstance(process, PythonProcess):
                    process.variables = wiring.variables(part.name, process) | self._settings
                elif isinstance(process, Envoy):
                    process.upstreams = wiring.upstreams

    async def _up(self, names: Iterable[str]) -> None:
        await side_by_side(self.parts[name].up(READY_TIMEOUT_S) for name in names)


def _files(certificate: Certificate | None) -> dict[str, str]:
    return {} if certificate is None else {name: str(file) for name, file in asdict(certificate).items()}


async def _to_the_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await it whatever happens: whoever is cancelled while stopping still has to stop."""
    task = asyncio.create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
