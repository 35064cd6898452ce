"""Refusals: raised by any part, told as gRPC statuses with details, and read back from them by clients.

Beside it stands the one table of the exceptions that are refusals too: a store that does not answer is
UNAVAILABLE, whoever meets it.
"""

from collections.abc import Mapping
from typing import NoReturn

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from services.kit.reasons import TABLE

DOMAIN = "catraca.dev"
STATUS: Mapping[str, grpc.StatusCode] = {word: row.code for word, row in TABLE.items()}

_DETAILS_KEY = "grpc-status-details-bin"
# A refusal that a called service made of our own credentials or code, not of what our caller asked for.
_NOT_PASSED_ON = frozenset({"TOKEN_INVALID", "ROLE_REQUIRED", "METHOD_UNKNOWN", "INTERNAL"})


class Refusal(Exception):
    """A named no. `word` is a Reason without its prefix; `metadata` is what the reason's comment names."""

    def __init__(
        self, word: str, message: str = "", /, *, retry_after_s: float | None = None, **metadata: str | int
    ) -> None:
        """Raises ValueError for a word that no call can be refused with."""
        row = TABLE.get(word)
        if row is None:
            raise ValueError(f"{word} is not the name of a reason that a call is refused with")
        self.word = word
        self.message = message or row.message
        self.retry_after_s = row.retry_after_s if retry_after_s is None else retry_after_s
        self.metadata: dict[str, str] = {name: str(value) for name, value in metadata.items()}
        super().__init__(f"{word}: {self.message}")

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status that this refusal is told as."""
        return STATUS[self.word]


# Exceptions that say "not now" or "not so", by qualified name so that no service imports a client it does
# not use. The nearest class in the exception's line of descent decides; nats' TimeoutError is also the
# built-in one.
EXCEPTIONS: Mapping[str, str] = {
    "builtins.TimeoutError": "DEADLINE",
    "builtins.ConnectionError": "UNAVAILABLE",
    # A connection that ends while it is being made.
    "builtins.EOFError": "UNAVAILABLE",
    # What a generated servicer raises for a method that nobody wrote.
    "builtins.NotImplementedError": "METHOD_UNKNOWN",
    "socket.gaierror": "UNAVAILABLE",
    "ssl.SSLError": "UNAVAILABLE",
    "redis.exceptions.ConnectionError": "UNAVAILABLE",
    "redis.exceptions.TimeoutError": "UNAVAILABLE",
    "redis.exceptions.MaxConnectionsError": "OVERLOADED",
    "redis.exceptions.OutOfMemoryError": "OVERLOADED",
    "redis.exceptions.ReadOnlyError": "UNAVAILABLE",
    "redis.exceptions.ClusterDownError": "UNAVAILABLE",
    "redis.exceptions.TryAgainError": "UNAVAILABLE",
    "nats.errors.TimeoutError": "UNAVAILABLE",
    "nats.errors.NoRespondersError": "UNAVAILABLE",
    "nats.errors.StaleConnectionError": "UNAVAILABLE",
    "nats.errors.ConnectionClosedError": "UNAVAILABLE",
    "nats.errors.ConnectionDrainingError": "UNAVAILABLE",
    "nats.errors.ConnectionReconnectingError": "UNAVAILABLE",
    "nats.errors.NoServersError": "UNAVAILABLE",
    "nats.errors.OutboundBufferLimitError": "OVERLOADED",
    "nats.js.errors.ServiceUnavailableError": "UNAVAILABLE",
    # A server that is still reading its streams after a crash.
    "nats.js.errors.ServerError": "UNAVAILABLE",
    "services.kit.messages.ReadFailed": "UNAVAILABLE",
    "nats.js.errors.NoStreamResponseError": "UNAVAILABLE",
    "asyncpg.exceptions.PostgresConnectionError": "UNAVAILABLE",
    "asyncpg.exceptions.CannotConnectNowError": "UNAVAILABLE",
    "asyncpg.exceptions.AdminShutdownError": "UNAVAILABLE",
    "asyncpg.exceptions.CrashShutdownError": "UNAVAILABLE",
    "asyncpg.exceptions.TransactionRollbackError": "UNAVAILABLE",
    "asyncpg.exceptions.QueryCanceledError": "UNAVAILABLE",
    "asyncpg.exceptions.TooManyConnectionsError": "OVERLOADED",
    "asyncpg.exceptions.InsufficientResourcesError": "OVERLOADED",
    "aiohttp.client_exceptions.ClientConnectionError": "UNAVAILABLE",
    "aiohttp.client_exceptions.ClientPayloadError": "UNAVAILABLE",
    # A body that is not compressed as it says.
    "aiohttp.web_protocol.RequestPayloadError": "INVALID_FIELD",
}

# asyncpg has one class for a connection that is gone and for a wrong call; these words tell the first.
_GONE: Mapping[str, str] = {
    "asyncpg.exceptions._base.InterfaceError": "clos",
    # A server that dies may say so unasked: until the connection ends, the client is in the middle of that.
    "asyncpg.exceptions._base.InternalClientError": "another operation (2) is in progress",
}

_CALLED: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "UNAVAILABLE",
    grpc.StatusCode.DEADLINE_EXCEEDED: "UNAVAILABLE",
    grpc.StatusCode.CANCELLED: "UNAVAILABLE",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "OVERLOADED",
}


def refusal_for(error: BaseException) -> Refusal | None:
    """The refusal that an exception means; None for a defect."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, grpc.aio.AioRpcError):
        return _refusal_for_call(error)
    for ancestor in type(error).__mro__:
        name = f"{ancestor.__module__}.{ancestor.__qualname__}"
        if name in _GONE and _GONE[name] in str(error):
            return Refusal("UNAVAILABLE")
        if name in EXCEPTIONS:
            return Refusal(EXCEPTIONS[name])
    return None


