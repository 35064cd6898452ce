"""Seats as their callers meet them: held by name or the best there are, seen on a map, followed."""

import asyncio
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

import grpc
import grpc.aio
import pytest
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2
from nats.js import JetStreamContext

from services.inventory.seat_map import state_of
from services.kit.errors import refusal_of
from services.kit.plans.store import PlanStore
from services.queue.sales import rules
from tests.integration.inventory.book import buyer
from tests.integration.inventory.conftest import Define, Replica, Replicas, published, spec
from tests.integration.inventory.test_service import refused
from tests.plans import hall, plan_of, seated_section, stadium_plan

HALL = plan_of(hall("oooooo", "oooooo", name="Stalls"))
FREE, HELD, SOLD, BLOCKED = range(4)


async def house(js: JetStreamContext, *, line: bool = False) -> sale_pb2.SaleSpec:
    """A sale of twelve seats, two of them for a wheelchair and who comes along, and four standing places."""
    await PlanStore(js).put(HALL)
    made = spec(line=line, floor=4)
    made.sections.append(seated_section("hall", "Hall", accessible=("A1",), companion=("A2",)))
    made.seating_plan.digest = HALL.digest
    return rules.seated(made, HALL)


def seats(*names: str, **more: object) -> pb.HoldItem:
    return pb.HoldItem(section="hall", quantity=len(names), seats=names, **more)


async def seat_map(replica: Replica, sale: str) -> pb.SeatMap:
    answer = await replica.inventory.GetSeatMap(
        pb.GetSeatMapRequest(sale=sale), metadata=replica.as_("anyone")
    )
    found: pb.SeatMap = answer.map
    return found


