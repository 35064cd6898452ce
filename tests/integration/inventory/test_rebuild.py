"""A store that lost a sale is filled again before it answers: from what was published, and the orders."""

import asyncio
from functools import partial
from typing import Any

import grpc.aio
import msgpack
import pytest
from catraca.checkout.v1 import checkout_pb2 as orders_pb
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb
from nats.js import JetStreamContext
from redis.asyncio import Redis as Client

from services.inventory.replay import Replay
from services.inventory.seat_map import state_of
from services.inventory.store import KEYS, LUA, SECTION_KEYS, key_of
from services.kit.errors import refusal_of
from services.kit.lua import Script
from services.kit.streams import last_message
from tests.integration.inventory.book import buyer
from tests.integration.inventory.conftest import Checkout, Define, Replica, Replicas, published, spec
from tests.integration.inventory.test_seats import Follower, follower, house, seats
from tests.patience import NOT_LOADED, PATIENCE_S, patiently

assert follower

FLOOR = pb.HoldItem(section="floor", quantity=2)
once_loaded = partial(patiently, passing=NOT_LOADED)


async def keys_of(redis: Client, sale: str) -> list[bytes]:
    return [key async for key in redis.scan_iter(match=f"i:{{{sale}}}:*")]


async def empty(redis: Client, sale: str) -> None:
    """Flushes the sale, as FLUSHALL would all of them; other tests share this Redis."""
    await redis.delete(*await keys_of(redis, sale))


async def settled(js: JetStreamContext, redis: Client, sale: str) -> list[events_pb2.InventoryChange]:
    """Every change, once all are published."""
    async with asyncio.timeout(10):
        while True:
            sequence = int(await redis.hget(key_of(sale, "meta"), "sequence") or 0)
            changes = await published(js, sale)
            if changes and changes[-1].sequence >= sequence:
                return changes
            await asyncio.sleep(0.02)


def acts(changes: list[events_pb2.InventoryChange]) -> list[str]:
    return [events_pb2.InventoryAct.Name(each.act).removeprefix("INVENTORY_ACT_") for each in changes]


def claim(name: str, order: str, *, place: int | None = None, hold_id: str = "") -> pb.Command:
    items = [] if hold_id else [FLOOR]
    return pb.Command(
        claim=pb.ClaimCommand(
            order_id=buyer(order), buyer=buyer(name), items=items, place=place, hold_id=hold_id
        )
    )


def hold(name: str, order: str) -> pb.Command:
    return pb.Command(hold=pb.HoldCommand(hold_id=buyer(order), buyer=buyer(name), order_id=buyer(order)))


def commit(name: str, order: str) -> pb.Command:
    return pb.Command(commit=pb.CommitCommand(hold_id=buyer(order), buyer=buyer(name), order_id=buyer(order)))


def order_of(name: str, order: str, state: str, *units: int, **more: Any) -> orders_pb.OrderUnits:
    """An order for the floor as checkout has it."""
    held = [pb.HeldUnit(section="floor", unit=unit, ticket_type="full", price=1000) for unit in units]
    ticketed = held if state in ("CAPTURING", "CONFIRMED") else []
    return orders_pb.OrderUnits(
        order_id=buyer(order),
        buyer=buyer(name),
        state=orders_pb.OrderState.Value(f"ORDER_STATE_{state}"),
        hold_id=buyer(order),
        items=[FLOOR],
        units=held,
        tickets=[pb.UnitRef(section=unit.section, unit=unit.unit) for unit in ticketed],
        amount=1000 * len(units),
        **more,
    )


async def counts(where: Replica, sale: str) -> tuple[int, int, int, int]:
    """Free, held, sold and promised."""
    answer = await once_loaded(
        lambda: where.ledger.GetLedger(
            pb.GetLedgerRequest(sale=sale), metadata=where.as_("checkout", "service")
        )
    )
    found = answer.ledger.counts
    return found.free, found.held, found.sold, found.promised


