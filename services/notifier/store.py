"""The one port to JetStream: follows the orders' stream and reads the last states of buyers' orders."""

import time
from collections.abc import Callable
from typing import Self

from catraca.events.v1 import events_pb2
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.errors import Error as NatsError

from services.kit.logs import get_logger
from services.kit.streams import Follower, RawMsg, last_message, last_per_subject
from services.kit.tracing import HEADER
from services.notifier import metrics
from services.notifier.rules import (
    State,
    key_and_hold,
    key_and_order,
    key_turn_version,
    lost_subject_of,
    subject_of,
    turn_subject_of,
)

STREAM = "CHECKOUT"
ALL_ORDERS = "catraca.checkout.*.order.>"
VERSION_HEADER = "Catraca-Version"
LOST_STREAM = "LOST"
ALL_LOST = "catraca.lost.>"
TURNS_STREAM = "TURNS"
ALL_TURNS = "catraca.turn.>"

log = get_logger(__name__)


class Unavailable(Exception):
    """JetStream did not answer, or a replica answered that lags behind; the same read may succeed later."""


class LiveNews:
    """Every new state of every order, in stream order, from the moment the server confirmed the consumer.

    `on_start` is called whenever a consumer was confirmed, the first one and every later one: what was
    published between two consumers may be missing where the server lost the end of its stream.
    """

    def __init__(self, nc: Client, on_start: Callable[[], None]) -> None:
        self._js = nc.jetstream()
        self._on_start = on_start
        self._follower = Follower(self._js, STREAM, [ALL_ORDERS], on_created=self._created)
        self._witness: tuple[str, int] | None = None
        self._witness_known = False

    async def __aenter__(self) -> Self:
        await self._follower.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.close()

    async def next_states(self) -> list[State]:
        """The next states; messages that are no order's state are left out."""
        messages = await self._follower.next_batch()
        self._witness, self._witness_known = (messages[-1].subject, messages[-1].seq), True
        now_s = time.time()
        for message in messages:
            metrics.NEWS_DELAY.observe(max(0.0, now_s - message.at_ms / 1000))
        return _states(messages)

    async def witness(self) -> tuple[str, int] | None:
        """The last message seen here, by subject and sequence; None while the stream is empty.

        A replica of the stream that lacks it must not be believed: its last states may be older than news
        that were handed out already. Raises Unavailable.
        """
        if not self._witness_known:
            try:
                last = await last_message(self._js, STREAM, ALL_ORDERS, from_leader=True)
            except (NatsError, TimeoutError) as problem:
                raise Unavailable(str(problem) or type(problem).__name__) from problem
            if not self._witness_known:
                self._witness, self._witness_known = (last.subject, last.seq) if last else None, True
        return self._witness

    def forget_witness(self) -> None:
        """It may be gone from the stream: purged with its sale, or lost with its server."""
        self._witness_known = False

    def _created(self) -> None:
        self.forget_witness()
        self._on_start()


class OtherNews:
    """What one stream tells beside orders, from the moment the server confirmed the consumer."""

    def __init__(
        self,
        nc: Client,
        stream: str,
        subjects: str,
        states_of: Callable[[list[RawMsg]], list[State]],
        on_start: Callable[[], None],
    ) -> None:
        """`states_of` reads the stream's messages; `on_start` as of LiveNews."""
        self._states_of = states_of
        self._follower = Follower(nc.jetstream(), stream, [subjects], on_created=on_start)

    async def __aenter__(self) -> Self:
        await self._follower.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._follower.close()

    async def next_states(self) -> list[State]:
        """The next of it."""
        return self._states_of(await self._follower.next_batch())


def lost_holds(nc: Client, on_start: Callable[[], None]) -> OtherNews:
    """Every hold that goes with its store."""
    return OtherNews(nc, LOST_STREAM, ALL_LOST, _lost, on_start)


def turn_news(nc: Client, on_start: Callable[[], None]) -> OtherNews:
    """Every turn that is near or has come, of who asked for it."""
    return OtherNews(nc, TURNS_STREAM, ALL_TURNS, _turns, on_start)


class Snapshots:
    """Reads the last state of every order of some buyers."""

    def __init__(self, nc: Client) -> None:
        self._nc = nc

    async def read(self, keys: list[str], witness: tuple[str, int] | None) -> list[State]:
        """The last states of these buyers' orders, at least as new as the witness. Raises Unavailable."""
        try:
            messages = await last_per_subject(
                self._nc, STREAM, [subject_of(key) for key in keys], witness=witness
            )
            lost = await last_per_subject(self._nc, LOST_STREAM, [lost_subject_of(key) for key in keys])
            turns = await last_per_subject(self._nc, TURNS_STREAM, [turn_subject_of(key) for key in keys])
        except (NatsError, TimeoutError) as problem:
            raise Unavailable(str(problem) or type(problem).__name__) from problem
        return _states(messages) + _lost(lost) + still_true(_turns(turns), time.time() * 1000)


def _lost(messages: list[RawMsg]) -> list[State]:
    named = ((key_and_hold(message.subject), message) for message in messages)
    return [State(*address, 0, message.data) for address, message in named if address is not None]


def _turns(messages: list[RawMsg]) -> list[State]:
    named = ((key_turn_version(message.subject), message) for message in messages)
    return [State(*address, message.data) for address, message in named if address is not None]


def still_true(turns: list[State], now_ms: float) -> list[State]:
    """The last state of each turn that is not over: who comes late is not told of what has passed."""
    last: dict[tuple[str, str], State] = {}
    for state in sorted(turns, key=lambda state: state.version):
        last[state.key, state.order_id] = state
    return [state for state in last.values() if not _over(state.payload, now_ms)]


def _over(payload: bytes, now_ms: float) -> bool:
    try:
        news = events_pb2.TurnNews.FromString(payload)
    except DecodeError:
        # It is said of where it would be written.
        return False
    return 0 < news.turn_ends_at_ms <= now_ms


def _states(messages: list[RawMsg]) -> list[State]:
    return [state for message in messages if (state := _state(message)) is not None]


def _state(message: RawMsg) -> State | None:
    address = key_and_order(message.subject)
    version = message.headers.get(VERSION_HEADER, "")
    if address is None or not version.isdecimal():
        log.error("not_an_order_state", subject=message.subject, sequence=message.seq)
        return None
    return State(address[0], address[1], int(version), message.data, message.headers.get(HEADER, ""))
