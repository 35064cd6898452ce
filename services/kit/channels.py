"""Channels to other services: one per target, kept, each call with this service's token and a deadline."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.kit import tls, tracing
from services.kit.errors import Refusal
from services.kit.logs import get_logger
from services.kit.tasks import stop

DEFAULT_DEADLINE_S = 10.0

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_LOOK_AGAIN_S = 2.0
# What a call to another service takes at most, streams apart, which are opened again.
_LEAVE_S = 60.0
# They carry no id of their own: repeated after another call in between they would undo what that one did.
NOT_REPEATED = (
    ("catraca.queue.v1.QueueService", "Leave"),
    ("catraca.sale.v1.SaleService", "Define"),
    ("catraca.sale.v1.SaleService", "Pause"),
    ("catraca.sale.v1.SaleService", "Archive"),
    ("catraca.sale.v1.SaleService", "PutAccessCodes"),
)
_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        # Each replica is watched: one that is about to stop says so, and gets no more calls from then on.
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [
            {"name": [{"service": service, "method": method} for service, method in NOT_REPEATED]},
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 3,
                    # A server that ends says CANCELLED to what it has not begun; no service does otherwise.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            },
        ],
        # Keeps repeats from burying a service that is down.
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    }
)
RECONNECT_S = 1.0
"""How long a replica that is back may wait to be found, at most."""
# Spreads calls over all replicas of a target, and takes them elsewhere when one stops.
BALANCED = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", round(RECONNECT_S * 1000)),
)
_OPTIONS = [
    *BALANCED,
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]

_log = get_logger("channels")


class Channels:
    """Keeps one channel per target. `service_token_file` is read again when it changes."""

    def __init__(self, service_token_file: Path, files: tls.ChannelFiles | None = None) -> None:
        """`files` say what channels are made with; without them they are plain."""
        self._token = _TokenFile(service_token_file)
        self._files = files
        self._channels: dict[str, _Authorized] = {}

    def channel(self, target: str) -> grpc.aio.Channel:
        """The channel to a target (host:port, or dns:///name:port for every replica behind a name).

        Unary calls without a timeout get one of 10 seconds. A call raises Refusal UNAVAILABLE while the token
        file cannot be read.
        """
        if target not in self._channels:
            self._channels[target] = _Authorized(_Line(target, self._files), self._token)
        return self._channels[target]

    async def close(self) -> None:
        """Closes every channel; calls that run are cancelled."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


class _TokenFile:
    """A bearer token in a file that someone else replaces from time to time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metadata: tuple[str, str] | None = None
        self._look_at = 0.0

    def metadata(self) -> tuple[str, str]:
        """The `authorization` entry of a call."""
        now = time.monotonic()
        if self._metadata is None or now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN_S
            try:
                self._metadata = ("authorization", f"Bearer {self._path.read_text('ascii').strip()}")
            except (OSError, ValueError) as error:
                # The token in hand may still be good: a file that is being replaced comes back.
                _log.warning("the service's token cannot be read", path=str(self._path), problem=str(error))
        if self._metadata is None:
            raise Refusal("UNAVAILABLE")
        return self._metadata


class _Line:
    """The channel to a target, replaced by another when this service's certificate is renewed.

    gRPC shows for ever what a channel was made with. Calls that run end on the channel they began on.
    """

    def __init__(self, target: str, files: tls.ChannelFiles | None) -> None:
        self._target = target
        self._files = files
        self._made_with = self._credentials()
        self.channel = self._open()
        self._leaving: set[asyncio.Task[None]] = set()

    def present(self) -> grpc.aio.Channel:
        """The channel for a call that begins now."""
        credentials = self._credentials()
        if credentials is not self._made_with:
            former, self._made_with = self.channel, credentials
            self.channel = self._open()
            leaving = asyncio.create_task(former.close(_LEAVE_S))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        return self.channel

    async def close(self, grace: float | None) -> None:
        """Close the channel, and what is left of its forerunners."""
        await self.channel.close(grace)
        await stop(*self._leaving)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        return None if self._files is None else self._files.credentials()

    def _open(self) -> grpc.aio.Channel:
        if self._made_with is None:
            return grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        return grpc.aio.secure_channel(
            self._target, self._made_with, options=[*_OPTIONS, *name_for(self._target)]
        )


def name_for(target: str) -> list[tuple[str, str]]:
    """The name that a certificate must bear where the target is a list of addresses, and gRPC takes none."""
    if not target.startswith(("ipv4:", "ipv6:")):
        return []
    first = target.split(":", 1)[1].split(",")[0]
    return [("grpc.default_authority", first.rpartition(":")[0])]


class _Authorized(grpc.aio.Channel):
    """A channel whose calls carry the token; a client interceptor would cost a task per call."""

    def __init__(self, line: _Line, token: _TokenFile) -> None:
        self._line = line
        self._token = token

    def _method(self, kind: str, method: str, *arguments: Any, **options: Any) -> Any:
        """The method on the channel there is when it is called."""
        on, callable_ = self._line.channel, getattr(self._line.channel, kind)(method, *arguments, **options)

        def call(request: Any, **how: Any) -> Any:
            nonlocal on, callable_
            present = self._line.present()
            if present is not on:
                on, callable_ = present, getattr(present, kind)(method, *arguments, **options)
            return callable_(request, **how)

        return call

    def _calling(self, call: Any, default_timeout: float | None) -> Any:
        def authorized(
            request: Any = None, *, timeout: float | None = default_timeout, metadata: Any = None, **rest: Any
        ) -> Any:
            timeout = default_timeout if timeout is None else timeout
            metadata = (self._token.metadata(), *(metadata or ()))
            return call(request, timeout=timeout, metadata=metadata, **rest)

        return authorized

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        call = self._method("unary_unary", method, *arguments, **options)

        def traced(request: Any, *, metadata: Any = (), **rest: Any) -> Any:
            span, carried = tracing.calling(method)
            running = call(request, metadata=(*metadata, *carried), **rest)
            if span is not None:
                running.add_done_callback(lambda _: span.end())
            return running

        return self._calling(traced, DEFAULT_DEADLINE_S)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._method("unary_stream", method, *arguments, **options), None)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._method("stream_unary", method, *arguments, **options), None)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._method("stream_stream", method, *arguments, **options), None)

    async def __aenter__(self) -> "_Authorized":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel."""
        await self._line.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the channel is connected."""
        return self._line.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another."""
        await self._line.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the channel is connected."""
        await self._line.channel.channel_ready()
