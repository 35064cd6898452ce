"""The pace of a sale is one for all workers: its slots stand in the database and follow its clock."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from catraca.sale.v1 import sale_pb2

from services.checkout.states import OrderState
from services.checkout.store import Store
from services.checkout.workers import slots
from services.kit.consumer import Delivery
from services.kit.streams import Again, read_all
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop

AWAITING = OrderState.AWAITING_PAYMENT
HOUR_US = 3_600_000_000
STEP_US = 1_000_000


@pytest.fixture
async def stores(migrated: str) -> AsyncIterator[list[Store]]:
    """Those of two workers, each with connections of its own."""
    pools = [await asyncpg.create_pool(migrated, min_size=0, max_size=4) for _ in range(2)]
    yield [Store(pool) for pool in pools]
    for pool in pools:
        await pool.close()


@pytest.fixture
async def database(migrated: str) -> AsyncIterator[Any]:
    """A connection to look with."""
    connection = await asyncpg.connect(migrated)
    yield connection
    await connection.close()


async def kept(database: Any, sale: str) -> dict[int, int]:
    """The slots of a sale by place in INTAKE."""
    query = "select sequence, slot_us from orders.slots where sale = $1 order by sequence"
    return {row["sequence"]: row["slot_us"] for row in await database.fetch(query, sale)}


def gaps(found: dict[int, int]) -> list[int]:
    """The time between one slot and the next."""
    times = sorted(found.values())
    return [later - earlier for earlier, later in itertools.pairwise(times)]


# ---- the rule ----


async def test_slots_are_in_the_order_of_intake(stores: list[Store], database: Any, sale_id: str) -> None:
    waits = await stores[0].give_slots(sale_id, [9, 3, 7, 7], STEP_US, HOUR_US)

    assert waits == {3: 0, 7: STEP_US, 9: 2 * STEP_US}
    found = await kept(database, sale_id)
    assert sorted(found, key=lambda sequence: found[sequence]) == [3, 7, 9]
    assert gaps(found) == [STEP_US, STEP_US]


async def test_an_order_keeps_its_slot_whichever_worker_it_comes_to(
    stores: list[Store], database: Any, sale_id: str
) -> None:
    one, other = stores
    await one.give_slots(sale_id, [1, 2, 3], STEP_US, HOUR_US)
    before = await kept(database, sale_id)

    waits = await other.give_slots(sale_id, [2, 3, 4], STEP_US, HOUR_US)

    after = await kept(database, sale_id)
    assert {sequence: after[sequence] for sequence in (1, 2, 3)} == before
    assert after[4] == before[3] + STEP_US
    assert waits.keys() == {2, 3, 4}
    assert waits[4] - waits[3] == waits[3] - waits[2] == STEP_US


async def test_workers_that_ask_at_once_keep_one_pace(
    stores: list[Store], database: Any, sale_id: str
) -> None:
    # Every order comes to both workers, in batches that overlap.
    batches = [list(range(start, start + 20)) for start in range(0, 200, 10)]
    asked = [store.give_slots(sale_id, batch, STEP_US, HOUR_US) for batch in batches for store in stores]

    answers = await asyncio.gather(*asked)

    assert [answer.keys() for answer in answers] == [set(batch) for batch in batches for _ in stores]
    found = await kept(database, sale_id)
    assert len(found) == 210
    assert min(gaps(found)) >= STEP_US
    # And each was told the slot that is kept: the answers of one statement lie as far apart as the slots do.
    for answer in answers:
        assert len({found[sequence] - wait for sequence, wait in answer.items() if wait}) == 1


async def test_sales_do_not_wait_for_each_other(stores: list[Store], sale_id: str) -> None:
    await stores[0].give_slots(sale_id, range(100), STEP_US, HOUR_US)

    assert await stores[0].give_slots(f"{sale_id}-2", [100], STEP_US, HOUR_US) == {100: 0}


async def test_another_rate_is_for_orders_without_a_slot(
    stores: list[Store], database: Any, sale_id: str
) -> None:
    await stores[0].give_slots(sale_id, [1, 2], 100 * STEP_US, HOUR_US)

    await stores[1].give_slots(sale_id, [1, 2, 3, 4], STEP_US, HOUR_US)

    assert gaps(await kept(database, sale_id)) == [100 * STEP_US, STEP_US, STEP_US]


async def test_an_idle_sale_saves_no_slots_up(stores: list[Store], database: Any, sale_id: str) -> None:
    await stores[0].give_slots(sale_id, [1], STEP_US, HOUR_US)
    await database.execute(
        "update orders.paces set last_us = last_us - $2::bigint where sale = $1", sale_id, HOUR_US
    )

    assert await stores[0].give_slots(sale_id, [2, 3], STEP_US, HOUR_US) == {2: 0, 3: STEP_US}


async def test_nobody_waits_longer_than_the_longest_wait_nor_takes_up_time_beyond_it(
    stores: list[Store], database: Any, sale_id: str
) -> None:
    longest_us = 5 * HOUR_US
    for first in (0, 20):
        waits = await stores[0].give_slots(sale_id, range(first, first + 20), HOUR_US, longest_us)
        assert max(waits.values()) == longest_us

    # Those who will only be told that it is too late have not put the next ones off.
    last_us = await database.fetchval("select last_us from orders.paces where sale = $1", sale_id)
    assert last_us == (await kept(database, sale_id))[4]
    waits = await stores[0].give_slots(sale_id, [40], HOUR_US, 10 * HOUR_US)
    assert waits[40] <= 5 * HOUR_US


async def test_next_to_no_rate_is_counted_with(stores: list[Store], sale_id: str) -> None:
    waits = await stores[0].give_slots(sale_id, range(500), 10**15, HOUR_US)

    assert sorted(waits.values())[:2] == [0, HOUR_US]


# ---- what is removed ----


async def test_what_is_left_of_archived_sales_and_of_the_past_is_removed(
    shop_of: ShopOf, database: Any
) -> None:
    async with (await shop_of(rate=1)).open("relay") as shop:
        sale = shop.sale.sale
        await shop.store.give_slots(sale, [1, 2], STEP_US, HOUR_US)
        await database.execute(
            "update orders.slots set slot_us = slot_us - $2::bigint where sale = $1 and sequence = 1",
            sale,
            slots.PAST_US + STEP_US,
        )

        await slots.sweep(shop.store, shop.definitions)
        assert list(await kept(database, sale)) == [2]

        archived = sale_pb2.Sale()
        archived.CopyFrom(shop.sale)
        archived.phase = sale_pb2.SALE_PHASE_ARCHIVED
        await shop.js.publish(f"$KV.sales.{sale}", archived.SerializeToString())
        await shop.definitions.latest(sale)
        await slots.sweep(shop.store, shop.definitions)

        assert await kept(database, sale) == {}
        assert await database.fetchval("select count(*) from orders.paces where sale = $1", sale) == 0


# ---- two workers ----


async def deliveries(shop: Shop) -> list[Delivery]:
    """Everything of the sale in INTAKE, as a worker gets it."""
    subject = f"catraca.intake.{shop.sale.sale}.>"
    return [Delivery(message, 1, False) async for message in read_all(shop.js, "INTAKE", subject)]


def never_drop(shop: Shop) -> None:
    """Keep the slots of orders that were taken on, to look at."""

    async def keep(*_: Any) -> None:
        pass

    shop.store.drop_slots = keep  # type: ignore[method-assign]


async def test_two_workers_keep_the_rate_together(shop_of: ShopOf, database: Any) -> None:
    shop = await shop_of(capacity=30, rate=20)
    async with shop.open() as one, shop.another().open() as other:
        never_drop(one)
        never_drop(other)
        orders = [await one.place(f"buyer-{index}") for index in range(20)]
        held = [await one.until(order, AWAITING) for order in orders]

        found = await kept(database, one.sale.sale)
        assert len(found) == 20
        assert min(gaps(found)) >= 50_000
        # Nobody was taken on before a slot of theirs: the n-th order not before the n-th slot.
        taken_on_ms = sorted(order.held_at_ms for order in held)
        assert all(
            at_ms >= slot_us // 1000
            for at_ms, slot_us in zip(taken_on_ms, sorted(found.values()), strict=True)
        )


async def test_a_redelivery_to_the_other_worker_finds_the_same_slot(shop_of: ShopOf, database: Any) -> None:
    shop = await shop_of(rate=1 / 20)
    async with shop.open("relay") as one, shop.another().open("relay") as other:
        for index in range(3):
            await one.place(f"buyer-{index}")
        first, *waiting = await deliveries(one)

        outcomes = await one.worker.handle([first, *waiting])
        assert outcomes[0] is None
        assert all(isinstance(each, Again) for each in outcomes[1:])
        before = await kept(database, one.sale.sale)
        # The first was taken on, so it has no slot any more.
        assert list(before) == [each.message.seq for each in waiting]

        again = await other.worker.handle(waiting)

        assert all(isinstance(each, Again) for each in again)
        assert await kept(database, one.sale.sale) == before


async def test_orders_of_a_worker_that_died_keep_their_slots_and_none_is_left(
    shop_of: ShopOf, database: Any
) -> None:
    shop = await shop_of(rate=20)
    stopped = asyncio.Event()

    async def die(*_: Any) -> Any:
        stopped.set()
        await asyncio.Event().wait()

    async with shop.open() as dying:
        dying.store.insert = die  # type: ignore[method-assign]
        orders = [await dying.place(f"buyer-{index}") for index in range(4)]
        await stopped.wait()
    assert await kept(database, shop.sale.sale)

    async with shop.another().open() as survivor:
        for order in orders:
            await survivor.until(order, AWAITING)
        while await kept(database, shop.sale.sale):
            await asyncio.sleep(0.02)


async def test_without_the_database_paced_orders_wait(shop_of: ShopOf, database: Any) -> None:
    shop = await shop_of(rate=20)
    nowhere = "postgresql://nobody:x@127.0.0.1:1/nothing"
    async with shop.another(postgres_url=nowhere).open("relay") as broken:
        order = await broken.place()
        (outcome,) = await broken.worker.handle(await deliveries(broken))
        assert isinstance(outcome, Again)
        assert await kept(database, shop.sale.sale) == {}

    async with shop.open() as healed:
        await healed.until(order, AWAITING)


async def test_a_sale_without_a_rate_has_no_slots(shop_of: ShopOf, database: Any) -> None:
    async with (await shop_of()).open() as shop:

        async def refuse(*_: Any) -> Any:
            raise AssertionError("a sale without a rate asked for slots")

        shop.store.give_slots = shop.store.drop_slots = refuse  # type: ignore[method-assign]
        await shop.until(await shop.place(), AWAITING)

        assert await kept(database, shop.sale.sale) == {}
        assert (
            await database.fetchval("select count(*) from orders.paces where sale = $1", shop.sale.sale) == 0
        )
