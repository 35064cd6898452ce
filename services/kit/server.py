"""Serving: a gRPC server with health, reflection, identity and the error table, drained when told to stop."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import grpc
import grpc.aio
import uvloop
from google.protobuf.descriptor_pool import Default
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from services.kit import metrics, tls, tracing
from services.kit.identity import Verifier
from services.kit.interceptor import Guard
from services.kit.keys import LiveRing
from services.kit.logs import get_logger
from services.kit.settings import CommonSettings, SettingError, exit_for, variable_of

# (add_XServicer_to_server, servicer, full name of the service)
Service = tuple[Callable[[Any, Any], None], Any, str]

_PUBLIC = frozenset(
    {
        f"/{health.SERVICE_NAME}/",
        "/grpc.reflection.v1alpha.ServerReflection/",
        "/grpc.reflection.v1.ServerReflection/",
    }
)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
MAX_PENDING_CALLS = 100_000
# gRPC itself refuses what is larger, without our details; the gap is refused by name.
_HARD_LIMIT_FACTOR = 4
_MOMENT_S = 0.1
# A crowd of calls under way is thousands of objects that are soon gone by themselves: collections that begin
# after 700 of them go through them again and again.
_GC_OBJECTS = 20_000

_log = get_logger("server")


class _Registry:
    """Takes what generated code registers, but for its list of methods by name.

    A server of gRPC waits for the next call of each method on that list apart, and goes through the whole
    list at every call; what is not on it is found by name all the same. With twenty methods that was a tenth
    of what a call costs.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Leaves it at the handlers that are found by name."""


class Server:
    """One service's gRPC server."""

    def __init__(
        self,
        name: str,
        settings: CommonSettings,
        services: Sequence[Service],
        *,
        public: Collection[str] = (),
    ) -> None:
        """`public` names the methods that need no token, as "/package.Service/Method".

        Raises SettingError for a buyers' key file, or files of certificates, that cannot be used.
        """
        keys = LiveRing(settings.buyer_hash_key_file, "buyer_hash_key_file")
        verifier = Verifier(
            settings.jwks_url,
            settings.oidc_issuer,
            settings.audience,
            keys,
            fresh_s=settings.jwks_fresh_s,
            remember_s=settings.token_remembered_s,
            remember_most=settings.tokens_remembered,
            context=tls.to_issuer(settings),
        )
        self._credentials = tls.server_credentials(settings)
        self._draining = asyncio.Event()
        self._guard = Guard(verifier, settings.max_message_bytes, _PUBLIC.union(public), self._draining)
        self._name = name
        self._settings = settings
        self._server = grpc.aio.server(interceptors=[self._guard], options=_options(settings))
        self._health = health.aio.HealthServicer()
        self._names = [full_name for _, _, full_name in services]
        registry: Any = _Registry(self._server)
        for add, servicer, full_name in services:
            add(servicer, registry)
            for method in Default().FindServiceByName(full_name).methods:
                # From the start, as the first defect is seen only against a zero before it.
                metrics.RPC_REFUSALS.labels(f"/{full_name}/{method.name}", "INTERNAL")
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)
        reflected = [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(reflected), registry
        )

    async def start(self) -> int:
        """Listens and reports SERVING; answers the port. Raises SettingError where it cannot listen."""
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(self._settings.listen)
            else:
                port = self._server.add_secure_port(self._settings.listen, self._credentials)
        except RuntimeError:
            port = 0
        if port == 0 and not self._settings.listen.startswith("unix:"):
            raise SettingError(
                variable_of("listen"),
                f"{self._settings.listen!r}, where this process cannot listen",
                "host:port of this machine that nobody else listens on",
            )
        await self._server.start()
        for name in ["", *self._names]:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        _log.info("serving", name=self._name, listen=self._settings.listen, port=port)
        return port

    async def stop(self, on_drain: Callable[[], Awaitable[None]] | None = None) -> None:
        """Reports NOT_SERVING and goes on for `lame_duck_s`; then ends streams of requests, runs `on_drain`,
        lets calls finish, and ends those that do not.

        A server of gRPC that stops cancels what it has accepted and not begun. So it stops only when callers
        have had the time to go elsewhere, and what they had sent before has begun.
        """
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.lame_duck_s)
        _log.info("draining", name=self._name, at_most_s=self._settings.drain_s)
        self._draining.set()
        deadline = asyncio.get_running_loop().time() + self._settings.drain_s
        if on_drain is not None:
            try:
                async with asyncio.timeout_at(deadline):
                    await on_drain()
            except Exception:
                _log.exception("draining failed")
        if self._settings.lame_duck_s:
            await self._all_begun()
        await self._server.stop(max(0.0, deadline - asyncio.get_running_loop().time()))
        _log.info("stopped", name=self._name)

    async def _all_begun(self) -> None:
        """Returns once no call has begun for a moment, or half of the drain is over: some never go away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s / 2):
                begun = -1
                while begun != self._guard.begun:
                    begun = self._guard.begun
                    await asyncio.sleep(_MOMENT_S)

    async def abandon(self) -> None:
        """Ends every call at once."""
        await self._server.stop(None)


async def serve(
    name: str,
    settings: CommonSettings,
    services: Sequence[Service],
    *,
    on_told: Callable[[], None] | None = None,
    on_drain: Callable[[], Awaitable[None]] | None = None,
    public: Collection[str] = (),
) -> None:
    """Serves until SIGTERM or SIGINT, then leaves; a second signal ends what is still running at once.

    `on_told` runs at the signal: tell balancers of other listeners to go elsewhere. `on_drain` runs when the
    lame duck is over and the drain begins, while calls still run: end streams and take no new work there.
    """
    tracing.configure(name, settings)
    loop = asyncio.get_running_loop()
    started, told, told_again = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (told_again if told.is_set() else told).set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        server = Server(name, settings, services, public=public)
        async with metrics.listening(settings, lambda: started.is_set() and not told.is_set()):
            _set_apart()
            await server.start()
            started.set()
            try:
                await told.wait()
            except asyncio.CancelledError:
                # Another part of the process has failed, and says why.
                await server.abandon()
                raise
            _log.info("leaving", name=name, lame_duck_s=settings.lame_duck_s)
            if on_told is not None:
                on_told()
            stopping = asyncio.create_task(server.stop(on_drain))
            impatient = asyncio.create_task(told_again.wait())
            await asyncio.wait({stopping, impatient}, return_when=asyncio.FIRST_COMPLETED)
            impatient.cancel()
            if not stopping.done():
                stopping.cancel()
                await server.abandon()
            else:
                await stopping
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        await asyncio.to_thread(tracing.close)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a service's main coroutine on uvloop. A SettingError prints its sentence and exits with 2."""

    async def started() -> None:
        await main()

    try:
        uvloop.run(started())
    except SettingError as error:
        exit_for(error)
    except KeyboardInterrupt:
        # Before it served; while it serves, the signal begins the drain.
        raise SystemExit(130) from None


def _set_apart() -> None:
    """Keeps what was imported and wired out of garbage collections: they would go through a hundred thousand
    objects that live as long as the process, while every call waits."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_OBJECTS, *gc.get_threshold()[1:])


def _options(settings: CommonSettings) -> list[tuple[str, int]]:
    age = [("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000))]
    return [
        *(age if settings.connection_age_s else []),
        # A taken port must fail the start instead of sharing the calls with whoever has it.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes * _HARD_LIMIT_FACTOR),
        ("grpc.max_send_message_length", settings.max_message_bytes * _HARD_LIMIT_FACTOR),
        # Clients that keep idle connections alive are welcome, not told to go away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        # A crowd that calls at once waits for this process to come round to it. gRPC itself would begin to
        # cancel calls beyond 1000 that wait, without a word of why; limits of ours refuse by name.
        ("grpc.server.max_pending_requests", MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_CALLS),
        # Streams that nobody reads any more are found out.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
