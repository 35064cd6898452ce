"""What a watcher hears: changes at once, a heartbeat in silence, an end when the place or sale is over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from catraca.queue.v1 import queue_pb2
from catraca.sale.v1 import sale_pb2

from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.identity import Caller, set_caller
from services.queue import rpc
from services.queue.config import Settings
from services.queue.line import Line
from services.queue.rpc import QueueServicer
from services.queue.states import Availability, Entry, Phase, PlaceState, PlaceView, Standing, Turn
from services.queue.unary import Seen
from services.queue.watchers import Watcher, Watchers

STANDING = Standing(
    phase=Phase.OPEN,
    now_ms=1000,
    serving=0,
    joined=10,
    cohort=0,
    key=b"k",
    availability=Availability.SELLING,
    revision=1,
    lobby_opens_ms=0,
    opens_ms=0,
    closes_ms=9000,
)
BUYER = "aaaaaaaaaaaaaaaaaaaaaaaaaa"


REQUIRED = {
    name: cast(Any, "x")
    for name in (
        "redis_url",
        "nats_url",
        "oidc_issuer",
        "jwks_url",
        "buyer_hash_key_file",
        "service_token_file",
        "inventory_target",
        "checkout_target",
        "admission_key_file",
    )
}
nothing = cast(Any, None)


class FakeHub:
    """A hub whose standing the test sets."""

    sale = "a-sale"

    def __init__(self) -> None:
        self.standing = STANDING
        self.stepped = asyncio.Event()
        self.draining = False
        self.watchers = Watchers(lambda entry, standing: entry.index, near=2)

    def step(self, now: Standing) -> None:
        before, self.standing = self.standing, now
        self.watchers.step(before, now)
        stepped, self.stepped = self.stepped, asyncio.Event()
        stepped.set()

    def check(self) -> None:
        if self.draining:
            raise Refusal("UNAVAILABLE")


class FakeUnary:
    """The stores as the heartbeat reads them."""

    def __init__(self) -> None:
        self.view: PlaceView | None = None
        self.refuses_with = "UNAVAILABLE"
        self.reads = 0

    async def read(self, sale: str, buyer: bytes) -> Seen:
        self.reads += 1
        if self.view is None:
            raise Refusal(self.refuses_with)
        return Seen(self.view, STANDING)


class Stream:
    """One Watch, message by message."""

    def __init__(self, *, heartbeat_s: float, place: int = 5) -> None:
        self.hub, self.unary = FakeHub(), FakeUnary()
        settings = Settings(**REQUIRED, heartbeat_s=heartbeat_s)
        unary = cast(Any, self.unary)
        servicer = QueueServicer(settings, nothing, unary, nothing, nothing, nothing, None, nothing)
        self.watcher = Watcher(BUYER, Entry(place, 0))
        self.hub.watchers.add(self.watcher, STANDING)
        self._steps: AsyncIterator[Any] = servicer._steps(cast(Any, self.hub), self.watcher)

    async def next(self) -> tuple[PlaceView, Standing, bool]:
        async with asyncio.timeout(5):
            heard: tuple[PlaceView, Standing, bool] = await anext(self._steps)
            return heard

    async def silent(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(self._steps)

    async def ends(self) -> None:
        with pytest.raises(StopAsyncIteration):
            await self.next()


async def test_changes_are_told_at_once_until_the_place_is_over() -> None:
    stream = Stream(heartbeat_s=15)
    view, _, beat = await stream.next()
    assert (view.state, view.ahead, beat) == (PlaceState.WAITING, 5, False)

    stream.hub.step(replace(STANDING, serving=4))
    view, _, beat = await stream.next()
    assert (view.ahead, beat) == (1, False)

    called = replace(STANDING, serving=6)
    stream.hub.step(called)
    stream.hub.watchers.take_turn(BUYER, 5, Turn(PlaceState.CALLED, left=4, ends_ms=8000), called)
    view, _, _ = await stream.next()
    assert view.state is PlaceState.CALLED

    stream.hub.watchers.take_turn(BUYER, 5, Turn(PlaceState.FINISHED), called)
    view, _, _ = await stream.next()
    assert view.state is PlaceState.FINISHED
    await stream.ends()


async def test_silence_is_broken_by_a_heartbeat_that_says_so() -> None:
    stream = Stream(heartbeat_s=0.2)
    first, _, _ = await stream.next()

    again, _, beat = await stream.next()

    assert beat
    assert again == first
    assert stream.unary.reads == 1


async def test_who_lost_the_place_with_the_store_is_told_at_once_to_join_again() -> None:
    stream = Stream(heartbeat_s=15)
    await stream.next()
    stream.unary.refuses_with = "NOT_IN_LINE"

    stream.hub.watchers.touch_all()

    with pytest.raises(Refusal, match="NOT_IN_LINE"):
        await stream.next()


async def test_a_place_given_up_elsewhere_is_noticed_with_the_heartbeat() -> None:
    stream = Stream(heartbeat_s=0.2)
    await stream.next()
    stream.unary.view = PlaceView(PlaceState.LEFT, Entry(5, 0, left=True), 5, None)

    view, _, beat = await stream.next()

    assert (view.state, beat) == (PlaceState.LEFT, False)
    await stream.ends()


async def test_a_called_place_given_up_elsewhere_is_told_as_that_not_as_a_turn_that_ran_out() -> None:
    stream = Stream(heartbeat_s=15)
    await stream.next()
    called = replace(STANDING, serving=6)
    stream.hub.step(called)
    stream.hub.watchers.take_turn(BUYER, 5, Turn(PlaceState.CALLED, left=4, ends_ms=8000), called)
    await stream.next()

    # Another replica took the leave; the first that is heard of it here is that the promise ended.
    stream.unary.view = PlaceView(PlaceState.LEFT, Entry(5, 0, left=True), 5, None)
    stream.hub.watchers.take_turn(BUYER, 5, Turn(PlaceState.LAPSED), called)

    view, _, _ = await stream.next()
    assert view.state is PlaceState.LEFT
    await stream.ends()


async def test_that_nothing_is_left_is_told_once_wherever_one_stands() -> None:
    stream = Stream(heartbeat_s=15, place=9)
    await stream.next()

    stream.hub.step(replace(STANDING, availability=Availability.SOLD_OUT))
    _, standing, beat = await stream.next()
    assert (standing.availability, beat) == (Availability.SOLD_OUT, False)

    stream.hub.step(replace(STANDING, availability=Availability.SOLD_OUT, now_ms=2000, sequence=7))
    await stream.silent()


async def test_the_end_of_the_sale_ends_the_stream() -> None:
    stream = Stream(heartbeat_s=15)
    await stream.next()

    stream.hub.step(replace(STANDING, phase=Phase.CLOSED))

    _, standing, _ = await stream.next()
    assert standing.phase is Phase.CLOSED
    await stream.ends()


async def test_a_drain_sends_the_watcher_elsewhere() -> None:
    stream = Stream(heartbeat_s=15)
    await stream.next()
    stream.hub.draining = True
    stream.hub.watchers.wake_all()

    with pytest.raises(Refusal, match="UNAVAILABLE"):
        await stream.next()


async def test_a_far_place_is_not_told_of_every_step() -> None:
    stream = Stream(heartbeat_s=15)
    await stream.next()

    stream.hub.step(replace(STANDING, serving=1))

    await stream.silent()


class SaleStream:
    """One WatchSale of a BFF, message by message."""

    def __init__(self, *, heartbeat_s: float, calls_from: int | None = None) -> None:
        self.hub = FakeHub()
        settings = Settings(**REQUIRED, heartbeat_s=heartbeat_s, watch_sale_ms=50)
        sale = sale_pb2.Sale(sale="a-sale")

        async def sale_of(_sale: str) -> Definition:
            return Definition(sale, 1)

        hubs = cast(Any, self)
        # An undrawn cohort of nobody: who came after the opening has the place of their index.
        line = Line(nothing, nothing, nothing, nothing, nothing, nothing, nothing)
        servicer = QueueServicer(settings, line, nothing, hubs, nothing, sale_of, None, nothing)
        set_caller(Caller("shop", "front", frozenset({"bff"}), None, nothing))
        request = queue_pb2.WatchSaleRequest(sale="a-sale", calls_from=calls_from)
        self._messages = servicer.WatchSale(request, None)

    @contextlib.asynccontextmanager
    async def watching(self, _sale: str) -> AsyncIterator[FakeHub]:
        yield self.hub

    async def next(self) -> queue_pb2.WatchSaleResponse:
        async with asyncio.timeout(5):
            return await anext(self._messages)


async def test_steps_of_a_sale_are_told_together_and_the_last_one_always() -> None:
    stream = SaleStream(heartbeat_s=15)
    assert (await stream.next()).standing.serving == 0

    for serving in range(1, 500):
        stream.hub.step(replace(STANDING, serving=serving))
    told = await stream.next()
    assert (told.standing.serving, told.heartbeat) == (499, False)

    # A step while nobody asks for the next message is told with it.
    stream.hub.step(replace(STANDING, serving=499, availability=Availability.SOLD_OUT))
    told = await stream.next()
    assert told.standing.availability == queue_pb2.AVAILABILITY_SOLD_OUT
    stream.hub.step(replace(STANDING, serving=499, phase=Phase.CLOSED))
    assert (await stream.next()).standing.phase == sale_pb2.SALE_PHASE_CLOSED
    with pytest.raises(StopAsyncIteration):
        await stream.next()


async def test_a_quiet_sale_says_that_it_is_quiet() -> None:
    stream = SaleStream(heartbeat_s=0.2)
    first = await stream.next()
    again = await stream.next()

    assert (first.heartbeat, again.heartbeat) == (False, True)
    assert first.standing == again.standing


async def test_calls_are_told_to_who_asks_each_once_and_in_the_order_of_places() -> None:
    stream = SaleStream(heartbeat_s=0.2, calls_from=2)
    assert not (await stream.next()).HasField("calls")

    stream.hub.step(replace(STANDING, serving=4))
    told = await stream.next()
    assert (told.calls.first_place, list(told.calls.indexes), told.heartbeat) == (2, [2, 3], False)

    # Silence, and a step that calls nobody.
    told = await stream.next()
    assert (told.HasField("calls"), told.heartbeat) == (False, True)
    stream.hub.step(replace(STANDING, serving=4, joined=11))
    assert not (await stream.next()).HasField("calls")

    stream.hub.step(replace(STANDING, serving=5))
    told = await stream.next()
    assert (told.calls.first_place, list(told.calls.indexes)) == (4, [4])


async def test_more_calls_than_a_message_takes_go_on_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rpc, "CALLS_PER_MESSAGE", 4)
    stream = SaleStream(heartbeat_s=15, calls_from=0)
    stream.hub.step(replace(STANDING, serving=9, phase=Phase.CLOSED))

    told = [await stream.next() for _ in range(3)]

    assert [each.calls.first_place for each in told] == [0, 4, 8]
    assert [index for each in told for index in each.calls.indexes] == list(range(9))
    with pytest.raises(StopAsyncIteration):
        await stream.next()


async def test_nobody_is_told_calls_who_did_not_ask() -> None:
    stream = SaleStream(heartbeat_s=15)
    stream.hub.step(replace(STANDING, serving=9))

    assert not (await stream.next()).HasField("calls")
