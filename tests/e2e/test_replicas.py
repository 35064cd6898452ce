"""Three replicas of each service: what holds with one holds with several, whichever a call comes to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import grpc
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from catraca.queue.v1.queue_pb2_grpc import QueueServiceStub

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, Connection, Targets, bearer, item
from local.parts import SERVICES, QueueProcess
from local.stack import Stack
from services.kit.tasks import stop
from tests.e2e import test_journey, test_line, test_races
from tests.e2e.conftest import PATIENCE_S, House

REPLICAS = 3
FLOWS: list[Callable[[Any], Awaitable[None]]] = [
    test_journey.test_from_the_lobby_to_the_door,
    test_journey.test_hold_first_then_order_the_hold,
    test_journey.test_a_declined_card_may_be_followed_by_another,
    test_journey.test_a_cancelled_order_gives_its_units_back,
    test_journey.test_whoever_buys_less_and_leaves_lets_the_next_one_in,
    test_line.test_a_bff_joins_reads_and_enters_many,
    test_line.test_the_draw_is_published_step_by_step,
    test_line.test_a_watch_tells_the_whole_life_and_ends,
    test_line.test_a_place_given_up_ends_the_watch_and_makes_room,
    test_races.test_the_same_order_twice_is_one_order,
    test_races.test_another_body_under_the_same_key_is_refused,
    test_races.test_the_limit_counts_what_is_held_claimed_and_owned,
]


@dataclass
class Several(House):
    """Remembers its sales, so that each can be audited."""

    sales: list[str] = field(default_factory=list)

    async def sale(self, **options: Any) -> str:
        """As of any house."""
        name = await super().sale(**options)
        self.sales.append(name)
        return name

    async def assert_sound(self) -> None:
        """Audits what was sold since the last time."""
        while self.sales:
            verdict = await audit(Sources.of(self.running), self.sales.pop(), settled=False)
            assert verdict.ok, verdict.findings


@pytest.fixture(scope="module")
async def several(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Several]:
    """A stack with three replicas of each service."""
    replicas = dict.fromkeys(SERVICES, REPLICAS)
    folder = tmp_path_factory.mktemp("several")
    async with (
        Stack(folder, replicas=replicas) as stack,
        Connection(Targets(**stack.running.targets)) as connection,
    ):
        yield Several(stack, connection)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__.removeprefix("test_"))
async def test_what_holds_with_one_holds_with_several(
    several: Several, flow: Callable[[Any], Awaitable[None]]
) -> None:
    await flow(several)
    await several.assert_sound()


async def test_every_replica_knows_a_sale_once_it_is_defined(several: Several) -> None:
    name = await several.sale(line=False, capacity=REPLICAS, price=0)
    someone = several.minter.mint("someone")
    running = several.running.targets
    for index in range(REPLICAS):
        own = {service: several.stack.parts[service].addresses[index] for service in running}
        async with Connection(Targets(**own)) as at:
            buyer = Buyer(at, name, someone)
            assert (await buyer.availability()).total.capacity == REPLICAS
            held = await buyer.hold(f"hold-000{index}", [item("floor", 1)])
            order = await buyer.order(f"click-000{index}", hold_id=held.hold_id)
            # Told by a notifier that has nothing to do with the replica that decided.
            await several.told(buyer, order.order_id, checkout.ORDER_STATE_CONFIRMED)
    assert (await several.ledger(name)).counts.sold == REPLICAS
    await several.assert_sound()


async def test_the_standing_is_the_same_document_at_every_replica(several: Several) -> None:
    name = await several.sale(capacity=4)
    await several.admitted(several.buyer(name))
    addresses = [
        process.standing_address
        for process in several.stack.parts["queue"].processes
        if isinstance(process, QueueProcess)
    ]
    assert len(addresses) == REPLICAS
    async with aiohttp.ClientSession() as browser, asyncio.timeout(PATIENCE_S):

        async def tag(address: str) -> str:
            async with browser.get(f"http://{address}/standing/{name}") as answer:
                return f"{answer.status} {answer.headers.get('ETag')}"

        # While somebody was just called, how fast is a matter of the moment.
        while len(tags := {await tag(address) for address in addresses}) > 1:
            await asyncio.sleep(0.05)
    assert tags.pop().startswith("200 ")


async def test_every_replica_tells_those_who_watch_there(several: Several) -> None:
    name = await several.sale(capacity=REPLICAS, limit=1, opens_in_s=1.0)
    connections = [
        Connection(Targets(**{each: several.stack.parts[each].addresses[index] for each in SERVICES}))
        for index in range(REPLICAS)
    ]
    buyers = [
        Buyer(at, name, several.minter.mint(f"watcher-{index}")) for index, at in enumerate(connections)
    ]
    try:
        await asyncio.gather(*(buyer.join() for buyer in buyers))
        places = await asyncio.gather(*(several.called(buyer) for buyer in buyers))
        assert sorted(place.place for place in places) == list(range(REPLICAS))
        assert {place.state for place in places} == {queue.PLACE_STATE_CALLED}
    finally:
        for at in connections:
            await at.close()


async def test_nobody_behind_the_edge_notices_that_a_replica_restarts(several: Several) -> None:
    name = await several.sale(capacity=1)
    edge = several.running.edge_url
    token = several.minter.mint("someone")
    asked = {"calls": 0, "documents": 0}

    # No balancing and no repeating here: what the edge does not smooth over, the caller is told.
    plain = grpc.aio.insecure_channel(edge.removeprefix("http://"), options=[("grpc.enable_retries", 0)])
    line = QueueServiceStub(plain)

    async def call() -> None:
        while True:
            await line.GetPlace(queue.GetPlaceRequest(sale=name), metadata=bearer(token), timeout=PATIENCE_S)
            asked["calls"] += 1

    async def read() -> None:
        async with aiohttp.ClientSession() as browser:
            while True:
                async with browser.get(f"{edge}/standing/{name}") as answer:
                    assert answer.status == HTTPStatus.OK
                asked["documents"] += 1

    await line.Join(queue.JoinRequest(sale=name), metadata=bearer(token), timeout=PATIENCE_S)
    asking = [asyncio.create_task(each()) for each in (call, call, call, read)]
    try:
        await several.stack.restart_replica("queue", 0)
        before = dict(asked)
        async with asyncio.timeout(PATIENCE_S):
            while any(asked[kind] == before[kind] for kind in asked):
                await asyncio.sleep(0.01)
        assert [task.exception() for task in asking if task.done()] == []
    finally:
        await stop(*asking)
        await plain.close()
