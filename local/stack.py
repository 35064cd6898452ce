"""The embedded stack: every server and service of Catraca, started in order and stopped without a trace."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from local import discovery
from local.discovery import RunningStack
from local.parts import SERVICES, HttpProcess, Part, PythonProcess, State, service_process, side_by_side
from local.replicas import check
from local.servers.envoy import Envoy
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from local.servers.server import Server
from local.wiring import Keys, Wiring

SERVERS: dict[str, Callable[[Path], Server]] = {"redis": Redis, "nats": Nats, "postgres": Postgres}
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
    Use it from the main thread: the kernel ends the children with the thread that started them.
    """

    def __init__(
        self,
        data: Path,
        *,
        settings: Mapping[str, str] | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.keys = Keys(self.data / "keys")
        self.parts: dict[str, Part] = {}
        self.started = False
        """Whether every part became healthy."""
        self._settings = dict(settings or {})
        self._replicas = dict(replicas or {})
        check(self._replicas)
        self._urls: dict[str, str] = {}
        self._lock: IO[str] | None = None

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
            redis_url=wiring.redis_url,
            nats_url=wiring.nats_url,
            postgres_url=wiring.postgres_url,
            issuer=wiring.issuer_url,
            jwks_url=wiring.jwks_url,
            issuer_secret=self.keys.issuer_secret,
            sandbox_url=wiring.sandbox_url,
            edge_url=f"http://{self.parts[EDGE].addresses[0]}",
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
                self.parts[name] = Part(name, [server(self.data)])
        for name, module in HELPERS.items():
            self.parts[name] = Part(name, [HttpProcess(name, self.data, module)])
        for name, module in SERVICES.items():
            count = self._replicas.get(name, 1)
            names = [name] if count == 1 else [f"{name}-{number}" for number in range(1, count + 1)]
            process = service_process(name)
            self.parts[name] = Part(name, [process(each, self.data, module) for each in names])
        self.parts[EDGE] = Part(EDGE, [Envoy(self.data)])

    def _wiring(self) -> Wiring:
        urls = {
            name: self._urls[name] or next(p.url for p in self.parts[name].processes if isinstance(p, Server))
            for name in SERVERS
        }
        return Wiring(
            data=self.data,
            keys=self.keys,
            redis_url=urls["redis"],
            nats_url=urls["nats"],
            postgres_url=urls["postgres"],
            issuer_url=f"http://{self.parts['issuer'].addresses[0]}",
            sandbox_url=f"http://{self.parts['sandbox'].addresses[0]}",
            services={name: self.parts[name] for name in SERVICES},
        )

    def _wire(self) -> None:
        """Tell every process of ours its environment."""
        wiring = self._wiring()
        for part in self.parts.values():
            for process in part.processes:
                if isinstance(process, PythonProcess):
                    process.variables = wiring.variables(part.name, process) | self._settings
                elif isinstance(process, Envoy):
                    process.upstreams = wiring.upstreams

    async def _up(self, names: Iterable[str]) -> None:
        await side_by_side(self.parts[name].up(READY_TIMEOUT_S) for name in names)


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
