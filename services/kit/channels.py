"""Channels to other services: one per target, kept, each call with this service's token and a deadline."""

import json
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from services.kit import tracing
from services.kit.errors import Refusal
from services.kit.logs import get_logger

DEFAULT_DEADLINE_S = 10.0

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_LOOK_AGAIN_S = 2.0
# They carry no id of their own: repeated after another call in between they would undo what that one did.
NOT_REPEATED = (
    ("catraca.queue.v1.QueueService", "Leave"),
    ("catraca.sale.v1.SaleService", "Define"),
    ("catraca.sale.v1.SaleService", "Pause"),
    ("catraca.sale.v1.SaleService", "Archive"),
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

    def __init__(self, service_token_file: Path) -> None:
        self._token = _TokenFile(service_token_file)
        self._channels: dict[str, grpc.aio.Channel] = {}

    def channel(self, target: str) -> grpc.aio.Channel:
        """The channel to a target (host:port, or dns:///name:port for every replica behind a name).

        Unary calls without a timeout get one of 10 seconds. A call raises Refusal UNAVAILABLE while the token
        file cannot be read.
        """
        if target not in self._channels:
            plain = grpc.aio.insecure_channel(target, options=_OPTIONS)
            self._channels[target] = _Authorized(plain, self._token)
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


class _Authorized(grpc.aio.Channel):
    """A channel whose calls carry the token; a client interceptor would cost a task per call."""

    def __init__(self, channel: grpc.aio.Channel, token: _TokenFile) -> None:
        self._channel = channel
        self._token = token

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
        call = self._channel.unary_unary(method, *arguments, **options)

        def traced(request: Any, *, metadata: Any = (), **rest: Any) -> Any:
            span, carried = tracing.calling(method)
            running = call(request, metadata=(*metadata, *carried), **rest)
            if span is not None:
                running.add_done_callback(lambda _: span.end())
            return running

        return self._calling(traced, DEFAULT_DEADLINE_S)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._channel.unary_stream(method, *arguments, **options), None)

    def stream_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._channel.stream_unary(method, *arguments, **options), None)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calling(self._channel.stream_stream(method, *arguments, **options), None)

    async def __aenter__(self) -> "_Authorized":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes the channel."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the channel is connected."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the channel is connected."""
        await self._channel.channel_ready()
