"""The one interceptor: verifies who calls, and ends a call that fails with the status the table names."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from services.kit import metrics, tracing
from services.kit.errors import Refusal, abort_with, refusal_for
from services.kit.identity import Caller, Metadata, Verifier, set_caller
from services.kit.logs import get_logger

_log = get_logger("rpc")

# Worth a line where an exception meant it: something that we need did not answer.
_OUTAGES = frozenset({"UNAVAILABLE", "OVERLOADED", "DEADLINE"})

Context = Any
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class Guard(grpc.aio.ServerInterceptor):
    """Wraps every method once; a call then costs a look-up of its token and no more.

    `public` names what needs no token: "/package.Service/Method", or "/package.Service/" for all of it. Once
    `draining` is set, streams of requests end with UNAVAILABLE after the request that they are at.
    """

    def __init__(
        self,
        verifier: Verifier,
        max_message_bytes: int,
        public: Collection[str],
        draining: asyncio.Event,
    ) -> None:
        self._verifier = verifier
        self._max_message_bytes = max_message_bytes
        self._public = frozenset(public)
        self._draining = draining
        self.begun = 0
        """How many calls have begun."""
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> Any:
        """The wrapped handler of the method, also of one that does not exist."""
        self.begun += 1
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                # Not kept: a caller may think of as many names as it likes.
                return _UNKNOWN
            wrapped = self._wrap(details.method, handler)
            self._wrapped[details.method] = wrapped
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        public = method in self._public or f"{method.rpartition('/')[0]}/" in self._public
        verifier = None if public else self._verifier
        deserializer = self._bounded(handler.request_deserializer)
        if handler.unary_unary:
            behaviour = _unary_unary(method, handler.unary_unary, verifier)
            return handler._replace(unary_unary=behaviour, request_deserializer=deserializer)
        if handler.unary_stream:
            behaviour = _unary_stream(method, handler.unary_stream, verifier)
            return handler._replace(unary_stream=behaviour, request_deserializer=deserializer)
        if handler.stream_stream:
            behaviour = _stream_stream(method, handler.stream_stream, verifier, self._draining)
            return handler._replace(stream_stream=behaviour, request_deserializer=deserializer)
        raise TypeError(f"{method} is a client stream, which buyers' browsers cannot open")

    def _bounded(self, deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """A deserializer that answers a refusal instead of a message that is too large or none at all."""
        limit = self._max_message_bytes

        def bounded(data: bytes) -> Any:
            if len(data) > limit:
                return Refusal("MESSAGE_TOO_LARGE", f"A message has at most {limit} bytes.")
            try:
                return deserializer(data)
            except DecodeError:
                return Refusal("INVALID_FIELD", "The message cannot be read.", field="", expected="protobuf")

        return bounded


async def _admit(verifier: Verifier | None, metadata: Metadata) -> Caller | None:
    if verifier is None:
        return None
    who = verifier.remembered(metadata) or await verifier.verify(metadata)
    set_caller(who)
    return who


async def _fail(method: str, context: Context, error: Exception) -> None:
    """Ends the call with the status that the error means."""
    if isinstance(error, grpc.aio.AbortError):
        raise error
    refusal = refusal_for(error)
    word = refusal.word if refusal else "INTERNAL"
    metrics.RPC_REFUSALS.labels(method, word).inc()
    tracing.mark(word)
    if refusal is None or refusal.word == "INTERNAL":
        call_id = secrets.token_hex(8)
        _log.error("a call failed", method=method, call_id=call_id, exc_info=error)
        refusal = Refusal("INTERNAL", call_id=call_id)
    elif refusal.word in _OUTAGES and refusal is not error:
        _log.warning("a call was refused", method=method, word=refusal.word, problem=repr(error))
    await abort_with(context, refusal)


def _unary_unary(method: str, behaviour: Any, verifier: Verifier | None) -> Any:
    duration = metrics.RPC_DURATION.labels(method)

    async def guarded(request: Any, context: Context) -> Any:
        began = time.perf_counter()
        try:
            # gRPC makes it anew each time that it is asked for.
            metadata = context.invocation_metadata() or ()
            who = await _admit(verifier, metadata)
            with tracing.serving(method, metadata, who):
                try:
                    if type(request) is Refusal:
                        raise request
                    return await behaviour(request, context)
                except Exception as error:
                    # Within the span: what is logged of the failure names its trace.
                    return await _fail(method, context, error)
        except Exception as error:
            return await _fail(method, context, error)
        finally:
            duration.observe(time.perf_counter() - began)

    return guarded


def _unary_stream(method: str, behaviour: Any, verifier: Verifier | None) -> Any:
    streams = metrics.RPC_STREAMS.labels(method)

    async def guarded(request: Any, context: Context) -> None:
        with streams.track_inprogress():
            try:
                await _admit(verifier, context.invocation_metadata() or ())
                if type(request) is Refusal:
                    raise request
                await _answer(behaviour(request, context), context)
            except Exception as error:
                await _fail(method, context, error)

    return guarded


def _stream_stream(method: str, behaviour: Any, verifier: Verifier | None, draining: asyncio.Event) -> Any:
    streams = metrics.RPC_STREAMS.labels(method)

    async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
        with streams.track_inprogress():
            try:
                await _admit(verifier, context.invocation_metadata() or ())
                await _answer(behaviour(_sound(requests, draining), context), context)
            except Exception as error:
                await _fail(method, context, error)

    return guarded


async def _answer(answers: Any, context: Context) -> None:
    """Writes what a generator yields; a method that writes by itself is awaited."""
    if not hasattr(answers, "__aiter__"):
        await answers
        return
    try:
        async for answer in answers:
            await context.write(answer)
    finally:
        # At once, not when it is collected: what the generator opened is closed before the call ends.
        await answers.aclose()


async def _sound(requests: AsyncIterator[Any], draining: asyncio.Event) -> AsyncIterator[Any]:
    """The requests as they come. Raises the refusal of a bad one, and UNAVAILABLE once the process drains:
    the caller sends what has no answer yet to another replica."""
    coming = aiter(requests)
    drained = asyncio.ensure_future(draining.wait())
    reading: asyncio.Future[Any] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(anext(coming))
            await asyncio.wait({reading, drained}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise Refusal("UNAVAILABLE", "This replica is stopping; open again.")
            try:
                request = reading.result()
            except StopAsyncIteration:
                return
            if type(request) is Refusal:
                raise request
            yield request
    finally:
        drained.cancel()
        if reading is not None:
            reading.cancel()


async def _refuse_unknown(_requests: AsyncIterator[Any], context: Context) -> None:
    # Not by the name that was called: callers may think of as many as they like.
    metrics.RPC_REFUSALS.labels("unknown", "METHOD_UNKNOWN").inc()
    await abort_with(context, Refusal("METHOD_UNKNOWN"))


_UNKNOWN: Any = grpc.stream_stream_rpc_method_handler(_refuse_unknown)
