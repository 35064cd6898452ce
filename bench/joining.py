"""Ways to join a line, each a subject of rounds that answers joins a second."""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from catraca.queue.v1 import queue_pb2 as queue
from redis.asyncio import Redis as Client

from bench.ground import BUYER, Ground, exchange
from bench.hall import script_us
from bench.wire import Call, Prepared, flood
from services.queue.draw import BUYER_BYTES
from services.queue.store import keys_of, load_script

JOIN = "/catraca.queue.v1.QueueService/Join"
JOIN_MANY = "/catraca.queue.v1.QueueService/JoinMany"
BATCH = 500
"""Buyers of a message, and of a run of the script."""
BATCHES = 80
"""Messages of one round: 40,000 joins."""
STREAMS = 2
AHEAD = 4
STRAIGHT_AHEAD = 2
ONE_BY_ONE = 200
AT_ONCE = 64
DAY_MS = 86_400_000


class Joining:
    """Joins one sale through the service. Every join is another buyer's."""

    def __init__(self, ground: Ground, sale: str) -> None:
        self._ground = ground
        self.sale = sale
        self._number = count()
        self._prepared = Prepared(self._calls())
        self._streams: list[Any] = []
        self.joined = 0
        """How many stand in line by what was answered."""

    async def unary(self) -> float:
        """Joins a second, one in each call."""
        played = (await self._ground.play(self._prepared)).all(0)
        self.joined += len(played.statuses)
        return played.rate

    async def one_by_one(self) -> float:
        """Milliseconds of a join that nobody else is beside."""
        calls = self._prepared.ready(ONE_BY_ONE)
        await self._ground.at_rest()
        ready = [next(calls) for _ in range(ONE_BY_ONE)]
        played = (await flood(self._ground.wires, ready, 1, 60.0)).all(0)
        self.joined += len(played.statuses)
        return 1000 * played.seconds / len(played.statuses)

    async def batched(self) -> float:
        """Joins a second through JoinMany."""
        await self._ground.at_rest()
        joins = BATCH * BATCHES
        return joins / await self.join_many(joins)

    async def join_many(self, buyers: int) -> float:
        """Joins so many over a few streams; answers the seconds it took."""
        while len(self._streams) < STREAMS:
            self._streams.append(self._ground.stream(JOIN_MANY, "bff"))
        shares: list[list[bytes]] = [[] for _ in self._streams]
        for place, start in enumerate(range(0, buyers, BATCH)):
            shares[place % STREAMS].append(self._message(min(BATCH, buyers - start)))
        began = time.perf_counter()
        answered = await asyncio.gather(
            *(
                exchange(stream, share, AHEAD)
                for stream, share in zip(self._streams, shares, strict=True)
                if share
            )
        )
        seconds = time.perf_counter() - began
        for _, answers in answered:
            self._count(answers)
        return seconds

    def _count(self, answers: Sequence[bytes]) -> None:
        for answer in answers:
            results = queue.JoinManyResponse.FromString(answer).results
            refused = {result.refusal for result in results if result.refusal}
            if refused:
                raise AssertionError(f"joins were refused: {refused}")
            self.joined += len(results)

    async def check(self) -> None:
        """Raises AssertionError where others stand in line than were answered."""
        joined = int(await self._ground.redis.hget(keys_of(self.sale)[0], "count") or 0)
        if joined != self.joined:
            raise AssertionError(f"{self.joined} joins were answered, and {joined} stand in line")

    def _message(self, buyers: int) -> bytes:
        items = [queue.JoinItem(subject=subject_of(next(self._number))) for _ in range(buyers)]
        return bytes(queue.JoinManyRequest(sale=self.sale, items=items).SerializeToString())

    def _calls(self) -> Iterator[Call]:
        request = queue.JoinRequest(sale=self.sale).SerializeToString()
        while True:
            yield self._ground.caller.call(JOIN, request, (BUYER, f"one-{next(self._number):09d}"))


class Straight:
    """The join script driven straight at Redis, in batches of the same size, as fast as it answers."""

    def __init__(self, client: Client, sale: str, first: int = 0) -> None:
        """`first` numbers the buyers from there, so that nobody of the service's joins again."""
        self._client = client
        self._keys = keys_of(sale)
        self._script = load_script()
        self._number = count(first)

    async def open(self) -> None:
        """Makes a sale whose lobby is open; the service does not know of it."""
        now_ms = int(time.time() * 1000)
        definition = {
            "line": True,
            "lobby_opens_ms": now_ms,
            "opens_ms": now_ms + DAY_MS,
            "closes_ms": now_ms + 2 * DAY_MS,
            "paused": False,
            "commitment": b"",
            "codes": False,
            "challenge": False,
        }
        command = {"op": "define", "revision": 1, "definition": definition}
        await self._script.run(self._client, self._keys, {"epoch": 1, "create": True}, [command])

    async def batched(self) -> float:
        """Joins a second."""
        batches = iter([self._buyers(BATCH) for _ in range(BATCHES)])
        began = time.perf_counter()
        await asyncio.gather(*(self._drive(batches) for _ in range(STRAIGHT_AHEAD)))
        return BATCH * BATCHES / (time.perf_counter() - began)

    async def script_us(self) -> float:
        """Microseconds of script for a join, in a run of some."""
        buyers = self._buyers(AT_ONCE)
        before = await script_us(self._client)
        await self._join(buyers)
        return (await script_us(self._client) - before) / AT_ONCE

    async def _drive(self, batches: Iterator[bytes]) -> None:
        for buyers in batches:
            await self._join(buyers)

    async def _join(self, buyers: bytes) -> None:
        command = {
            "op": "join",
            "buyers": buyers,
            "pause_ms": 2000,
            "codes": b"",
            "challenges": b"",
            "spent_ms": 600_000,
        }
        joined, _ = await self._script.run(
            self._client, self._keys, {"epoch": 1}, [command, {"op": "standing"}]
        )
        if joined["word"] != "JOINED" or joined["earlier"]:
            raise AssertionError(f"a run of joins was answered with {joined['word']}, {joined['earlier']}")

    def _buyers(self, many: int) -> bytes:
        numbers = (next(self._number) for _ in range(many))
        return b"".join(_id_of(number) for number in numbers)


def _id_of(number: int) -> bytes:
    """An internal id: it is a hash, and the line counts on that."""
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=BUYER_BYTES).digest()


def subject_of(number: int) -> str:
    """The name of a buyer who joins through JoinMany."""
    return f"many-{number:09d}"
