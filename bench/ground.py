"""What measurements run on: the embedded stack with one service's server having an empty method beside it."""

import asyncio
import math
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
from catraca.sale.v1 import sale_pb2
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis as Client

from bench.served import EMPTY
from bench.wire import Call, Caller, Played, Prepared, Wire, flood
from local.client import Connection, Organiser, Targets, bearer
from local.discovery import RunningStack
from local.issuer.tokens import Minter
from local.rush.run import organiser_of
from local.rush.sale import duration, timestamp
from local.stack import Stack
from services.kit.buyers import to_text
from services.kit.redis import connect

SECTION = "hall"
NAMESPACE = "bench"
CONNECTIONS = 2
LANES = 200
"""Calls on their way at once, over all connections."""
ROUND_S = 1.0
"""How long calls are played in one round."""
FASTEST = 20_000
"""Calls a second that are made ready for a round; no service here answers as many."""
BUYER = "catraca-buyer"
DURABLE, NOT_DURABLE = "always", "no"
"""What `appendfsync` is: every write is on disk before it is answered, or when the kernel sees fit."""
AT_REST_S, LOOK_S = 60.0, 0.05
_UNPUBLISHED = "catraca_relay_unpublished_changes"
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass
class Ground:
    """A stack that runs, and who calls it: a BFF for buyers, a service for the ledger."""

    service: str
    stack: Stack
    running: RunningStack
    organiser: Organiser
    minter: Minter
    redis: Client
    channel: grpc.aio.Channel
    wires: list[Wire]
    caller: Caller

    def __post_init__(self) -> None:
        self._empties = Prepared(self._empty_calls())

    async def empty(self) -> float:
        """Calls a second of the method that does nothing, each naming a buyer as the others do."""
        return (await self.play(self._empties)).all(0).rate

    async def call(self, path: str, message: bytes) -> None:
        """One call. Raises AssertionError where it is refused."""
        (await flood(self.wires, [self.caller.call(path, message)], 1, ROUND_S)).all(0)

    async def play(self, prepared: Prepared) -> Played:
        """One round of unary calls, with JetStream at rest when it begins."""
        calls = prepared.ready(round(FASTEST * ROUND_S))
        await self.at_rest()
        return await flood(self.wires, calls, LANES, ROUND_S)

    async def sync(self, how: str) -> None:
        """Sets `appendfsync`."""
        await self.redis.config_set("appendfsync", how)

    def _empty_calls(self) -> Iterator[Call]:
        for number in range(10**9):
            yield self.caller.call(EMPTY, b"", (BUYER, f"nobody-{number:09d}"))

    def stream(self, method: str, role: str) -> Any:
        """Opens a stream of messages as bytes, with a token of this role."""
        token = self.minter.mint(f"bench-{role}", roles=[role], namespace=NAMESPACE)
        return self.channel.stream_stream(method)(metadata=bearer(token))

    async def at_rest(self) -> None:
        """Returns when JetStream has every change, so that no relay takes from what is measured next."""
        ends = time.monotonic() + AT_REST_S
        while await self._unpublished():
            if time.monotonic() > ends:
                raise TimeoutError(f"changes were not published within {AT_REST_S:.0f} s")
            await asyncio.sleep(LOOK_S)

    async def _unpublished(self) -> float:
        (url,) = self.running.metrics[self.service]
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            page = await answer.text()
        families = text_string_to_metric_families(page)
        return sum(
            sample.value for family in families if family.name == _UNPUBLISHED for sample in family.samples
        )


@asynccontextmanager
async def ground(service: str, module: str = "") -> AsyncIterator[Ground]:
    """Starts it for the block, in a temporary folder on free ports.

    `module` runs the service, with more beside it than the empty method.
    """
    with tempfile.TemporaryDirectory(prefix="catraca-bench-") as folder:
        stack = Stack(Path(folder), modules={service: module or f"bench.served.{service}"})
        async with stack, Connection(_targets(stack.running)) as connection:
            running = stack.running
            minter = running.minter()
            caller = Caller(running.targets[service], minter.mint("bff", roles=["bff"], namespace=NAMESPACE))
            options = [
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ]
            redis = connect(running.redis_url)
            wires = [await Wire.open(caller) for _ in range(CONNECTIONS)]
            async with grpc.aio.insecure_channel(running.targets[service], options=options) as channel:
                try:
                    yield Ground(
                        service=service,
                        stack=stack,
                        running=running,
                        organiser=organiser_of(running, connection),
                        minter=minter,
                        redis=redis,
                        channel=channel,
                        wires=wires,
                        caller=caller,
                    )
                finally:
                    for wire in wires:
                        wire.close()
                    await redis.aclose()


def _targets(running: RunningStack) -> Targets:
    at = running.targets
    return Targets(
        queue=at["queue"], inventory=at["inventory"], checkout=at["checkout"], notifier=at["notifier"]
    )


def sale(capacity: int, *, line: bool = False, opens_in_s: float = 0.0) -> sale_pb2.SaleSpec:
    """A sale of standing places, open for longer than any measurement; its lobby, if any, is open already."""
    now = time.time()
    kind = sale_pb2.LINE_KIND_DRAW if line else sale_pb2.LINE_KIND_NONE
    return sale_pb2.SaleSpec(
        title="A measurement",
        currency="BRL",
        sections=[
            sale_pb2.Section(
                id=SECTION, capacity=capacity, ticket_types=[sale_pb2.TicketType(id="full", price=1000)]
            )
        ],
        window=sale_pb2.Window(
            opens_at=timestamp(now + opens_in_s), closes_at=timestamp(now + opens_in_s + 6 * 3600)
        ),
        line=sale_pb2.Line(kind=kind, turn_duration=duration(3600)),
        limits=sale_pb2.Limits(per_buyer=100, holds_per_turn=1000),
        holds=sale_pb2.Holds(duration=duration(3600)),
        payment=sale_pb2.Payment(window=duration(60), grace=duration(1), provider="sandbox"),
    )


def buyer(number: int) -> str:
    """A buyer's internal id."""
    return to_text((number * 2_654_435_761 % 2**127).to_bytes(16, "big"))


async def exchange(stream: Any, messages: Sequence[bytes], ahead: int) -> tuple[float, list[bytes]]:
    """Sends messages on a stream, so many of them ahead of their answers.

    Returns the seconds it took, and the answers.
    """
    answers: list[bytes] = []
    began = time.perf_counter()
    sent = 0
    for message in messages[:ahead]:
        await stream.write(message)
        sent += 1
    while len(answers) < len(messages):
        answer = await stream.read()
        if answer is grpc.aio.EOF:
            raise ConnectionError(f"the stream ended: {await stream.code()}, {await stream.details()}")
        answers.append(answer)
        if sent < len(messages):
            await stream.write(messages[sent])
            sent += 1
    return time.perf_counter() - began, answers


def p99_ms(latencies_s: Sequence[float]) -> float:
    """In milliseconds; nan of nothing."""
    if not latencies_s:
        return math.nan
    return sorted(latencies_s)[math.ceil(0.99 * len(latencies_s)) - 1] * 1000
