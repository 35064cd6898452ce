"""Sends what many buyers ask as batches over one bidirectional stream, opened again whenever it breaks."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

import grpc

from local.rush.intent import Do
from local.rush.record import Answer, Refused
from services.kit.errors import refusal_of

Request = TypeVar("Request")
Response = TypeVar("Response")

# A stream that is sent elsewhere ends with what was under way; the same ids again, on the next stream.
TRIES = 4
ANSWER_TIMEOUT_S = 20.0
REOPEN_PAUSE_S = 0.1


class Broken(Exception):
    """The stream ended where an answer was due."""


class Pump(Generic[Request, Response]):
    """One batch at a time is under way; what comes meanwhile forms the next one.

    `build` makes the request of some asks, `read` the answers of a response in the same order, `answered`
    takes each of them. When the stream breaks, what was under way is sent again on another one, and
    `repeated` is told how many asks those are. Where that does not help, the refusal's word is the answer.
    """

    def __init__(
        self,
        open_stream: Callable[[], "grpc.aio.StreamStreamCall[Request, Response]"],
        build: Callable[[Sequence[Do]], Request],
        read: Callable[[Response], list[Answer]],
        answered: Callable[[Do, Answer], None],
        limit: int,
        repeated: Callable[[int], None],
    ) -> None:
        self._open_stream = open_stream
        self._build = build
        self._read = read
        self._answered = answered
        self._limit = limit
        self._repeated = repeated
        self._stream: grpc.aio.StreamStreamCall[Request, Response] | None = None
        self._waiting: deque[Do] = deque()
        self._wake = asyncio.Event()

    def put(self, do: Do) -> None:
        """Send it with the next batch."""
        self._waiting.append(do)
        self._wake.set()

    async def run(self) -> None:
        """Sends and reads for ever."""
        while True:
            self._wake.clear()
            if not self._waiting:
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            for do, answer in zip(batch, await self._answers(batch), strict=True):
                self._answered(do, answer)

    async def _answers(self, batch: Sequence[Do]) -> list[Answer]:
        tries = 1
        while True:
            if self._stream is None or self._stream.done():
                self._stream = self._open_stream()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await self._exchange(self._stream, batch)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, Broken, TimeoutError) as error:
                self._stream.cancel()
                self._stream = None
                if tries >= TRIES:
                    return [Refused(word_of(error), {})] * len(batch)
            self._repeated(len(batch))
            await asyncio.sleep(REOPEN_PAUSE_S * tries)
            tries += 1

    async def _exchange(
        self, stream: "grpc.aio.StreamStreamCall[Request, Response]", batch: Sequence[Do]
    ) -> list[Answer]:
        await stream.write(self._build(batch))
        response = await stream.read()
        if response is grpc.aio.EOF:
            raise Broken
        answers = self._read(cast(Response, response))
        if len(answers) != len(batch):
            raise Broken
        return answers


def word_of(error: BaseException) -> str:
    """The reason a call was refused for; what broke without one is UNAVAILABLE, as nothing is known."""
    refusal = refusal_of(error)
    if refusal is not None:
        return refusal.word
    if isinstance(error, TimeoutError):
        return "DEADLINE"
    if isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "DEADLINE"
    return "UNAVAILABLE"
