"""Prepared calls against a gRPC server in this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from bench.served import EMPTY
from bench.wire import Call, Caller, Prepared, Wire, flood, paced

REFUSE, COUNT = "/catraca.bench.Beside/Refuse", "/catraca.bench.Beside/Count"
FAILED_PRECONDITION = 9
# As long as Python reads a number, so that each call is seen for what it is.
LARGE = 4_000


class Served:
    """What the server saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[bytes, dict[str, Any]]] = []

    async def echo(self, request: bytes, context: Any) -> bytes:
        self.seen.append((request, dict(context.invocation_metadata())))
        return request

    async def refuse(self, _request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")
        raise AssertionError("abort raises")

    async def count(self, request: bytes, _context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"x" * number * LARGE


@pytest.fixture
async def served() -> AsyncIterator[tuple[Served, Caller, list[Wire]]]:
    """A server, and two connections to it."""
    behaviour = Served()
    handlers: dict[str, Any] = {
        "Empty": grpc.unary_unary_rpc_method_handler(behaviour.echo),
        "Refuse": grpc.unary_unary_rpc_method_handler(behaviour.refuse),
        "Count": grpc.unary_stream_rpc_method_handler(behaviour.count),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("catraca.bench.Beside", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    caller = Caller(f"127.0.0.1:{port}", "t" * 600)
    wires = [await Wire.open(caller) for _ in range(2)]
    behaviour.seen.clear()
    yield behaviour, caller, wires
    for wire in wires:
        wire.close()
    await server.stop(None)


def calls(caller: Caller, size: int = 3) -> Iterator[Call]:
    for number in range(10**6):
        yield caller.call(EMPTY, b"%0*d" % (size, number), ("catraca-buyer", f"b{number}"))


async def test_every_call_that_was_taken_arrives_once_as_it_was_made(
    served: tuple[Served, Caller, list[Wire]],
) -> None:
    behaviour, caller, wires = served
    prepared = Prepared(calls(caller))
    played = (await flood(wires, prepared.ready(300), 7, 60.0)).all(0)
    assert len(played.statuses) == len(played.latencies_s) == 300
    assert sorted(int(request) for request, _ in behaviour.seen) == list(range(300))
    for request, metadata in behaviour.seen:
        assert metadata["catraca-buyer"] == f"b{int(request)}"
        assert metadata["authorization"] == f"Bearer {'t' * 600}"


async def test_calls_that_time_left_over_are_there_for_the_next_round(
    served: tuple[Served, Caller, list[Wire]],
) -> None:
    behaviour, caller, wires = served
    prepared = Prepared(calls(caller))
    await flood(wires, prepared.ready(50), 3, 0.0)
    first = len(behaviour.seen)
    await flood(wires, prepared.ready(50), 3, 60.0)
    assert first < 50 <= len(behaviour.seen) - first
    assert sorted(int(request) for request, _ in behaviour.seen) == list(range(len(behaviour.seen)))


async def test_more_than_the_server_has_room_for_waits_its_turn(
    served: tuple[Served, Caller, list[Wire]],
) -> None:
    behaviour, caller, wires = served
    ready = Prepared(calls(caller, LARGE)).ready(40)
    (await flood(wires, ready, 40, 60.0)).all(0)
    assert sorted(int(request) for request, _ in behaviour.seen) == list(range(40))


async def test_a_refusal_is_told_by_its_status(served: tuple[Served, Caller, list[Wire]]) -> None:
    _, caller, wires = served
    played = await flood(wires, [caller.call(REFUSE, b"")] * 5, 2, 60.0)
    assert played.statuses == [FAILED_PRECONDITION] * 5
    with pytest.raises(AssertionError, match=r"status \[9\]"):
        played.all(0)


async def test_a_pace_is_kept_and_latency_counts_from_when_a_call_was_due(
    served: tuple[Served, Caller, list[Wire]],
) -> None:
    behaviour, caller, wires = served
    played = (await paced(wires, Prepared(calls(caller)).ready(100), 500.0, 0.2)).all(0)
    assert len(behaviour.seen) == 100 and played.seconds >= 99 / 500
    assert all(latency > 0 for latency in played.latencies_s)


async def test_messages_of_a_stream_come_whole(served: tuple[Served, Caller, list[Wire]]) -> None:
    _, caller, wires = served
    sizes: list[int] = []
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    wires[0].send(
        caller.call(COUNT, b"5"), ended.set_result, lambda message: sizes.append(len(message) // LARGE)
    )
    assert await asyncio.wait_for(ended, 20) == 0
    assert sizes == [0, 1, 2, 3, 4]
