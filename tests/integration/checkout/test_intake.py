"""Taking orders in: once per key, without the database, and nothing lost."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest
from catraca.events.v1.events_pb2 import DeadLetter, OrderIntake
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2

from services.checkout import rules
from services.checkout.records import Order
from services.checkout.saga import now_ms
from services.checkout.states import OrderState
from services.checkout.store import Store
from services.kit.errors import Refusal
from services.kit.streams import read_all
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.ledgers import down
from tests.integration.checkout.shop import Shop, Tuning, buyer, buyer_id

AWAITING = OrderState.AWAITING_PAYMENT
ENDS = (AWAITING, OrderState.REJECTED)


async def taken_in(shop: Shop) -> int:
    """How many messages the sale has in INTAKE."""
    return sum([1 async for _ in read_all(shop.js, "INTAKE", f"catraca.intake.{shop.sale.sale}.>")])


async def test_the_same_key_answers_the_same_order(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        first = await shop.place(key="click-0001", quantity=2)
        await shop.until(first, AWAITING)

        assert await shop.place(key="click-0001", quantity=2) == first
        assert await taken_in(shop) == await shop.intake.count(shop.sale.sale) == 1
        assert await shop.counts() == {"free": 8, "held": 2, "sold": 0}


async def test_the_same_key_at_once_is_one_order(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        orders = await asyncio.gather(*(shop.place(key="click-0001") for _ in range(20)))

        assert len({order.order_id for order in orders}) == 1
        assert len({order.accepted_at_ms for order in orders}) == 1
        await shop.until(orders[0], AWAITING)
        assert await shop.counts() == {"free": 9, "held": 1, "sold": 0}


async def test_the_same_key_with_another_request_is_refused(shop_on: ShopOf) -> None:
    async with (await shop_on()).open() as shop:
        first = await shop.place(key="click-0001", quantity=1)

        with pytest.raises(Refusal, match="IDEMPOTENCY_KEY_REUSED"):
            await shop.place(key="click-0001", quantity=2)

        # Another buyer may use the same words for a key.
        other = await shop.place("bob", key="click-0001", quantity=2)
        assert other.order_id != first.order_id


async def test_ten_buyers_race_for_the_last_two(shop_on: ShopOf) -> None:
    async with (await shop_on(capacity=2)).open() as shop:
        outcomes = await asyncio.gather(
            *(shop.place(f"buyer-{index}") for index in range(10)), return_exceptions=True
        )

        won = [each for each in outcomes if isinstance(each, Order)]
        refused = [each.word for each in outcomes if isinstance(each, Refusal)]
        assert (len(won), len(refused)) == (2, 8)
        assert set(refused) <= {"SOLD_OUT", "SECTION_SOLD_OUT"}
        for order in won:
            await shop.until(order, AWAITING)


async def test_the_database_may_be_dead(shop_of: ShopOf) -> None:
    shop = await shop_of()
    nowhere = "postgresql://nobody:x@127.0.0.1:1/nothing"
    async with shop.another(postgres_url=nowhere).open("intake", "relay", "sweeper") as broken:
        order = await broken.place(quantity=2)
        assert await broken.place(key=order.idempotency_key, quantity=2) == order
        await asyncio.sleep(0.3)

    # Nothing of it was lost.
    async with shop.open() as shop:
        await shop.until(order, AWAITING)


async def test_an_order_is_found_before_a_worker_saw_it(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("relay") as shop:
        order = await shop.place(quantity=2)

        asked = await shop.intake.find(order.sale, order.buyer, order.order_id)

        assert asked is not None
        assert (asked.order_id, asked.items[0].quantity) == (order.order_id, 2)
        assert await shop.intake.find(order.sale, buyer_id("bob"), order.order_id) is None


async def test_an_order_that_waited_too_long_is_told_so(shop_on: ShopOf) -> None:
    shop = await shop_on(queue_max_s=0.3)
    async with shop.open("relay"):
        order = await shop.place()
        await asyncio.sleep(0.5)

    async with shop.open() as shop:
        ended = await shop.until_rest(order)
        assert (ended.state, ended.reason) == (OrderState.REJECTED, "QUEUE_TIMEOUT")
        assert await shop.counts() == {"free": 10, "held": 0, "sold": 0}


async def test_an_order_whose_claim_never_ran_is_claimed_by_the_worker(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        shop.ledger.fail = down
        with pytest.raises(Refusal, match="UNAVAILABLE"):
            await shop.place(key="click-0001")
        order = await shop.order_under("click-0001")

        shop.ledger.fail = lambda _: None
        await shop.until(order, AWAITING)
        assert (await shop.place(key="click-0001")).order_id == order.order_id


async def test_the_process_takes_on_no_more_than_it_may(shop_of: ShopOf) -> None:
    shop = await shop_of(capacity=20, tuning=Tuning(orders_in_flight=2, intake_batch=1))
    async with shop.open() as shop:
        gate = asyncio.Event()
        authorize = shop.providers["sandbox"].authorize

        async def slowly(charge: object) -> object:
            await gate.wait()
            return await authorize(charge)  # type: ignore[arg-type]

        shop.providers["sandbox"].authorize = slowly  # type: ignore[method-assign, assignment]
        orders = [await shop.place(f"buyer-{index}") for index in range(6)]
        await asyncio.sleep(0.3)
        written = await shop.store.load([order.order_id for order in orders])
        assert len(written) <= 3

        gate.set()
        for order in orders:
            await shop.until(order, AWAITING)


async def test_what_is_no_order_becomes_a_dead_letter(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        subject = rules.intake_subject(shop.sale.sale, buyer_id("ada"), "a" * 26)
        foreign = OrderIntake(sale=shop.sale.sale, buyer=buyer_id("bob"), order_id="a" * 26)
        for payload in (b"\xff\xff", foreign.SerializeToString()):
            await shop.js.publish(subject, payload)
        order = await shop.place()

        await shop.until(order, AWAITING)
        assert [letter.payload for letter in await dead(shop, 2)] == [
            b"\xff\xff",
            foreign.SerializeToString(),
        ]


async def test_an_order_that_makes_the_worker_fail_is_rejected_alone(shop_of: ShopOf) -> None:
    async with (await shop_of()).open("relay", "sweeper", "webhooks") as shop:
        orders = [await shop.place(f"buyer-{index}") for index in range(4)]
        cursed = orders[2].order_id

        def fail(command: pb.Command) -> Exception | None:
            return ValueError("a defect") if command.hold.order_id == cursed else None

        shop.ledger.fail = fail
        worker = asyncio.create_task(shop._consume())
        for order in orders:
            await shop.until(order, *ENDS)

        ended = await shop.until_rest(orders[2])
        assert (ended.state, ended.reason) == (OrderState.REJECTED, "ORDER_UNPROCESSABLE")
        (letter,) = await dead(shop, 1)
        assert OrderIntake.FromString(letter.payload).order_id == cursed
        worker.cancel()


async def test_an_order_that_no_row_can_hold_is_kept_as_a_dead_letter(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        asked = OrderIntake(
            sale=shop.sale.sale,
            buyer=buyer_id("ada"),
            order_id="b" * 26,
            # Postgres takes no NUL in a text.
            idempotency_key="nul\x00",
            accepted_at_ms=now_ms(),
            namespace="public",
            subject="ada",
        )
        asked.items.add(section="floor", quantity=1)
        subject = rules.intake_subject(asked.sale, asked.buyer, asked.order_id)
        await shop.js.publish(subject, asked.SerializeToString())
        order = await shop.place("bob")

        await shop.until(order, AWAITING)
        (letter,) = await dead(shop, 1)
        assert OrderIntake.FromString(letter.payload) == asked


async def test_beyond_what_is_placed_at_once_more_is_refused(shop_of: ShopOf) -> None:
    async with (await shop_of(tuning=Tuning(orders_placing=3))).open("relay") as shop:
        outcomes = await asyncio.gather(
            *(shop.place(f"buyer-{index}") for index in range(8)), return_exceptions=True
        )

        assert sum(isinstance(each, Order) for each in outcomes) == 3
        assert {each.word for each in outcomes if isinstance(each, Refusal)} == {"OVERLOADED"}
        assert await taken_in(shop) == 3
        await shop.place("buyer-7")


async def test_an_archived_sale_takes_no_orders(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        archived = sale_pb2.Sale()
        archived.CopyFrom(shop.sale)
        archived.phase = sale_pb2.SALE_PHASE_ARCHIVED
        await shop.js.publish(f"$KV.sales.{shop.sale.sale}", archived.SerializeToString())
        await shop.definitions.latest(shop.sale.sale)

        with pytest.raises(Refusal, match="SALE_ARCHIVED"):
            await shop.place()
        assert await taken_in(shop) == 0


async def test_a_sale_with_a_line_wants_an_admission(shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        with_line = sale_pb2.Sale()
        with_line.CopyFrom(shop.sale)
        with_line.spec.line.kind = sale_pb2.LINE_KIND_DRAW
        await shop.js.publish(f"$KV.sales.{shop.sale.sale}", with_line.SerializeToString())
        await shop.definitions.latest(shop.sale.sale)

        with pytest.raises(Refusal, match="ADMISSION_REQUIRED"):
            await shop.place()
        assert await taken_in(shop) == 0


@pytest.mark.parametrize(
    ("name", "word"), [("another-sale", "SALE_NOT_FOUND"), ("not.a.sale", "INVALID_FIELD")]
)
async def test_an_unknown_sale_is_refused(name: str, word: str, shop_of: ShopOf) -> None:
    async with (await shop_of()).open() as shop:
        with pytest.raises(Refusal, match=word):
            await shop.intake.place(buyer("ada"), replace(shop.wish(), sale=name))


async def test_the_schema_is_migrated_by_one_of_many(shop_of: ShopOf) -> None:
    shop = await shop_of()
    admin = await asyncpg.connect(shop.postgres_url)
    name = f"fresh_{now_ms()}"
    await admin.execute(f"create database {name}")
    url = shop.postgres_url.rsplit("/", 1)[0] + f"/{name}"
    pools = [await asyncpg.create_pool(url, min_size=0, max_size=1) for _ in range(4)]

    await asyncio.gather(*(Store(pool).migrate() for pool in pools))

    assert await pools[0].fetchval("select count(*) from public.migrations") >= 1
    assert await Store(pools[1]).load(["a" * 26]) == {}
    for pool in pools:
        await pool.close()
    await admin.execute(f"drop database {name}")
    await admin.close()


async def dead(shop: Shop, count: int) -> list[DeadLetter]:
    """The sale's dead letters, once there are so many."""
    subject = f"catraca.dead.test-{shop.sale.sale}"
    while True:
        letters = [DeadLetter.FromString(each.data) async for each in read_all(shop.js, "DEAD", subject)]
        if len(letters) >= count:
            return letters
        await asyncio.sleep(0.02)
