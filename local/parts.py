"""What the embedded stack is made of: a part is one server or service, in one or more processes."""

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local.authority import Certificate
from local.servers import ports
from local.servers.process import Process, Usage

PROBE_TIMEOUT_S = 1.0
SERVICES = {name: f"services.{name}" for name in ("queue", "inventory", "checkout", "notifier")}
"""The module of each service."""


class State(StrEnum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """One of its replicas is started anew while the others go on."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    ENDED = "ended"
    """It was ready and one of its processes ended without being asked to."""
    GIVEN = "given"
    """Somebody else runs it; its address came from the environment."""


@dataclass
class Part:
    """A server or service of the stack, with a process per replica (none if somebody else runs it)."""

    name: str
    processes: list[Process]
    phase: State = State.WAITING
    given_address: str = ""
    """Where somebody else runs it."""

    @property
    def state(self) -> State:
        """The part's state now: `phase` is what was last done to it, this also sees a process that ended."""
        if self.phase is State.READY and not all(process.running for process in self.processes):
            return State.ENDED
        return self.phase

    @property
    def addresses(self) -> list[str]:
        """Each replica's host:port."""
        return [process.address for process in self.processes] or [self.given_address]

    @property
    def metrics(self) -> list[str]:
        """Where each replica's metrics are read, if it has any."""
        return [
            f"http://{process.metrics_address}/metrics"
            for process in self.processes
            if isinstance(process, GrpcProcess)
        ]

    @property
    def target(self) -> str:
        """All replicas as one gRPC target."""
        return self.addresses[0] if len(self.addresses) == 1 else f"ipv4:{','.join(self.addresses)}"

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes."""
        return [process.pid for process in self.processes if process.pid is not None]

    async def up(self, timeout_s: float) -> None:
        """Start all replicas side by side and wait until each is healthy."""
        if self.phase is State.GIVEN:
            return
        self.phase = State.STARTING
        try:
            await side_by_side(process.up(timeout_s) for process in self.processes)
        except BaseException:
            self.phase = State.ENDED
            raise
        self.phase = State.READY

    async def down(self) -> None:
        """Stop all replicas side by side."""
        if self.phase is State.GIVEN:
            return
        self.phase = State.STOPPING
        await side_by_side(asyncio.to_thread(process.stop) for process in self.processes)
        self.phase = State.STOPPED

    async def restart_replica(self, index: int, timeout_s: float) -> None:
        """Stop one replica if it still runs, start it on the same addresses, and wait for its health."""
        process = self.processes[index]
        self.phase = State.RESTARTING
        try:
            await asyncio.to_thread(process.stop)
            await process.up(timeout_s)
        except BaseException:
            self.phase = State.ENDED
            raise
        self.phase = State.READY

    def usage(self) -> Usage:
        """Memory and CPU of all replicas together."""
        used = [process.usage() for process in self.processes]
        return Usage(sum(usage.memory for usage in used), sum(usage.cpu_s for usage in used))


class PythonProcess(Process):
    """A Python module run as a process of its own, listening on one reserved port."""

    def __init__(self, name: str, folder: Path, module: str) -> None:
        super().__init__(name, folder)
        self.module = module
        self.port = ports.reserve()
        self.variables: Mapping[str, str] = {}

    @property
    def address(self) -> str:
        return f"{ports.HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        # -P: the working folder is the data folder, and what lies there must never be imported.
        return [sys.executable, "-P", "-m", self.module]

    def environment(self) -> Mapping[str, str]:
        # A proxy is for the world outside: the parts of one machine speak directly.
        return {**super().environment(), "no_proxy": "127.0.0.1,localhost", **self.variables}


class HttpProcess(PythonProcess):
    """A module that speaks HTTP and answers /healthz."""

    def probe(self) -> None:
        connection = HTTPConnection(self.address, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise ConnectionError(f"/healthz answered {answer.status}")
        finally:
            connection.close()


class GrpcProcess(PythonProcess):
    """A service that answers grpc.health.v1, and shows its metrics on a second port."""

    def __init__(self, name: str, folder: Path, module: str) -> None:
        super().__init__(name, folder, module)
        self.metrics_address = f"{ports.HOST}:{ports.reserve()}"
        self.certificate: Certificate | None = None
        """What it shows, and asks of others; None without TLS."""

    def _channel(self) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0)]
        if self.certificate is None:
            return grpc.insecure_channel(self.address, options)
        key, cert, ca = (
            file.read_bytes() for file in (self.certificate.key, self.certificate.cert, self.certificate.ca)
        )
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(ca, key, cert), options)

    def probe(self) -> None:
        with self._channel() as channel:
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise ConnectionError(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


class QueueProcess(GrpcProcess):
    """The queue listens on a second port for whoever reads a sale's public standing."""

    def __init__(self, name: str, folder: Path, module: str) -> None:
        super().__init__(name, folder, module)
        self.standing_address = f"{ports.HOST}:{ports.reserve()}"


class CheckoutProcess(GrpcProcess):
    """Checkout listens on one more port for the payment provider's webhooks."""

    def __init__(self, name: str, folder: Path, module: str) -> None:
        super().__init__(name, folder, module)
        self.webhook_address = f"{ports.HOST}:{ports.reserve()}"


def service_process(service: str) -> type[GrpcProcess]:
    """What runs a replica of this service."""
    return {"queue": QueueProcess, "checkout": CheckoutProcess}.get(service, GrpcProcess)


async def side_by_side(coroutines: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Run all at once. The first failure cancels the others and is raised as it is, not in a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
