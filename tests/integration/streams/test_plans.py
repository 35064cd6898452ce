"""Seating plans in the object store: what one user puts there another finds, whole and under its digest."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import pytest
from nats.js import JetStreamContext

from local.prepare import prepare_streams
from local.servers.nats import Nats as NatsServer
from services.kit.errors import Refusal
from services.kit.plans.compiled import Plan, PlanUnreadable
from services.kit.plans.store import PlanStore
from services.kit.streams import connect_nats
from tests.plans import hall, plan_of, stadium_plan, theatre

Of = Callable[[str], PlanStore]


@pytest.fixture
async def of(nats_server: NatsServer, js: JetStreamContext) -> AsyncIterator[Of]:
    """The store as a user with its own rights has it."""
    await prepare_streams(nats_server.url)
    users = ("queue", "inventory")
    clients = {
        user: await connect_nats(SimpleNamespace(nats_url=nats_server.url_for(user)), user) for user in users
    }
    yield lambda user: PlanStore(clients[user].jetstream())
    for client in clients.values():
        await client.close()


async def test_the_queue_stores_what_inventory_reads(of: Of) -> None:
    # More than one chunk.
    plan = stadium_plan()
    await of("queue").put(plan)

    assert await of("queue").put(plan) is False
    assert await of("inventory").get(plan.digest) == plan


async def test_many_who_push_the_same_plan_at_once_store_it_once(of: Of, sale_id: str) -> None:
    plan = plan_of(hall("ooo", name=sale_id))

    async def reads() -> Plan:
        while (found := await of("inventory").find(plan.digest)) is None:
            await asyncio.sleep(0)
        return found

    readers = [asyncio.create_task(reads()) for _ in range(3)]
    stored = await asyncio.gather(*(of("queue").put(plan) for _ in range(10)))

    assert sorted(stored) == [False] * 9 + [True]
    assert await asyncio.gather(*readers) == [plan] * 3


async def test_a_plan_that_was_read_is_not_read_again(of: Of) -> None:
    plan, store = plan_of(theatre()), of("inventory")
    await of("queue").put(plan)
    assert await store.get(plan.digest) is await store.get(plan.digest)


@pytest.mark.parametrize("digest", ["0" * 64, "", "*", ">", "a.b", "A" * 64])
async def test_what_is_not_there(of: Of, digest: str) -> None:
    with pytest.raises(Refusal, match="PLAN_NOT_FOUND"):
        await of("inventory").get(digest)


async def test_what_is_stored_under_another_plans_name_is_not_that_plan(
    of: Of, js: JetStreamContext, sale_id: str
) -> None:
    one, other = plan_of(hall("o", name=sale_id)), plan_of(hall("oo", name=sale_id))
    bucket = await js.object_store("plans")
    await bucket.put(one.digest, other.packed())
    with pytest.raises(PlanUnreadable):
        await of("inventory").get(one.digest)


async def test_the_librarys_own_reader_finds_it_too(of: Of, js: JetStreamContext) -> None:
    plan = plan_of(theatre())
    await of("queue").put(plan)
    bucket = await js.object_store("plans")
    found = await bucket.get(plan.digest)
    assert found.data == plan.packed()
    assert found.info.description == plan.name
