"""Calls any method with any bytes, over gRPC itself, and tells what came back."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import Message

from local.client import MAX_ANSWER_BYTES, Metadata
from services.kit.errors import refusal_of
from tests.fuzz.contract import Method

PATIENCE_S = 30.0
"""For an answer that must come."""
LASTING = frozenset(
    {
        "QueueService.Watch",
        "QueueService.WatchSale",
        "NotifierService.Subscribe",
        "NotifierService.SubscribeMany",
        "InventoryService.WatchAvailability",
    }
)
"""Streams of answers that do not end by themselves: they are left after the first one."""

# What gRPC's own client says where the server's answer came while it was still writing.
GAVE_UP = "Internal error from Core"


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    status: grpc.StatusCode
    reason: str = ""
    """Of its ErrorInfo; empty where there is none."""
    message: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    may_retry: bool = False
    """Whether it carries RetryInfo."""
    responses: tuple[Message, ...] = ()

    @property
    def word(self) -> str:
        """The reason, or the status where there is none."""
        return self.reason or self.status.name

    @property
    def fine(self) -> bool:
        """Whether the call as a whole was not refused."""
        return self.status is grpc.StatusCode.OK

    def __str__(self) -> str:
        retry = " (retry)" if self.may_retry else ""
        return f"{self.status.name} {self.reason}{retry} {self.message[:200]!r} {dict(self.detail)}"


class Wire:
    """One channel to each service; requests are bytes, so that they may be wrong ones."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
            ("grpc.enable_http_proxy", 0),
        ]
        self._channels = {
            name: grpc.aio.insecure_channel(target, options=options) for name, target in targets.items()
        }
        self._calls: dict[tuple[str, str], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def call(self, method: Method, requests: Sequence[bytes], metadata: Metadata) -> Answer:
        """The answer to these requests, as many as they are, also where the method takes just one."""
        responses: list[bytes] = []
        try:
            async with asyncio.timeout(PATIENCE_S):
                if len(requests) != 1:
                    await self._stream(method, requests, metadata, responses)
                elif method.streams_in or method.streams_out:
                    call = self._callable(method, "unary_stream")(requests[0], metadata=metadata)
                    await _read(method, call, responses)
                else:
                    call = self._callable(method, "unary_unary")(requests[0], metadata=metadata)
                    responses.append(await call)
        except grpc.aio.AioRpcError as error:
            if error.details() == GAVE_UP:
                return await self.call(method, requests, metadata)
            return _refused(error)
        except TimeoutError:
            return Answer(grpc.StatusCode.UNKNOWN, message=f"no answer within {PATIENCE_S:g} s")
        parsed = tuple(method.response.FromString(each) for each in responses)
        return Answer(grpc.StatusCode.OK, responses=parsed)

    async def _stream(
        self, method: Method, requests: Sequence[bytes], metadata: Metadata, responses: list[bytes]
    ) -> None:
        call = self._callable(method, "stream_stream")(metadata=metadata)
        # A call that ended while it was written to says why when it is read.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            for request in requests:
                await call.write(request)
            await call.done_writing()
        await _read(method, call, responses)

    def _callable(self, method: Method, kind: str) -> Any:
        """One message goes with the call's beginning, whatever the method takes: the wire shows no other."""
        key = method.path, kind
        if key not in self._calls:
            self._calls[key] = getattr(self._channels[method.service], kind)(method.path)
        return self._calls[key]


async def _read(method: Method, call: Any, responses: list[bytes]) -> None:
    try:
        while (response := await call.read()) is not grpc.aio.EOF:
            responses.append(response)
            if method.name in LASTING:
                return
    finally:
        call.cancel()


def _refused(error: grpc.aio.AioRpcError) -> Answer:
    refusal = refusal_of(error)
    if refusal is None:
        return Answer(error.code(), message=error.details() or "")
    return Answer(
        error.code(), refusal.word, refusal.message, refusal.metadata, refusal.retry_after_s is not None
    )
