"""Plays gRPC calls that were prepared beforehand, so cheaply that what is measured is the server.

A gRPC client in Python takes as much of a core for a call as the server does: on two cores it would be half
of every figure and would make a ratio of two calls look better than it is. Here a call is a few bytes that
were put together before the clock started, and its answer is a look at where its frames end.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Self, cast

from bench.hpack import Header, Headers
from bench.served import EMPTY

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GO_AWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_FRAME_BYTES, _PREFIX_BYTES = 9, 5
_FIRST_WINDOW, _LARGEST_WINDOW = 65_535, 2**31 - 1
# Of SETTINGS: the server's table, which is not looked into, so it shall have none; and what it may send.
_TABLE_SIZE, _INITIAL_WINDOW = 0x1, 0x4
_STATUS = b"grpc-status"
_ANSWERED_WITHIN_S = 20.0

Answered = Callable[[int], None]
"""Told of the gRPC status that a call ended with."""
Told = Callable[[bytes], None]
"""Told of each message of a stream."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, but for the number of its stream."""

    head: bytes
    block: bytes
    data: bytes
    message: bytes

    @classmethod
    def of(cls, block: bytes, message: bytes) -> Self:
        """A call with one message."""
        framed = b"\x00" + len(message).to_bytes(4, "big") + message
        return cls(
            _frame(_HEADERS, _END_HEADERS, len(block)), block, _frame(_DATA, _END_STREAM, len(framed)), framed
        )


class Caller:
    """Makes the calls of one who calls: a token, and what differs from call to call."""

    def __init__(self, target: str, token: str) -> None:
        self.target = target
        self._headers = Headers(
            [
                (":authority", target),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("authorization", f"Bearer {token}"),
            ]
        )

    def first(self) -> Call:
        """What a connection begins with."""
        return Call.of(self._headers.first(EMPTY), b"")

    def call(self, path: str, message: bytes, *own: Header) -> Call:
        """One call of a method."""
        return Call.of(self._headers.block(path, *own), message)


class Prepared:
    """Calls of one kind, some of them made before they are wanted."""

    def __init__(self, calls: Iterator[Call]) -> None:
        self._calls = calls
        self._made: deque[Call] = deque()

    def ready(self, number: int) -> Iterator[Call]:
        """So many calls, all of them made by now. Those that are not taken are left for the next time."""
        while len(self._made) < number:
            self._made.append(next(self._calls))
        return self._take()

    def _take(self) -> Iterator[Call]:
        while self._made:
            yield self._made.popleft()