async def test_a_flushed_sale_is_as_before(
    replica: Replica,
    other_replica: Replica,
    shared_replicas: Replicas,
    checkout: Checkout,
    define: Define,
    sale_id: str,
    redis: Client,
    js: JetStreamContext,
) -> None:
    """All was published: sold stays sold, orders keep their units, a hold without one is told as lost."""
    await define(spec(line=True, floor=20), replica, other_replica)
    names = ["ana", "bia", "caio", "davi"]
    callees = [
        pb.Callee(place=place, buyer=shared_replicas.buyer(name), joined_at_ms=1)
        for place, name in enumerate(names[:1])
    ] + [pb.Callee(place=place, buyer=buyer(name)) for place, name in enumerate(names) if place]
    await replica.apply(sale_id, pb.Command(call=pb.CallCommand(to=6, callees=callees)))
    token = shared_replicas.admission(sale_id, "ana", 0)
    mine = await replica.hold(sale_id, "ana", "hold-0001", FLOOR, token=token)
    made = await replica.apply(
        sale_id,
        *(claim(name, f"order of {name}", place=place) for place, name in enumerate(names) if place),
        *(hold(name, f"order of {name}") for name in ("bia", "caio")),
        commit("bia", "order of bia"),
    )
    assert [each.word for each in made] == ["CLAIMED"] * 3 + ["HELD"] * 2 + ["COMMITTED"]
    before = await counts(replica, sale_id)
    await settled(js, redis, sale_id)
    units_of = {
        name: [unit.unit for unit in made[3 + place].hold.units] for place, name in ((0, "bia"), (1, "caio"))
    }
    checkout.orders[sale_id] = [
        order_of("bia", "order of bia", "CONFIRMED", *units_of["bia"], place=1),
        order_of("caio", "order of caio", "AWAITING_PAYMENT", *units_of["caio"], place=2, pin_until_ms=2**42),
        order_of("davi", "order of davi", "ACCEPTED", place=3),
    ]
    await empty(redis, sale_id)

    lost = await once_loaded(
        lambda: other_replica.inventory.GetHold(
            pb.GetHoldRequest(sale=sale_id, hold_id="hold-0001"), metadata=replica.as_("ana")
        )
    )
    after = await counts(replica, sale_id)
    # What ana had held is hers to hold again, by another id; the old one says what became of it.
    again = await replica.hold(sale_id, "ana", "hold-0002", FLOOR, token=token)
    replayed = await replica.hold(sale_id, "ana", "hold-0001", FLOOR, token=token)
    repeated = await replica.apply(
        sale_id,
        *(claim(name, f"order of {name}", place=place) for place, name in enumerate(names) if place),
        hold("davi", "order of davi"),
        commit("caio", "order of caio"),
        commit("bia", "order of bia"),
    )

    assert (mine.state, lost.hold.state) == (pb.HOLD_STATE_HELD, pb.HOLD_STATE_LOST)
    assert (after[0], after[1], after[2]) == (before[0] + 2, before[1] - 2, before[2])
    assert after[3] == before[3] + 2
    assert (again.state, replayed.state) == (pb.HOLD_STATE_HELD, pb.HOLD_STATE_LOST)
    assert [each.word for each in repeated] == ["CLAIMED"] * 3 + ["HELD", "COMMITTED", "COMMITTED"]
    changes = await settled(js, redis, sale_id)
    assert [each.sequence for each in changes] == list(range(1, len(changes) + 1))
    begun = acts(changes).index("REBUILT")
    assert acts(changes)[begun : begun + 3] == ["REBUILT", "LOST", "PINNED"]
    assert (changes[begun].quantity, changes[begun + 1].restored) == (2, 2)
    ana = shared_replicas.buyer("ana")
    told = await last_message(js, "LOST", f"catraca.lost.{sale_id}.{ana}.hold-0001", from_leader=True)
    assert told is not None
    assert events_pb2.HoldLost.FromString(told.data).restored == 2