def _refusal_for_call(error: grpc.aio.AioRpcError) -> Refusal | None:
    refusal = refusal_of(error)
    if refusal is None:
        word = _CALLED.get(error.code())
        return Refusal(word) if word else None
    if refusal.word == "TOKEN_EXPIRED":
        # It is our own token that expired; its file is read again soon.
        return Refusal("UNAVAILABLE")
    return None if refusal.word in _NOT_PASSED_ON else refusal


async def abort_with(context: "grpc.aio.ServicerContext[object, object]", refusal: Refusal) -> NoReturn:
    """Ends the call with the refusal's status and details."""
    await context.abort(refusal.code, refusal.message, trailing_metadata_of(refusal))
    raise AssertionError("abort always raises")


def trailing_metadata_of(refusal: Refusal) -> tuple[tuple[str, bytes]]:
    """ErrorInfo, and RetryInfo where trying again can succeed, as the trailing metadata that carries them."""
    details = [
        _packed(error_details_pb2.ErrorInfo(reason=refusal.word, domain=DOMAIN, metadata=refusal.metadata))
    ]
    if refusal.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(refusal.retry_after_s * 1000))
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message, details=details)
    return ((_DETAILS_KEY, status.SerializeToString()),)


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal that a service answered with; None where the error carries none of ours."""
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return _decoded(value)
    return None


def _decoded(value: bytes) -> Refusal | None:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after_s = None
    try:
        status = status_pb2.Status.FromString(value)
        for detail in status.details:
            if detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToMilliseconds() / 1000
            else:
                detail.Unpack(info)
    except DecodeError:
        return None
    if info.domain != DOMAIN or info.reason not in TABLE:
        return None
    refusal = Refusal(info.reason, status.message, **dict(info.metadata))
    # What the answer says stands, also where it gives no hint.
    refusal.retry_after_s = retry_after_s
    return refusal


def refuse_word(word: str, detail: Mapping[str, object] | None = None) -> Refusal:
    """The refusal of a script's or ledger's result. `detail` becomes the metadata.

    A `retry_after_ms` in the detail becomes the hint for trying again.
    """
    metadata = {name: str(value) for name, value in (detail or {}).items()}
    retry_after_ms = metadata.pop("retry_after_ms", None)
    return Refusal(
        word, retry_after_s=None if retry_after_ms is None else int(retry_after_ms) / 1000, **metadata
    )
