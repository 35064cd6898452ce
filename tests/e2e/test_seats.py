"""A theatre from its plan to the door: seats on a map, by name and the best there are, paid and audited."""

import asyncio
import gzip
import time
from pathlib import Path
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.sale.v1 import sale_pb2 as sale

from local.audit.load import Sources
from local.audit.report import audit
from local.client import answered
from local.commands.apply import shift
from services.inventory.seat_map import state_of
from services.kit.errors import Refusal
from services.kit.manifest import load_manifest
from tests.plans import THEATRE

EXAMPLE = Path(__file__).parents[2] / "examples/theatre.yaml"
FREE, HELD, SOLD, BLOCKED = range(4)


@pytest.fixture
async def theatre(house: Any, sale_id: str) -> str:
    """The example's sale under a name of its own, open now. Answers its id."""
    request = sale.PushPlanRequest(document=gzip.compress(THEATRE.read_bytes()))
    await answered(house.at.sales.PushPlan(request, metadata=house.organiser.metadata))
    _, spec = load_manifest(EXAMPLE.read_text())
    shift(spec, int(time.time() * 1000))
    spec.payment.window.FromSeconds(60)
    spec.payment.grace.FromSeconds(1)
    await house.organiser.define(sale_id, spec)
    return sale_id


def seats(*names: str) -> inventory.HoldItem:
    return inventory.HoldItem(section="stalls", quantity=len(names), seats=names)


async def states(house: Any, name: str) -> dict[str, int]:
    """The state of each seat of the stalls, by its id, as everyone may see it."""
    metadata = house.organiser.metadata
    listed = inventory.ListSeatsRequest(sale=name, section="stalls")
    found = (await house.at.inventory.ListSeats(listed, metadata=metadata)).seats
    request = inventory.WatchAvailabilityRequest(sale=name)
    stream = house.at.inventory.WatchAvailability(request, metadata=metadata)
    message = await stream.read()
    stream.cancel()
    (stalls,) = [each for each in message.map.sections if each.counts.section == "stalls"]
    return {seat.id: state_of(stalls.states, seat.unit) for seat in found}


async def test_the_plan_says_how_many_seats_there_are(house: Any, theatre: str) -> None:
    defined = await house.organiser.sale(theatre)
    assert [(each.id, each.capacity) for each in defined.spec.sections] == [
        *(("stalls", 38), ("balcony", 16), ("gallery", 20))
    ]
    # Nobody may lay another section over the same seats, nor take them for something else.
    changed = sale.SaleSpec()
    changed.CopyFrom(defined.spec)
    changed.sections[0].seats.accessible.append("A1")
    with pytest.raises(Refusal, match=r"DEFINITION_FIXED.*spec\.sections\[0\]\.seats"):
        await house.organiser.define(theatre, changed)
    changed.CopyFrom(defined.spec)
    changed.sections[1].seats.categories.append("Stalls")
    with pytest.raises(Refusal, match=r"DEFINITION_INVALID.*spec\.sections\[1\]\.seats\.categories\[1\]"):
        await house.organiser.define(theatre, changed)
    changed.CopyFrom(defined.spec)
    changed.seating_plan.digest = "0" * 64
    with pytest.raises(Refusal, match="no plan with this digest is stored"):
        await house.organiser.define(theatre, changed)


async def test_from_the_map_to_the_door(house: Any, theatre: str) -> None:
    ana, bia = house.buyer(theatre), house.buyer(theatre)

    # Ana picks her seats and orders them as she holds them; Bia orders the best three at once.
    hold = await ana.hold("my-seats", [seats("B4", "B5")])
    assert [unit.seat for unit in hold.units] == ["Stalls B-4", "Stalls B-5"]
    with pytest.raises(Refusal, match="SEAT_TAKEN") as taken:
        await bia.order("the-first-click", [seats("B5", "B6")])
    assert taken.value.metadata["taken"] == "B5"
    placed = await ana.order("the-first-click", hold_id="my-seats")
    best = inventory.HoldItem(section="stalls", quantity=3, ticket_type="half", together=True)
    other = await bia.order("another-click", [best])

    orders = await asyncio.gather(
        *(
            house.told(who, order.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
            for who, order in ((ana, placed), (bia, other))
        )
    )
    assert [order.amount for order in orders] == [2 * 9000, 3 * 4500]
    for order in orders:
        assert await house.pay(order) == "authorized"
    confirmed, of_bia = await asyncio.gather(
        *(
            house.told(who, order.order_id, checkout.ORDER_STATE_CONFIRMED)
            for who, order in ((ana, placed), (bia, other))
        )
    )

    assert [ticket.seat for ticket in confirmed.tickets] == ["Stalls B-4", "Stalls B-5"]
    row = {ticket.seat.rpartition("-")[0] for ticket in of_bia.tickets}
    numbers = sorted(int(ticket.seat.rpartition("-")[2]) for ticket in of_bia.tickets)
    assert len(row) == 1 and numbers == list(range(numbers[0], numbers[0] + 3))
    sold = {seat for seat, state in (await states(house, theatre)).items() if state == SOLD}
    assert {"B4", "B5"} < sold and len(sold) == 5
    await audited(house, theatre)


async def test_an_organiser_keeps_seats_back(house: Any, theatre: str) -> None:
    metadata = house.organiser.metadata
    items = [
        inventory.BlockItem(section="stalls", quantity=2, seats=["C5", "C6"]),
        inventory.BlockItem(section="gallery", quantity=5),
    ]
    block = inventory.BlockRequest(sale=theatre, block_id="mixing-desk", items=items)
    await answered(house.at.inventory.Block(block, metadata=metadata))
    buyer = house.buyer(theatre)
    with pytest.raises(Refusal, match="SEAT_TAKEN"):
        await buyer.hold("my-seats", [seats("C5")])
    with pytest.raises(Refusal, match="SEAT_RESERVED") as reserved:
        await buyer.hold("my-seats", [seats("D1")])
    assert reserved.value.metadata["seats"] == "D1"
    found = await states(house, theatre)
    assert {seat for seat, state in found.items() if state == BLOCKED} == {"C5", "C6"}
    await audited(house, theatre)

    unblock = inventory.UnblockRequest(sale=theatre, block_id="mixing-desk")
    await answered(house.at.inventory.Unblock(unblock, metadata=metadata))
    hold = await buyer.hold("my-seats", [seats("C5")])
    assert hold.state == inventory.HOLD_STATE_HELD
    assert (await states(house, theatre))["C5"] == HELD
    await audited(house, theatre)


async def audited(house: Any, name: str) -> None:
    """The audit finds nothing wrong; it takes what is under way for what it is."""
    verdict = await audit(Sources.of(house.running), name)
    assert verdict.ok, verdict.to_json()