def of_seats(name: str, order: str, state: str, held: pb.Hold, *items: pb.HoldItem) -> orders_pb.OrderUnits:
    """An order for seats as checkout has it: with what it asked for, and the units of its hold."""
    made = order_of(name, order, state, pin_until_ms=2**42)
    del made.items[:]
    made.items.extend(items)
    made.units.extend(held.units)
    made.amount = sum(unit.price for unit in held.units)
    if state == "CONFIRMED":
        made.tickets.extend(pb.UnitRef(section=unit.section, unit=unit.unit) for unit in held.units)
    return made


async def test_a_flushed_sale_with_seats_is_as_before(
    replica: Replica,
    other_replica: Replica,
    checkout: Checkout,
    define: Define,
    sale_id: str,
    redis: Client,
    js: JetStreamContext,
    follower: Follower,
) -> None:
    """Sold, held, claimed and blocked seats stay what they are; a hold without an order is free again."""
    await define(await house(js), replica, other_replica)
    of_sold, of_held = seats("B1", "B2"), seats("A1", use=pb.SEAT_USE_ACCESSIBLE)
    of_claimed = pb.HoldItem(section="hall", quantity=2)

    def claim_of(name: str, order: str, item: pb.HoldItem) -> pb.Command:
        wanted = pb.ClaimCommand(order_id=buyer(order), buyer=buyer(name), items=[item])
        return pb.Command(claim=wanted)

    block = pb.BlockCommand(
        block_id="block-0001", items=[pb.BlockItem(section="hall", quantity=2, seats=["B5", "B6"])]
    )
    claims = [
        claim_of("ana", "sold", of_sold),
        claim_of("bia", "held", of_held),
        claim_of("caio", "claimed", of_claimed),
    ]
    made = await replica.apply(
        sale_id,
        *claims,
        hold("ana", "sold"),
        hold("bia", "held"),
        commit("ana", "sold"),
        pb.Command(block=block),
    )
    assert [each.word for each in made] == ["CLAIMED"] * 3 + ["HELD"] * 2 + ["COMMITTED", "BLOCKED"]
    mine = await replica.hold(sale_id, "davi", "hold-0001", seats("B4"))
    changes = await settled(js, redis, sale_id)
    await follower.until(changes[-1].sequence)
    checkout.orders[sale_id] = [
        of_seats("ana", "sold", "CONFIRMED", made[3].hold, of_sold),
        of_seats("bia", "held", "AWAITING_PAYMENT", made[4].hold, of_held),
        of_seats("caio", "claimed", "ACCEPTED", pb.Hold(), of_claimed),
    ]
    before = states_of(follower.known)
    await empty(redis, sale_id)

    assert (await counts(other_replica, sale_id))[:3] == (9, 1, 2)
    # Whoever followed before goes on, and is told all.
    await follower.until((await settled(js, redis, sale_id))[-1].sequence)

    (lost,) = (unit.unit for unit in mine.units)
    expected = [0 if unit == lost else state for unit, state in enumerate(before)]
    assert sorted(before) == [0] * 4 + [1] * 4 + [2] * 2 + [3] * 2
    assert states_of(follower.known) == expected
    repeated = await replica.apply(
        sale_id,
        *claims,
        hold("caio", "claimed"),
        commit("bia", "held"),
        pb.Command(block=block),
        pb.Command(unblock=pb.UnblockCommand(block_id="block-0001")),
    )
    assert [each.word for each in repeated] == ["CLAIMED"] * 3 + ["HELD", "COMMITTED", "BLOCKED", "UNBLOCKED"]
    # The seats that the claim kept, and nobody else's.
    assert [before[unit.unit] for unit in repeated[3].hold.units] == [1, 1]
    again = await replica.hold(sale_id, "davi", "hold-0002", seats("B4", "B5", "B6"))
    assert [unit.seat for unit in again.units] == ["Stalls B-4", "Stalls B-5", "Stalls B-6"]


