"""The pump: batches, answers in order, and a broken stream answered for every ask under way."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from local.rush.buyer import Buyer
from local.rush.intent import Do
from local.rush.people import person
from local.rush.pump import TRIES, Pump
from local.rush.record import Answer, Ask, Done, Refused
from local.rush.settings import RushSettings


class Stream:
    """Answers each request with its own items; ends instead of the answers numbered in `breaks`."""

    def __init__(self, breaks: set[int]) -> None:
        self.requests: list[list[int]] = []
        self.repeated = 0
        self._breaks = breaks

    async def write(self, request: list[int]) -> None:
        self.requests.append(request)

    async def read(self) -> Any:
        await asyncio.sleep(0)
        return grpc.aio.EOF if len(self.requests) in self._breaks else self.requests[-1]

    def cancel(self) -> None:
        pass

    def done(self) -> bool:
        return False


def does(count: int) -> list[Do]:
    return [Do(0.0, Ask.JOIN, Buyer(number, person(RushSettings(), number))) for number in range(count)]


async def run(stream: Stream, count: int, limit: int) -> list[tuple[int, Answer]]:
    """What every ask was answered, in order."""
    answers: list[tuple[int, Answer]] = []
    done = asyncio.Event()

    def answered(do: Do, answer: Answer) -> None:
        answers.append((do.buyer.number, answer))
        if len(answers) == count:
            done.set()

    def build(batch: Sequence[Do]) -> list[int]:
        return [do.buyer.number for do in batch]

    def read(response: list[int]) -> list[Answer]:
        return [Done(str(number)) for number in response]

    def repeated(asks: int) -> None:
        stream.repeated += asks

    pump = Pump(lambda: stream, build, read, answered, limit, repeated)  # type: ignore[arg-type, return-value]
    for do in does(count):
        pump.put(do)
    running = asyncio.create_task(pump.run())
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    return answers


async def test_batches_have_a_limit_and_answers_find_their_asks() -> None:
    stream = Stream(breaks=set())
    answers = await run(stream, count=5, limit=2)
    assert stream.requests == [[0, 1], [2, 3], [4]]
    assert answers == [(number, Done(str(number))) for number in range(5)]


async def test_what_was_under_way_when_a_stream_broke_is_sent_again() -> None:
    stream = Stream(breaks={1})
    answers = await run(stream, count=3, limit=2)
    assert stream.requests == [[0, 1], [0, 1], [2]]
    assert answers == [(number, Done(str(number))) for number in range(3)]
    assert stream.repeated == 2


async def test_a_stream_that_breaks_every_time_answers_its_batch_and_the_next_batch_goes_on() -> None:
    answers = await run(Stream(breaks=set(range(1, TRIES + 1))), count=3, limit=2)
    assert answers == [
        (0, Refused("UNAVAILABLE", {})),
        (1, Refused("UNAVAILABLE", {})),
        (2, Done("2")),
    ]
