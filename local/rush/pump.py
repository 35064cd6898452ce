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

ANSWER_TIMEOUT_S = 20.0
REOPEN_PAUSE_S = 0.1


class Broken(Exception):
    """The stream ended where an answer was due."""


class Pump(Generic[Request, Response]):
    """One batch at a time is under way; what comes meanwhile forms the next one.

    `build` makes the request of some asks, `read` the answers of a response in the same order, `answered`
    takes each of them. When the stream breaks, every ask under way is answered with the word of that refusal.
    """

    def __init__(
        self,
        open_stream: Callable[[], "grpc.aio.StreamStreamCall[Request, Response]"],
        build: Callable[[Sequence[Do]], Request],
        read: Callable[[Response], list[Answer]],
        answered: Callable[[Do, Answer], None],
        limit: int,
    ) -> None:
        self._open_stream = open_stream
        self._build = build
        self._read = read
        self._answered = answered
        self._limit = limit
        self._waiting: deque[Do] = deque()
        self._wake = asyncio.Event()

    def put(self, do: Do) -> None:
        """Send it with the next batch."""
        self._waiting.append(do)
        self._wake.set()

    async def run(self) -> None:
        """Sends and reads for ever."""
        stream: grpc.aio.StreamStreamCall[Request, Response] | None = None
        while True:
            self._wake.clear()
            if not self._waiting:
                await self._wake.wait()
            batch = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
            stream = stream or self._open_stream()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    answers = await self._exchange(stream, batch)
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, Broken, TimeoutError) as error:
                stream.cancel()
                stream = None
                word = word_of(error)
                answers = [Refused(word, {})] * len(batch)
                await asyncio.sleep(REOPEN_PAUSE_S)
            for do, answer in zip(batch, answers, strict=True):
                self._answered(do, answer)

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