def states_of(known: pb.SeatMap) -> list[int]:
    """The state of each seat of the hall."""
    (hall,) = [each for each in known.sections if each.counts.section == "hall"]
    return [state_of(hall.states, unit) for unit in range(hall.counts.capacity)]


async def test_what_was_never_published_is_taken_from_the_orders(
    replica: Replica, checkout: Checkout, define: Define, sale_id: str, redis: Client, js: JetStreamContext
) -> None:
    """The outbox went with the store: only orders know of what was done since."""
    await define(spec(floor=12), replica)
    await settled(js, redis, sale_id)
    now_ms = int((await redis.time())[0]) * 1000
    checkout.orders[sale_id] = [
        order_of("ana", "one", "CONFIRMED", 0, 1),
        order_of("bia", "two", "AUTHORIZED", 5, 7, pin_until_ms=now_ms + 60_000),
        order_of("caio", "three", "AWAITING_PAYMENT", 2, 3, pin_until_ms=now_ms + 60_000),
        order_of("davi", "four", "ACCEPTED", accepted_at_ms=now_ms),
        order_of("eva", "five", "REJECTED", accepted_at_ms=now_ms, reason="LIMIT_REACHED"),
        order_of("fabio", "six", "EXPIRED", 8, 9, accepted_at_ms=now_ms),
    ]
    await empty(redis, sale_id)

    free, held, sold, _ = await counts(replica, sale_id)
    results = await replica.apply(
        sale_id,
        claim("davi", "four"),
        claim("eva", "five"),
        hold("davi", "four"),
        commit("bia", "two"),
        commit("caio", "three"),
    )
    rest = [
        unit
        for number in range(2)
        for unit in (await replica.hold(sale_id, f"buyer {number}", "hold-0001", FLOOR)).units
    ]

    assert (free, held, sold) == (4, 2, 4)
    assert [each.word for each in results] == ["CLAIMED", "LIMIT_REACHED", "HELD", "COMMITTED", "COMMITTED"]
    taken = {0, 1, 5, 7, 2, 3} | {unit.unit for unit in results[2].hold.units}
    assert sorted(taken | {unit.unit for unit in rest}) == list(range(12))


async def test_a_copy_without_its_tail_is_noticed_before_it_answers(
    replica: Replica,
    other_replica: Replica,
    define: Define,
    sale_id: str,
    js: JetStreamContext,
    redis: Client,
) -> None:
    await define(spec(floor=10), replica, other_replica)
    await replica.hold(sale_id, "ana", "hold-0001", FLOOR)
    names = await keys_of(redis, sale_id)
    before = {name: await redis.dump(name) for name in names}
    await replica.hold(sale_id, "bia", "hold-0001", FLOOR)
    # A failover to a copy that had not seen the second hold yet, which may be published or not.
    await redis.delete(*await keys_of(redis, sale_id))
    for name, value in before.items():
        await redis.restore(name, 0, value or b"")

    asked = pb.GetHoldRequest(sale=sale_id, hold_id="hold-0001")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await replica.inventory.GetHold(asked, metadata=replica.as_("bia"))
    refusal = refusal_of(caught.value)
    free, held, _, _ = await counts(replica, sale_id)

    assert refusal is not None and refusal.word == "SALE_NOT_LOADED"
    assert (free, held) == (10, 0)
    assert "REBUILT" in acts(await settled(js, redis, sale_id))


