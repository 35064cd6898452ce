"""Ledger and orders are made to disagree: what lasts is repaired, work in flight is not touched."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb
from nats.js import JetStreamContext

from tests.integration.inventory.book import buyer
from tests.integration.inventory.conftest import Checkout, Define, Replica, Replicas, published, spec
from tests.integration.inventory.test_rebuild import acts, claim, commit, counts, hold, order_of

SAGA_S = 0.5


@pytest.fixture
async def comparing(shared_replicas: Replicas) -> AsyncIterator[Replica]:
    """A replica that compares all the time."""
    started = await shared_replicas.start(reconcile_s=0.1, saga_max_s=SAGA_S)
    yield started
    await asyncio.to_thread(started.process.stop)


async def sell(where: Replica, sale: str, name: str, order: str) -> list[int]:
    """Sells two units, as checkout does; answers which."""
    made = await where.apply(sale, claim(name, order), hold(name, order), commit(name, order))
    assert [each.word for each in made] == ["CLAIMED", "HELD", "COMMITTED"]
    return [unit.unit for unit in made[1].hold.units]


async def repairs(js: JetStreamContext, sale: str, count: int) -> list[events_pb2.InventoryChange]:
    """The repairs among the published changes, once there are so many."""
    async with asyncio.timeout(15):
        while True:
            found = [change for change in await published(js, sale) if change.repair]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def test_only_what_no_order_has_is_freed(
    comparing: Replica, checkout: Checkout, define: Define, sale_id: str, js: JetStreamContext
) -> None:
    await define(spec(floor=20), comparing)
    under_way = {"ACCEPTED": {}, "AUTHORIZED": {}, "EXPIRED": {"owes_units": True}, "CONFIRMED": {}}
    units = {state: await sell(comparing, sale_id, state, f"order {state}") for state in under_way}
    # Known before the ledger is compared: these are all work in flight, or done.
    checkout.orders[sale_id] = [
        order_of(state, f"order {state}", state, *units[state], **more) for state, more in under_way.items()
    ]
    nobodys = await sell(comparing, sale_id, "ana", "no order at all")
    ended = await sell(comparing, sale_id, "bia", "ended")
    checkout.orders[sale_id].append(order_of("bia", "ended", "EXPIRED", *ended))

    found = await repairs(js, sale_id, 2)
    free, held, sold, _ = await counts(comparing, sale_id)

    assert acts(found) == ["RETURNED"] * 2
    freed = sorted(unit.unit for change in found for unit in change.units)
    assert freed == sorted([*nobodys, *ended])
    assert (free, held, sold) == (12, 0, 8)


async def test_what_has_tickets_is_sold(
    comparing: Replica, checkout: Checkout, define: Define, sale_id: str, js: JetStreamContext
) -> None:
    await define(spec(floor=10), comparing)
    still_held = await comparing.apply(sale_id, claim("ana", "held"), hold("ana", "held"))
    checkout.orders[sale_id] = [
        order_of("ana", "held", "CONFIRMED", *(unit.unit for unit in still_held[1].hold.units)),
        order_of("bia", "free", "CAPTURING", 6, 7),
    ]

    found = await repairs(js, sale_id, 2)

    assert sorted(acts(found)) == ["COMMITTED", "REACQUIRED"]
    assert [unit.unit for change in found for unit in change.units] == [6, 7]
    assert (await counts(comparing, sale_id))[:3] == (6, 0, 4)
    # The others are still handed out, each once.
    again = [await sell(comparing, sale_id, f"buyer {number}", f"order {number}") for number in range(3)]
    assert sorted(unit for units in again for unit in units) == [2, 3, 4, 5, 8, 9]


async def test_what_was_returned_with_its_tickets_is_sold_again(
    comparing: Replica, checkout: Checkout, define: Define, sale_id: str, js: JetStreamContext
) -> None:
    """A RETURN of an order that had ended arrives when that was paid late, and its units were had again."""
    await define(spec(floor=10), comparing)
    units = await sell(comparing, sale_id, "ana", "late")
    late = pb.ReturnCommand(hold_id=buyer("late"), buyer=buyer("ana"), order_id=buyer("late"))
    checkout.orders[sale_id] = [order_of("ana", "late", "CONFIRMED", *units)]
    await comparing.apply(sale_id, pb.Command(**{"return": late}))

    (found,) = await repairs(js, sale_id, 1)

    assert acts([found]) == ["REACQUIRED"]
    assert [unit.unit for unit in found.units] == units
    assert (await counts(comparing, sale_id))[:3] == (8, 0, 2)
