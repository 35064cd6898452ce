"""Definitions come into the store as they are stored, once, by whichever replica is first."""

import asyncio

import grpc
import grpc.aio
import pytest
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2
from nats.js import JetStreamContext
from redis.asyncio import Redis as Client

from services.inventory.store import key_of
from services.kit.errors import Refusal, refusal_of
from tests.integration.inventory.conftest import Define, Replica, Replicas, published, spec

FLOOR = pb.HoldItem(section="floor", quantity=1)


async def refused(call: object) -> Refusal:
    """The refusal that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    return refusal


async def test_a_sale_is_loaded_without_being_asked(
    replica: Replica, define: Define, sale_id: str, redis: Client
) -> None:
    revision = await define(spec(floor=7))

    async with asyncio.timeout(10):
        while await redis.hget(key_of(sale_id, "meta"), "revision") != str(revision).encode():
            await asyncio.sleep(0.02)


async def test_many_loads_define_once(
    replica: Replica, other_replica: Replica, define: Define, sale_id: str, js: JetStreamContext
) -> None:
    await define(spec(floor=7), *[replica, other_replica] * 5)
    await define(spec(floor=8), *[replica, other_replica] * 5)

    async with asyncio.timeout(10):
        while len(changes := await published(js, sale_id)) < 2:
            await asyncio.sleep(0.02)

    assert [(change.sequence, change.quantity) for change in changes] == [(1, 7), (2, 8)]


async def test_a_new_section_is_sold_by_every_replica(
    replica: Replica, other_replica: Replica, define: Define, sale_id: str
) -> None:
    await define(spec(floor=7), replica, other_replica)
    await define(spec(floor=7, stage=3), replica)

    # The other replica meets the new section in the store, perhaps before it hears of the definition.
    held = await other_replica.hold(sale_id, "ana", "hold-0001", FLOOR)
    staged = await other_replica.hold(sale_id, "bia", "hold-0001", pb.HoldItem(section="stage", quantity=1))

    assert (held.state, staged.units[0].section) == (pb.HOLD_STATE_HELD, "stage")


async def test_seats_without_a_plan_are_not_sold(
    replica: Replica, define: Define, sale_id: str, redis: Client
) -> None:
    made = spec(floor=7)
    made.sections[0].kind = sale_pb2.SECTION_KIND_SEATED
    revision = await define(made)

    refusal = await refused(
        replica.ledger.Load(
            pb.LoadRequest(sale=sale_id, revision=revision), metadata=replica.as_("queue", "service")
        )
    )
    held = await refused(replica.hold(sale_id, "ana", "hold-0001", FLOOR))

    assert refusal.word == held.word == "DEFINITION_INVALID"
    assert refusal.metadata["path"] == "spec.sections[0].kind"
    assert await redis.exists(key_of(sale_id, "meta")) == 0


async def test_less_capacity_is_refused(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(floor=7), replica)
    revision = await define(spec(floor=6))

    refusal = await refused(
        replica.ledger.Load(
            pb.LoadRequest(sale=sale_id, revision=revision), metadata=replica.as_("queue", "service")
        )
    )

    assert (refusal.word, refusal.metadata["path"]) == ("DEFINITION_FIXED", "sections.floor.capacity")
    # What stood before is still sold.
    assert (await replica.hold(sale_id, "ana", "hold-0001", FLOOR)).state == pb.HOLD_STATE_HELD


async def test_a_section_cannot_be_taken_away(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(floor=7, stage=1), replica)
    revision = await define(spec(floor=7))

    refusal = await refused(
        replica.ledger.Load(
            pb.LoadRequest(sale=sale_id, revision=revision), metadata=replica.as_("queue", "service")
        )
    )

    assert (refusal.word, refusal.metadata["path"]) == ("DEFINITION_FIXED", "sections.stage")


async def test_a_revision_that_never_comes_is_not_waited_for(
    shared_replicas: Replicas, define: Define, sale_id: str
) -> None:
    impatient = await shared_replicas.start(load_wait_s=0.2)
    revision = await define(spec())

    refusal = await refused(
        impatient.ledger.Load(
            pb.LoadRequest(sale=sale_id, revision=revision + 1), metadata=impatient.as_("queue", "service")
        )
    )

    assert refusal.word == "DEADLINE"


async def test_an_archived_sale_is_told(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(), replica)
    await define(spec(), phase=sale_pb2.SALE_PHASE_ARCHIVED)

    async with asyncio.timeout(10):
        while True:
            hold = replica.hold(sale_id, "ana", "hold-0001", FLOOR)
            try:
                await hold
            except grpc.aio.AioRpcError as error:
                refusal = refusal_of(error)
                assert refusal is not None
                break
            await asyncio.sleep(0.02)

    assert refusal.word == "SALE_ARCHIVED"


async def test_a_stream_is_sent_elsewhere_when_the_service_ends(
    shared_replicas: Replicas, define: Define, sale_id: str
) -> None:
    leaving = await shared_replicas.start(drain_s=30)
    await define(spec(), leaving)
    stream = leaving.ledger.ApplyStream(metadata=leaving.as_("checkout", "service"))
    await stream.write(pb.ApplyStreamRequest(sale=sale_id))
    assert await stream.read() == pb.ApplyStreamResponse()

    async with asyncio.timeout(15):
        stopping = asyncio.to_thread(leaving.process.stop)
        ended, _ = await asyncio.gather(stream.read(), stopping, return_exceptions=True)

    assert isinstance(ended, grpc.aio.AioRpcError)
    refusal = refusal_of(ended)
    assert refusal is not None
    assert refusal.word == "UNAVAILABLE"
    assert refusal.retry_after_s is not None
