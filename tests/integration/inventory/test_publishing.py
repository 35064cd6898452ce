"""Every change reaches JetStream once and in order, whoever publishes; a store that lost some is refused."""

import asyncio
from typing import Any

import grpc.aio
import msgpack
import pytest
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb
from google.protobuf.json_format import MessageToDict
from nats.js import JetStreamContext
from redis.asyncio import Redis as Client

from services.inventory.events import change_of
from services.inventory.store import key_of
from services.kit.errors import refusal_of
from tests.integration.inventory.book import buyer
from tests.integration.inventory.conftest import Define, Replica, published, spec

FLOOR = pb.HoldItem(section="floor", quantity=1)


async def outbox(redis: Client, sale: str) -> list[events_pb2.InventoryChange]:
    """Every change that the sale's outbox has."""
    changes: list[dict[str, Any]] = []
    for _, fields in await redis.xrange(key_of(sale, "out")):
        changes += msgpack.unpackb(fields[b"e"])
    return [change_of(change) for change in changes]


async def all_published(
    js: JetStreamContext, redis: Client, sale: str
) -> tuple[list[events_pb2.InventoryChange], list[events_pb2.InventoryChange]]:
    """What JetStream and the outbox have, once they have as many."""
    async with asyncio.timeout(10):
        while True:
            there, here = await published(js, sale), await outbox(redis, sale)
            if here and len(there) >= len(here):
                return there, here
            await asyncio.sleep(0.02)


async def word_of(call: object) -> str:
    """The word of the refusal that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    return refusal.word


async def test_two_replicas_publish_each_change_once(
    replica: Replica,
    other_replica: Replica,
    define: Define,
    sale_id: str,
    js: JetStreamContext,
    redis: Client,
) -> None:
    await define(spec(floor=200), replica, other_replica)

    async def act(where: Replica, name: str) -> None:
        for number in range(20):
            await where.hold(sale_id, f"{name} {number}", "hold-0001", FLOOR)

    await asyncio.gather(act(replica, "one"), act(other_replica, "two"), act(other_replica, "three"))
    there, here = await all_published(js, redis, sale_id)

    assert there == here
    assert [change.sequence for change in there] == list(range(1, 62))
    assert [change.at_ms for change in there] == sorted(change.at_ms for change in there)


async def test_a_change_is_told_in_full(
    replica: Replica, define: Define, sale_id: str, js: JetStreamContext, redis: Client
) -> None:
    await define(spec(line=True, floor=10), replica)
    ana, order = buyer("ana"), buyer("order")
    callee = pb.Callee(place=0, buyer=ana, joined_at_ms=1)
    await replica.apply(
        sale_id,
        pb.Command(call=pb.CallCommand(to=3, callees=[callee])),
        pb.Command(claim=pb.ClaimCommand(order_id=order, buyer=ana, items=[FLOOR], place=0)),
        pb.Command(hold=pb.HoldCommand(hold_id=order, buyer=ana, order_id=order)),
        pb.Command(commit=pb.CommitCommand(hold_id=order, buyer=ana, order_id=order)),
    )

    there, _ = await all_published(js, redis, sale_id)

    told = [MessageToDict(change, preserving_proto_field_name=True) for change in there]
    for change in told:
        del change["at_ms"]
        change.pop("until_ms", None)
    owned = {"buyer": ana, "place": "0", "order_id": order}
    assert told == [
        {
            "sequence": "1",
            "act": "INVENTORY_ACT_DEFINED",
            "quantity": "10",
            "watermark": told[0]["watermark"],
        },
        {
            "sequence": "2",
            "act": "INVENTORY_ACT_CALLED",
            "buyer": ana,
            "place": "0",
            "quantity": "4",
            "watermark": "3",
        },
        {
            "sequence": "3",
            "act": "INVENTORY_ACT_CLAIMED",
            **owned,
            "quantity": "1",
            "items": [{"section": "floor", "ticket_type": "full", "quantity": 1}],
        },
        {
            "sequence": "4",
            "act": "INVENTORY_ACT_HELD",
            **owned,
            "hold_id": order,
            "units": [{"section": "floor", "ticket_type": "full", "price": "1000"}],
        },
        {"sequence": "5", "act": "INVENTORY_ACT_COMMITTED", **owned, "hold_id": order},
    ]


async def test_a_sale_is_dropped_once_it_is_settled(
    replica: Replica,
    other_replica: Replica,
    define: Define,
    sale_id: str,
    js: JetStreamContext,
    redis: Client,
) -> None:
    made = spec(floor=10)
    await define(made, replica, other_replica)
    ana, order = buyer("ana"), buyer("order")
    await replica.apply(
        sale_id,
        pb.Command(claim=pb.ClaimCommand(order_id=order, buyer=ana, items=[FLOOR])),
        pb.Command(hold=pb.HoldCommand(hold_id=order, buyer=ana, order_id=order)),
    )
    as_queue = replica.as_("queue", "service")
    drop = pb.DropRequest(sale=sale_id)

    too_early = await word_of(replica.ledger.Drop(drop, metadata=as_queue))
    made.window.closes_at.GetCurrentTime()
    await define(made, replica)
    with_a_hold = await word_of(replica.ledger.Drop(drop, metadata=as_queue))
    await replica.apply(
        sale_id, pb.Command(commit=pb.CommitCommand(hold_id=order, buyer=ana, order_id=order))
    )
    await replica.ledger.Drop(drop, metadata=as_queue)
    await replica.ledger.Drop(drop, metadata=as_queue)

    assert (too_early, with_a_hold) == ("WRONG_PHASE", "SALE_NOT_SETTLED")
    assert [key async for key in redis.scan_iter(match=key_of(sale_id, "*"))] == []
    acts = [events_pb2.InventoryAct.Name(change.act) for change in await published(js, sale_id)]
    assert acts[-1] == "INVENTORY_ACT_COMMITTED"