async def test_a_copy_that_went_on_another_way_is_noticed_by_the_relay(
    replica: Replica, define: Define, sale_id: str, js: JetStreamContext, redis: Client
) -> None:
    """It has as many changes as the replica has seen, and more, but others: none of its own runs can tell."""
    await define(spec(floor=10), replica)
    await replica.hold(sale_id, "ana", "hold-0001", FLOOR)
    await settled(js, redis, sale_id)
    names = await keys_of(redis, sale_id)
    copied = {name: await redis.dump(name) for name in names}
    await replica.hold(sale_id, "bia", "hold-0001", FLOOR)
    log = await settled(js, redis, sale_id)
    script = Script.load(LUA, KEYS)
    keys = [key_of(sale_id, name) for name in (*KEYS, *(f"{each}:floor" for each in SECTION_KEYS))]
    envelope = {"epoch": 1, "sections": ["floor"], "budget": 1000, "refused_orders": 1, "seen": 0}
    blocks = [
        {"op": "block", "block_id": f"block-{number:04}", "items": [{"section": "floor", "quantity": 1}]}
        for number in range(2)
    ]

    # Another master has been at work meanwhile.
    async with redis.pipeline(transaction=True) as other:
        other.delete(*await keys_of(redis, sale_id))
        for name, value in copied.items():
            other.restore(name, 0, value or b"")
        other.eval(script.text, len(keys), *keys, msgpack.packb(envelope), msgpack.packb(blocks))
        await other.execute()

    async with asyncio.timeout(PATIENCE_S):
        while "REBUILT" not in acts(changes := await published(js, sale_id)):
            await asyncio.sleep(0.02)
    assert changes[: len(log)] == log
    assert (await counts(replica, sale_id))[:3] == (10, 0, 0)


async def test_a_store_that_is_lost_again_and_again(
    replica: Replica,
    other_replica: Replica,
    checkout: Checkout,
    define: Define,
    sale_id: str,
    js: JetStreamContext,
    redis: Client,
) -> None:
    """Two replicas meet it at once, and it is emptied while they fill it: one log, each epoch once."""
    await define(spec(floor=10), replica, other_replica)
    checkout.orders[sale_id] = [order_of("ana", "one", "CONFIRMED", 0, 1)]
    for _ in range(4):
        await empty(redis, sale_id)
        found = await asyncio.gather(counts(replica, sale_id), counts(other_replica, sale_id))
        assert set(found) == {(8, 0, 2, 0)}

    changes = await settled(js, redis, sale_id)
    epochs = [each.quantity for each in changes if each.act == events_pb2.INVENTORY_ACT_REBUILT]
    assert [each.sequence for each in changes] == list(range(1, len(changes) + 1))
    assert epochs == sorted(set(epochs)) and len(epochs) >= 4
    replay = Replay()
    for change in changes:
        replay.apply(change)
    assert replay.taken.keys() == {("floor", 0), ("floor", 1)}


async def test_a_replica_that_dies_while_it_fills_is_taken_over_from(
    shared_replicas: Replicas, define: Define, sale_id: str, js: JetStreamContext, redis: Client
) -> None:
    first = await shared_replicas.start(takeover_s=1)
    await define(spec(floor=10), first)
    await settled(js, redis, sale_id)
    await empty(redis, sale_id)
    # As one left it that died after its first step.
    await js.publish(f"$KV.epochs.inventory.{sale_id}", b'{"epoch": 2, "loaded": false}')

    assert (await counts(first, sale_id))[:3] == (10, 0, 0)
    changes = await settled(js, redis, sale_id)
    assert [each.quantity for each in changes if each.act == events_pb2.INVENTORY_ACT_REBUILT] == [3]


async def test_who_fails_tries_again_without_waiting_for_a_takeover(
    replica: Replica, checkout: Checkout, define: Define, sale_id: str, js: JetStreamContext, redis: Client
) -> None:
    """Nobody else is at it, and what failed here is over: the sale does not stand still for half a minute."""
    await define(spec(floor=10), replica)
    await settled(js, redis, sale_id)
    checkout.fails[sale_id] = 2
    await empty(redis, sale_id)

    assert (await counts(replica, sale_id))[:3] == (10, 0, 0)
    changes = await settled(js, redis, sale_id)
    assert [each.quantity for each in changes if each.act == events_pb2.INVENTORY_ACT_REBUILT] == [4]