class Follower:
    """A stream of availability, and what its receiver knows by it."""

    def __init__(self, replica: Replica, sale: str) -> None:
        self._replica = replica
        self._sale = sale
        self.known = pb.SeatMap()
        self.told = 0

    @cached_property
    def stream(self) -> Any:
        """Opened when it is first asked for."""
        request = pb.WatchAvailabilityRequest(sale=self._sale)
        metadata = self._replica.as_("anyone")
        return self._replica.inventory.WatchAvailability(request, metadata=metadata)

    async def next(self) -> None:
        """Takes one message, as a client does: a delta that does not go on from what is known is a gap."""
        message = await self.stream.read()
        self.told += 1
        if message.HasField("map"):
            self.known = message.map
            return
        delta = message.delta
        assert delta.from_sequence == self.known.sequence
        self.known.sequence = delta.sequence
        for changed in delta.sections:
            (section,) = [s for s in self.known.sections if s.counts.section == changed.counts.section]
            section.counts.CopyFrom(changed.counts)
            states = bytearray(section.states)
            for place, unit in enumerate(changed.units):
                shift = 6 - 2 * (unit % 4)
                states[unit // 4] &= ~(3 << shift)
                states[unit // 4] |= state_of(changed.states, place) << shift
            section.states = bytes(states)

    async def until(self, sequence: int) -> None:
        async with asyncio.timeout(20):
            while self.known.sequence < sequence:
                await self.next()


@pytest.fixture
async def follower(replica: Replica, sale_id: str) -> AsyncIterator[Follower]:
    following = Follower(replica, sale_id)
    yield following
    following.stream.cancel()


async def test_seats_by_name_and_what_they_are_called(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)

    hold = await replica.hold(sale_id, "ana", "hold-0001", seats("B1", "A4"))
    refusal = await refused(replica.hold(sale_id, "bia", "hold-0001", seats("A3", "A4", "B1")))

    assert [unit.seat for unit in hold.units] == ["Stalls B-1", "Stalls A-4"]
    assert refusal.word == "SEAT_TAKEN"
    assert refusal.metadata == {"section": "hall", "taken": "A4\nB1"}
    async with asyncio.timeout(10):
        while not (changes := await published(js, sale_id)):
            await asyncio.sleep(0.05)
        while changes[-1].hold_id != "hold-0001":
            await asyncio.sleep(0.05)
            changes = await published(js, sale_id)
    assert [unit.seat for unit in changes[-1].units] == ["Stalls B-1", "Stalls A-4"]


BAD: list[tuple[list[pb.HoldItem], str]] = [
    ([seats("Z9")], "SEAT_NOT_FOUND"),
    ([seats("A3", "A3")], "INVALID_FIELD"),
    ([seats("A3"), seats("A3")], "INVALID_FIELD"),
    ([pb.HoldItem(section="hall", quantity=2, seats=["A3"])], "INVALID_QUANTITY"),
    ([pb.HoldItem(section="floor", quantity=1, seats=["A3"])], "INVALID_FIELD"),
    ([pb.HoldItem(section="floor", quantity=1, use=pb.SEAT_USE_ACCESSIBLE)], "INVALID_FIELD"),
    ([seats("A3", use=pb.SEAT_USE_ACCESSIBLE)], "INVALID_FIELD"),
    ([seats("A2", use=pb.SEAT_USE_COMPANION)], "INVALID_FIELD"),
    ([seats("A1")], "SEAT_RESERVED"),
]


async def test_what_cannot_be_asked_of_seats(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)
    for items, word in BAD:
        refusal = await refused(replica.hold(sale_id, "ana", "hold-0001", *items))
        assert refusal.word == word, items
    assert state_of((await seat_map(replica, sale_id)).sections[1].states, 0) == FREE


async def test_a_companion_may_be_named_before_the_wheelchair(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)
    companion = pb.HoldItem(section="hall", quantity=1, use=pb.SEAT_USE_COMPANION)
    accessible = pb.HoldItem(section="hall", quantity=1, use=pb.SEAT_USE_ACCESSIBLE)
    hold = await replica.hold(sale_id, "ana", "hold-0001", companion, accessible)
    assert [unit.seat for unit in hold.units] == ["Stalls A-1", "Stalls A-2"]


async def test_what_an_order_claims_is_told_by_name(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)
    ana = {"buyer": buyer("ana"), "order_id": buyer("order")}
    bia = {"buyer": buyer("bia"), "order_id": buyer("other")}

    claimed, late, wrong, held = await replica.apply(
        sale_id,
        pb.Command(claim=pb.ClaimCommand(**ana, items=[seats("A3", "A4")])),
        pb.Command(claim=pb.ClaimCommand(**bia, items=[seats("A4", "A5")])),
        pb.Command(claim=pb.ClaimCommand(**bia, items=[seats("Z9")])),
        pb.Command(hold=pb.HoldCommand(hold_id=buyer("order"), **ana)),
    )

    assert claimed.word == "CLAIMED"
    assert (late.word, dict(late.detail)) == ("SEAT_TAKEN", {"section": "hall", "taken": "A4"})
    assert (wrong.word, wrong.detail["seat"]) == ("SEAT_NOT_FOUND", "Z9")
    assert [unit.seat for unit in held.hold.units] == ["Stalls A-3", "Stalls A-4"]


async def test_the_seats_of_a_section_are_listed(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)
    found, first = [], 0
    while True:
        request = pb.ListSeatsRequest(sale=sale_id, section="hall", first_unit=first, page_size=5)
        page = await replica.inventory.ListSeats(request, metadata=replica.as_("anyone"))
        found += page.seats
        first = page.next_unit
        if not first:
            break
    standing = await refused(
        replica.inventory.ListSeats(
            pb.ListSeatsRequest(sale=sale_id, section="floor"), metadata=replica.as_("anyone")
        )
    )

    assert [seat.unit for seat in found] == list(range(12))
    assert {seat.id for seat in found} == {f"{row}{number}" for row in "AB" for number in range(1, 7)}
    uses = {seat.id: seat.use for seat in found if seat.use}
    assert uses == {"A1": pb.SEAT_USE_ACCESSIBLE, "A2": pb.SEAT_USE_COMPANION}
    assert (found[-1].id, found[-1].name, found[-1].x, found[-1].y) == ("A2", "Stalls A-2", 10, 0)
    assert standing.word == "SECTION_NOT_FOUND"


async def test_a_stadiums_map_is_small_and_says_nothing_of_anybody(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    plan = stadium_plan()
    await PlanStore(js).put(plan)
    made = spec(floor=1)
    del made.sections[:]
    made.sections.append(seated_section("bowl", *plan.categories))
    made.seating_plan.digest = plan.digest
    await define(rules.seated(made, plan), replica)
    hold = await replica.hold(sale_id, "ana", "hold-0001", pb.HoldItem(section="bowl", quantity=4))

    found = await seat_map(replica, sale_id)

    assert len(found.SerializeToString()) < 16_000
    held = {unit.unit for unit in hold.units}
    states = found.sections[0].states
    assert all(state_of(states, unit) == (HELD if unit in held else FREE) for unit in range(50_000))
    # When a hold ends is told to its holder alone: neither message has a field for it.
    assert {field.name for field in pb.SectionMap.DESCRIPTOR.fields} == {"counts", "states"}
    assert {field.name for field in pb.SectionDelta.DESCRIPTOR.fields} == {"counts", "units", "states"}
    assert hold.HasField("expires_at")


async def test_who_follows_knows_what_the_map_says(
    replica: Replica,
    other_replica: Replica,
    define: Define,
    js: JetStreamContext,
    sale_id: str,
    follower: Follower,
) -> None:
    await define(await house(js), replica, other_replica)
    await follower.next()
    assert follower.known == await seat_map(replica, sale_id)
    start = follower.known.sequence

    # At another replica, and more than one change within a reading.
    for number in range(6):
        await other_replica.hold(
            sale_id, f"guest {number}", "hold-0001", pb.HoldItem(section="hall", quantity=1)
        )
    await other_replica.hold(sale_id, "ana", "hold-0001", pb.HoldItem(section="floor", quantity=3))
    await other_replica.inventory.Release(
        pb.ReleaseRequest(sale=sale_id, hold_id="hold-0001"), metadata=other_replica.as_("guest 0")
    )
    await follower.until(start + 8)

    assert follower.told < 1 + 8
    late = Follower(other_replica, sale_id)
    await late.next()
    assert follower.known == late.known
    late.stream.cancel()
    states = [state_of(follower.known.sections[1].states, unit) for unit in range(12)]
    assert (states.count(HELD), states.count(FREE)) == (5, 7)
    assert [section.counts.held for section in follower.known.sections] == [3, 5]


async def test_a_quiet_sale_is_heard_of_all_the_same(
    shared_replicas: Replicas, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    replica = await shared_replicas.start(heartbeat_s=0.2)
    await define(await house(js), replica)
    follower = Follower(replica, sale_id)
    for _ in range(3):
        await follower.next()
    before = follower.known.SerializeToString()
    assert follower.told == 3 and before == follower.known.SerializeToString()

    # Whoever drains sends its followers elsewhere.
    stopping = asyncio.create_task(asyncio.to_thread(replica.process.stop))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async with asyncio.timeout(20):
            while True:
                if await follower.stream.read() is grpc.aio.EOF:
                    await follower.stream
    refusal = refusal_of(ended.value)
    assert refusal is not None and refusal.word == "UNAVAILABLE"
    await stopping


async def test_streams_of_one_buyer_are_bounded(
    shared_replicas: Replicas, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    replica = await shared_replicas.start(streams_per_buyer=1)
    await define(await house(js), replica)
    first = Follower(replica, sale_id)
    await first.next()
    second = Follower(replica, sale_id)
    assert (await refused(second.stream.__aiter__().__anext__())).word == "STREAM_LIMIT"
    organiser = replica.inventory.WatchAvailability(
        pb.WatchAvailabilityRequest(sale=sale_id), metadata=replica.as_("org", "organiser")
    )
    assert (await organiser.read()).HasField("map")
    for stream in (first.stream, organiser):
        stream.cancel()


async def test_an_organiser_takes_units_out_and_gives_them_back(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str, follower: Follower
) -> None:
    await define(await house(js), replica)
    organiser = replica.as_("org", "organiser")
    items = [
        pb.BlockItem(section="hall", quantity=2, seats=["B3", "B4"]),
        pb.BlockItem(section="floor", quantity=1),
    ]
    request = pb.BlockRequest(sale=sale_id, block_id="tech-desk", items=items)

    denied = await refused(replica.inventory.Block(request, metadata=replica.as_("ana")))
    block = (await replica.inventory.Block(request, metadata=organiser)).block
    taken = await refused(replica.hold(sale_id, "ana", "hold-0001", seats("B3")))
    await follower.next()
    hall = next(each for each in follower.known.sections if each.counts.section == "hall")
    unblock = pb.UnblockRequest(sale=sale_id, block_id="tech-desk")
    freed = (await replica.inventory.Unblock(unblock, metadata=organiser)).block
    hold = await replica.hold(sale_id, "ana", "hold-0001", seats("B3"))
    request.block_id = "another-desk"
    in_use = await refused(replica.inventory.Block(request, metadata=organiser))

    assert denied.word == "ROLE_REQUIRED"
    assert block.blocked and [unit.seat for unit in block.units] == ["Stalls B-3", "Stalls B-4", ""]
    assert taken.word == "SEAT_TAKEN"
    assert hall.counts.blocked == 2
    assert [state_of(hall.states, unit) for unit in range(12)].count(BLOCKED) == 2
    assert not freed.blocked
    assert hold.state == pb.HOLD_STATE_HELD
    assert (in_use.word, in_use.metadata["taken"]) == ("UNITS_IN_USE", "B3")


async def test_what_cannot_be_blocked_is_named(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    await define(await house(js), replica)
    organiser = replica.as_("org", "organiser")
    bad = [
        ([pb.BlockItem(section="hall", quantity=2)], "INVALID_FIELD"),
        ([pb.BlockItem(section="hall", quantity=1, seats=["Z9"])], "SEAT_NOT_FOUND"),
        ([pb.BlockItem(section="cellar", quantity=1)], "SECTION_NOT_FOUND"),
        ([pb.BlockItem(section="floor", quantity=600)] * 2, "INVALID_QUANTITY"),
        ([pb.BlockItem(section="floor", quantity=5)], "UNITS_IN_USE"),
    ]
    for items, word in bad:
        request = pb.BlockRequest(sale=sale_id, block_id="tech-desk", items=items)
        assert (await refused(replica.inventory.Block(request, metadata=organiser))).word == word
    unblock = pb.UnblockRequest(sale=sale_id, block_id="tech-desk")
    assert (await refused(replica.inventory.Unblock(unblock, metadata=organiser))).word == "BLOCK_NOT_FOUND"


async def test_a_section_grows_while_its_sale_is_open(
    replica: Replica, define: Define, js: JetStreamContext, sale_id: str
) -> None:
    made = await house(js)
    await define(made, replica)
    await replica.hold(sale_id, "ana", "hold-0001", pb.HoldItem(section="floor", quantity=4))
    full = await refused(replica.hold(sale_id, "bia", "hold-0001", pb.HoldItem(section="floor", quantity=1)))
    made.sections[0].capacity = 6
    await define(made, replica)
    hold = await replica.hold(sale_id, "bia", "hold-0002", pb.HoldItem(section="floor", quantity=2))
    assert (full.word, hold.state) == ("SECTION_SOLD_OUT", pb.HOLD_STATE_HELD)