class Wire(asyncio.Protocol):
    """One connection. Calls that are sent within a turn of the event loop go out together."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._left = b""
        self._next = 1
        self._room = _FIRST_WINDOW
        self._waiting: deque[tuple[Call, int]] = deque()
        self._out: list[bytes] = []
        self._flushing = False
        self._calls: dict[int, Answered] = {}
        self._streams: dict[int, tuple[Told, bytearray]] = {}
        self.problem = ""
        """Why the connection is of no use any more."""

    @classmethod
    async def open(cls, caller: Caller) -> Self:
        """Connects, and puts what the caller's calls share into the server's table."""
        host, _, port = caller.target.rpartition(":")
        _, wire = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        wire.send(caller.first(), done.set_result)
        async with asyncio.timeout(_ANSWERED_WITHIN_S):
            if status := await done:
                raise ConnectionError(f"the first call was answered with status {status}")
        return wire

    def send(self, call: Call, answered: Answered, told: Told | None = None) -> None:
        """Sends a call; `told` gets the messages of its answer, where somebody looks at them."""
        stream = self._next
        self._next += 2
        self._calls[stream] = answered
        if told is not None:
            self._streams[stream] = told, bytearray()
        self._put(call, stream)

    def close(self) -> None:
        """Ends the connection with every call on it."""
        if self._transport is not None:
            self._transport.close()

    # ---- what the event loop calls ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says what this side takes."""
        # uvloop's is one, and does not say so.
        self._transport = transport = cast("asyncio.Transport", transport)
        settings = b"".join(
            name.to_bytes(2, "big") + value.to_bytes(4, "big")
            for name, value in ((_TABLE_SIZE, 0), (_INITIAL_WINDOW, _LARGEST_WINDOW))
        )
        room = (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4, "big")
        transport.write(
            b"".join(
                [
                    *(_PREFACE, _frame(_SETTINGS, 0, len(settings)), b"\0\0\0\0", settings),
                    *(_frame(_WINDOW, 0, len(room)), b"\0\0\0\0", room),
                ]
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever had no answer gets none."""
        self.problem = self.problem or f"the connection ended: {exc}"

    def data_received(self, data: bytes) -> None:
        """Goes through the frames; one that is not whole waits for its rest."""
        data = self._left + data if self._left else data
        at, end = 0, len(data)
        while end - at >= _FRAME_BYTES:
            stop = at + _FRAME_BYTES + int.from_bytes(data[at : at + 3], "big")
            if stop > end:
                break
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            self._frame(data[at + 3], data[at + 4], stream, data[at + _FRAME_BYTES : stop])
            at = stop
        self._left = data[at:]
        self._flush()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _HEADERS:
            if flags & _END_STREAM:
                self._streams.pop(stream, None)
                self._calls.pop(stream)(_status_of(payload))
        elif kind == _DATA:
            if stream in self._streams:
                self._read(*self._streams[stream], payload)
        elif kind == _WINDOW:
            if stream == 0:
                self._room += int.from_bytes(payload, "big")
                self._send_what_waited()
        elif kind in (_PING, _SETTINGS):
            if not flags & _ACK:
                answer = payload if kind == _PING else b""
                self._out.append(_frame(kind, _ACK, len(answer)) + b"\0\0\0\0" + answer)
        elif kind == _GO_AWAY or (kind == _RESET and stream in self._calls):
            self.problem = f"the server ended stream {stream}: {payload!r}"
            if self._transport is not None:
                self._transport.close()

    @staticmethod
    def _read(told: Told, left: bytearray, payload: bytes) -> None:
        left += payload
        while len(left) >= _PREFIX_BYTES:
            stop = _PREFIX_BYTES + int.from_bytes(left[1:_PREFIX_BYTES], "big")
            if len(left) < stop:
                return
            told(bytes(left[_PREFIX_BYTES:stop]))
            del left[:stop]

    # ---- sending ----

    def _put(self, call: Call, stream: int) -> None:
        """A call for which the server has no room yet waits."""
        if self._waiting or len(call.message) > self._room:
            self._waiting.append((call, stream))
            return
        self._room -= len(call.message)
        number = stream.to_bytes(4, "big")
        self._out += (call.head, number, call.block, call.data, number, call.message)
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _send_what_waited(self) -> None:
        while self._waiting and len(self._waiting[0][0].message) <= self._room:
            waited = list(self._waiting)
            self._waiting.clear()
            for call, stream in waited:
                self._put(call, stream)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()


def _frame(kind: int, flags: int, length: int) -> bytes:
    """A frame's head, but for the number of its stream."""
    return length.to_bytes(3, "big") + bytes([kind, flags])


def _status_of(block: bytes) -> int:
    """The gRPC status of a block of trailers in which nothing is abbreviated."""
    at = block.index(_STATUS) + len(_STATUS)
    return int(block[at + 1 : at + 1 + block[at]])


# ---- ways to play ----


@dataclass(frozen=True)
class Played:
    """What a number of calls came to."""

    seconds: float
    statuses: Sequence[int]
    """gRPC's, in the order of the answers."""
    latencies_s: Sequence[float]
    """From when each call was due, in the order of the answers."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.statuses) / self.seconds

    def all(self, status: int) -> "Played":
        """Itself. Raises AssertionError where a call ended otherwise."""
        others = set(self.statuses) - {status}
        if others:
            raise AssertionError(f"calls ended with status {sorted(others)}, and not all with {status}")
        return self


class _Playing:
    """Calls on their way, and what became of them."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.latencies: list[float] = []
        self.sent = 0
        self.over = False
        self.done = asyncio.Event()

    def send(self, wire: Wire, call: Call, due: float, then: Callable[[Wire], None] | None = None) -> None:
        self.sent += 1

        def answered(status: int) -> None:
            self.latencies.append(time.perf_counter() - due)
            self.statuses.append(status)
            if then is not None:
                then(wire)
            if self.over and len(self.statuses) == self.sent:
                self.done.set()

        wire.send(call, answered)

    async def end(self, wires: Iterable[Wire], began: float) -> Played:
        self.over = True
        if len(self.statuses) == self.sent:
            self.done.set()
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN_S):
                await self.done.wait()
        except TimeoutError:
            problems = [wire.problem for wire in wires if wire.problem]
            raise ConnectionError(
                f"{self.sent - len(self.statuses)} calls got no answer: {problems}"
            ) from None
        return Played(time.perf_counter() - began, self.statuses, self.latencies)


async def flood(wires: Sequence[Wire], calls: Iterable[Call], lanes: int, seconds: float) -> Played:
    """Keeps so many calls on their way for so long; fewer seconds where the calls come to an end."""
    playing, source = _Playing(), iter(calls)
    began = time.perf_counter()
    ends = began + seconds
    over = asyncio.Event()

    def next_on(wire: Wire) -> None:
        now = time.perf_counter()
        call = next(source, None) if now < ends else None
        if call is None:
            over.set()
            return
        playing.send(wire, call, now, next_on)

    for _, wire in zip(range(lanes), cycle(wires), strict=False):
        next_on(wire)
    async with asyncio.timeout(seconds + _ANSWERED_WITHIN_S):
        await over.wait()
    return await playing.end(wires, began)


async def paced(wires: Sequence[Wire], calls: Iterator[Call], rate: float, seconds: float) -> Played:
    """Sends so many calls a second, whether earlier ones are answered or not."""
    playing, on = _Playing(), cycle(wires)
    began = time.perf_counter()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        early = due - time.perf_counter()
        if early > 0:
            # A timer is good to a millisecond: what is due by then goes out together, and its wait counts.
            await asyncio.sleep(early)
        playing.send(next(on), next(calls), due)
    return await playing.end(wires, began)
