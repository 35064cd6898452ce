"""`catraca audit` on the running system: clean after a real sale, and naming what is broken by its number."""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgpack
import nats
import pytest
from catraca.checkout.v1 import checkout_pb2
from catraca.events.v1 import events_pb2
from catraca.sale.v1 import sale_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio import Redis

from local import cli
from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, Connection, Organiser, Targets, item
from local.discovery import RunningStack
from local.stack import Stack
from services.kit.errors import Refusal
from services.kit.relay import LAST_SEQUENCE_HEADER

LOBBY_S = 1.5
SETTLING_S = 30.0
NAMES = ["ana", "bruno", "carla", "diego"]


@dataclass
class Sold:
    """A sale that is over: three confirmed orders, one cancelled, everything at rest."""

    running: RunningStack
    sale: str
    confirmed: list[checkout_pb2.Order] = field(default_factory=list)
    cancelled: checkout_pb2.Order | None = None

    async def sql(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.running.postgres_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    def provider(self, query: str, *arguments: object) -> None:
        """Changes the provider's own ledger."""
        with sqlite3.connect(Path(self.running.data) / "sandbox.sqlite", timeout=10) as ledger:
            ledger.execute(query, arguments)

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[Redis]:
        client = Redis.from_url(self.running.redis_url)
        yield client
        await client.aclose()


def spec() -> sale_pb2.SaleSpec:
    """Eight tickets, two for each; the lobby is short."""
    opens_at, closes_at = Timestamp(), Timestamp()
    opens_at.FromMilliseconds(int((time.time() + LOBBY_S) * 1000))
    closes_at.FromMilliseconds(int((time.time() + 3600) * 1000))
    return sale_pb2.SaleSpec(
        title="A small evening",
        currency="BRL",
        sections=[
            sale_pb2.Section(
                id="floor",
                title="Floor",
                capacity=8,
                kind=sale_pb2.SECTION_KIND_STANDING,
                ticket_types=[sale_pb2.TicketType(id="full", title="Full", price=5000)],
            )
        ],
        window=sale_pb2.Window(opens_at=opens_at, closes_at=closes_at),
        line=sale_pb2.Line(kind=sale_pb2.LINE_KIND_DRAW, turn_duration=Duration(seconds=60)),
        limits=sale_pb2.Limits(per_buyer=2),
    )


async def entered(buyer: Buyer) -> str:
    """The buyer's admission, as soon as the turn comes."""
    async with asyncio.timeout(SETTLING_S):
        while True:
            try:
                return (await buyer.enter()).token
            except Refusal as refusal:
                assert refusal.word in ("NOT_CALLED_YET", "DRAW_PENDING", "WRONG_PHASE")
                await asyncio.sleep(0.1)


async def until(buyer: Buyer, order_id: str, *states: int) -> checkout_pb2.Order:
    """The order once it is in one of these states."""
    async with asyncio.timeout(SETTLING_S):
        while (order := await buyer.get_order(order_id)).state not in states:
            await asyncio.sleep(0.05)
    return order


async def bought(buyer: Buyer, client: aiohttp.ClientSession) -> checkout_pb2.Order:
    """Two tickets, paid."""
    placed = await buyer.order("the-only-click", [item("floor", 2)], admission=await entered(buyer))
    order = await until(buyer, placed.order_id, checkout_pb2.ORDER_STATE_AWAITING_PAYMENT)
    async with client.post(order.payment.url, json={"card": "approve"}) as answer:
        assert (await answer.json())["result"] == "authorized"
    return await until(buyer, order.order_id, checkout_pb2.ORDER_STATE_CONFIRMED)


async def thought_better(buyer: Buyer) -> checkout_pb2.Order:
    """Ordered, and cancelled instead of paid."""
    placed = await buyer.order("the-only-click", [item("floor", 1)], admission=await entered(buyer))
    await until(buyer, placed.order_id, checkout_pb2.ORDER_STATE_AWAITING_PAYMENT)
    await buyer.cancel(placed.order_id)
    return await until(buyer, placed.order_id, checkout_pb2.ORDER_STATE_CANCELLED)


@pytest.fixture(scope="module")
async def sold(stack: Stack) -> AsyncIterator[Sold]:
    """A small sale, from its definition until nothing of it is under way."""
    running = stack.running
    sale = f"audited-{int(time.time() * 1000)}"
    outcome = Sold(running, sale)
    minter = running.minter()
    async with Connection(Targets(**running.targets)) as connection, aiohttp.ClientSession() as client:
        organiser = Organiser(connection, minter.mint("organiser", roles=["organiser", "service"]))
        await organiser.define(sale, spec())
        buyers = [Buyer(connection, sale, minter.mint(f"{name}-of-{sale}")) for name in NAMES]
        leaver = Buyer(connection, sale, minter.mint(f"leaver-of-{sale}"))
        for buyer in [leaver, *buyers]:
            await buyer.join()
        await leaver.leave()
        outcome.confirmed = list(await asyncio.gather(*(bought(buyer, client) for buyer in buyers[:3])))
        outcome.cancelled = await thought_better(buyers[3])
        async with asyncio.timeout(SETTLING_S):
            while not (await audit(Sources.of(running), sale, settled=True)).ok:
                await asyncio.sleep(0.2)
    yield outcome


async def catraca_audit(sold: Sold, *options: str) -> tuple[int, str]:
    """The command's exit status, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "local.cli", "audit", sold.sale, "--data", sold.running.data, *options),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_a_real_sale_is_found_without_a_fault(sold: Sold) -> None:
    status, printed = await catraca_audit(sold, "--settled")

    assert status == 0, printed
    for number in ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I11"):
        assert number in printed
    status, printed = await catraca_audit(sold, "--json")
    verdict = json.loads(printed)
    assert status == 0
    assert verdict["ok"]
    assert all(sum(finding["looked_at"].values()) for finding in verdict["findings"])


async def test_the_stores_of_a_cluster_are_named_by_the_environment(
    sold: Sold, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = sold.running
    arguments = cli.parser().parse_args(["audit", sold.sale, "--environment", "--settled", "--json"])
    told = {
        "REDIS_URL": running.auditor["redis"],
        "NATS_URL": running.auditor["nats"],
        "POSTGRES_URL": running.auditor["postgres"],
        "SANDBOX_URL": running.sandbox_url,
        "SANDBOX_KEY_FILE": running.keys["sandbox"],
        "TICKET_KEY_FILE": running.keys["ticket"],
    }
    for name, value in told.items():
        monkeypatch.setenv(f"CATRACA_{name}", value)

    assert await asyncio.to_thread(arguments.run, arguments) == 0
    assert json.loads(capsys.readouterr().out)["ok"]
    monkeypatch.delenv("CATRACA_NATS_URL")
    with pytest.raises(SystemExit) as ended:
        arguments.run(arguments)
    assert ended.value.code == 2
    assert "CATRACA_NATS_URL is not set" in capsys.readouterr().err


async def test_a_sale_that_never_was_is_told_apart_from_a_broken_one(sold: Sold) -> None:
    unknown = Sold(sold.running, "never-defined")

    status, _ = await catraca_audit(unknown)

    assert status == 2


# ---- one corruption of a real store for each invariant, undone afterwards ----

Corruption = Callable[[Sold], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def i1_a_sold_unit_is_free_in_redis(sold: Sold) -> AsyncIterator[None]:
    key, unit = f"i:{{{sold.sale}}}:units:floor", sold.confirmed[0].units[0].unit
    async with sold.redis() as redis:
        before = await redis.get(key)
        await redis.execute_command("BITFIELD", key, "SET", "u2", f"#{unit}", 0)
        yield
        await redis.set(key, before)


@asynccontextmanager
async def i1_a_ticket_is_for_another_unit(sold: Sold) -> AsyncIterator[None]:
    ticket = sold.confirmed[0].tickets[0]
    await sold.sql("update orders.tickets set unit = 7 where ticket_id = $1", ticket.ticket_id)
    yield
    await sold.sql("update orders.tickets set unit = $2 where ticket_id = $1", ticket.ticket_id, ticket.unit)


@asynccontextmanager
async def i2_redis_promises_what_it_has_not(sold: Sold) -> AsyncIterator[None]:
    async with sold.redis() as redis:
        await redis.hincrby(f"i:{{{sold.sale}}}:meta", "promised", 9)
        yield
        await redis.hincrby(f"i:{{{sold.sale}}}:meta", "promised", -9)


@asynccontextmanager
async def i3_redis_forgets_what_a_buyer_owns(sold: Sold) -> AsyncIterator[None]:
    key, buyer = f"i:{{{sold.sale}}}:buyers", sold.confirmed[0].buyer
    async with sold.redis() as redis:
        before = await redis.hget(key, buyer)
        await redis.hset(key, buyer, b"".join(msgpack.packb(count) for count in (0, 0, 0)))
        yield
        await redis.hset(key, buyer, before)


@asynccontextmanager
async def i3_one_buyer_owns_the_tickets_of_two(sold: Sold) -> AsyncIterator[None]:
    one, two = sold.confirmed[0], sold.confirmed[1]
    await sold.sql("update orders.orders set buyer = $2 where order_id = $1", one.order_id, two.buyer)
    yield
    await sold.sql("update orders.orders set buyer = $2 where order_id = $1", one.order_id, one.buyer)


@asynccontextmanager
async def i4_the_provider_charged_a_cancelled_order(sold: Sold) -> AsyncIterator[None]:
    assert sold.cancelled is not None
    order_id = sold.cancelled.order_id
    sold.provider("update sessions set state = 'captured', captured = amount where order_id = ?", order_id)
    yield
    sold.provider("update sessions set state = 'voided', captured = 0 where order_id = ?", order_id)


@asynccontextmanager
async def i5_the_provider_took_nothing_for_issued_tickets(sold: Sold) -> AsyncIterator[None]:
    order_id = sold.confirmed[0].order_id
    sold.provider("update sessions set state = 'authorized', captured = 0 where order_id = ?", order_id)
    yield
    sold.provider("update sessions set state = 'captured', captured = amount where order_id = ?", order_id)


@asynccontextmanager
async def i5_a_code_was_forged(sold: Sold) -> AsyncIterator[None]:
    ticket = sold.confirmed[0].tickets[0]
    await sold.sql(
        "update orders.tickets set code = 'Zm9yZ2Vk.Zm9yZ2Vk' where ticket_id = $1", ticket.ticket_id
    )
    yield
    await sold.sql("update orders.tickets set code = $2 where ticket_id = $1", ticket.ticket_id, ticket.code)


@asynccontextmanager
async def i6_an_order_never_ends(sold: Sold) -> AsyncIterator[None]:
    assert sold.cancelled is not None
    change = "update orders.orders set state = $2 where order_id = $1"
    await sold.sql(change, sold.cancelled.order_id, "AWAITING_PAYMENT")
    yield
    await sold.sql(change, sold.cancelled.order_id, "CANCELLED")


@asynccontextmanager
async def i7_an_order_has_another_request(sold: Sold) -> AsyncIterator[None]:
    order_id = sold.confirmed[0].order_id
    ((before,),) = await sold.sql("select request_hash from orders.orders where order_id = $1", order_id)
    change = "update orders.orders set request_hash = $2 where order_id = $1"
    await sold.sql(change, order_id, b"another")
    yield
    await sold.sql(change, order_id, before)


@asynccontextmanager
async def i7_an_order_was_charged_in_two_sessions(sold: Sold) -> AsyncIterator[None]:
    columns = (
        "request, order_id, sale, amount, currency, webhook_url, expires_at_ms, state, captured, refunded"
    )
    sold.provider(
        f"insert into sessions (session_id, idempotency_key, {columns})"
        f" select 'second', 'second', {columns} from sessions where order_id = ?",
        sold.confirmed[0].order_id,
    )
    yield
    sold.provider("delete from sessions where session_id = ?", "second")


@asynccontextmanager
async def i8_a_buyer_stands_elsewhere_in_redis(sold: Sold) -> AsyncIterator[None]:
    key = f"q:{{{sold.sale}}}:index"
    async with sold.redis() as redis:
        bucket, before = next(iter((await redis.hgetall(key)).items()))
        await redis.hset(key, bucket, before[:2] + (4_000_000).to_bytes(4, "big") + before[6:])
        yield
        await redis.hset(key, bucket, before)


@asynccontextmanager
async def extra_message(
    sold: Sold, stream: str, subject: str, payload: bytes, **headers: str
) -> AsyncIterator[None]:
    """A message that none of our services published."""
    nc = await nats.connect(sold.running.nats_url)
    js = nc.jetstream()
    stored = await js.publish(subject, payload, headers=headers)
    yield
    await js.delete_msg(stream, stored.seq)
    await nc.close()


@asynccontextmanager
async def i8_the_seed_was_revealed_as_another(sold: Sold) -> AsyncIterator[None]:
    nc = await nats.connect(sold.running.nats_url)
    last = await nc.jetstream().get_last_msg("QUEUE", f"catraca.queue.{sold.sale}.line")
    await nc.close()
    assert last.headers is not None
    sequence = int(last.headers[LAST_SEQUENCE_HEADER]) + 1
    change = events_pb2.QueueChange(
        sequence=sequence, act=events_pb2.QUEUE_ACT_DRAWN, seed="00" * 32, root="00" * 32
    )
    # The store must have made it, or nobody would believe it was published.
    batch = events_pb2.QueueBatch(sale=sold.sale, epoch=1, changes=[change])
    headers = {LAST_SEQUENCE_HEADER: str(sequence)}
    subject = f"catraca.queue.{sold.sale}.line"
    async with sold.redis() as redis:
        await redis.hincrby(f"q:{{{sold.sale}}}:meta", "sequence", 1)
        async with extra_message(sold, "QUEUE", subject, batch.SerializeToString(), **headers):
            yield
        await redis.hincrby(f"q:{{{sold.sale}}}:meta", "sequence", -1)


@asynccontextmanager
async def i11_an_order_was_published_twice(sold: Sold) -> AsyncIterator[None]:
    order = sold.confirmed[0]
    payload = events_pb2.OrderChanged(order=order).SerializeToString()
    subject = f"catraca.checkout.{sold.sale}.order.{order.buyer}.{order.order_id}"
    version = {"Catraca-Version": str(order.version)}
    async with extra_message(sold, "CHECKOUT", subject, payload, **version):
        yield


@asynccontextmanager
async def i11_a_stranger_published_changes(sold: Sold) -> AsyncIterator[None]:
    change = events_pb2.InventoryChange(sequence=7, act=events_pb2.INVENTORY_ACT_PINNED, buyer="nobody")
    batch = events_pb2.InventoryBatch(sale=sold.sale, epoch=1, changes=[change])
    subject = f"catraca.inventory.{sold.sale}.units"
    async with extra_message(sold, "INVENTORY", subject, batch.SerializeToString()):
        yield


CORRUPTIONS: list[Any] = [
    pytest.param(corruption.__name__.split("_")[0].upper(), corruption, id=corruption.__name__)
    for corruption in (
        i1_a_sold_unit_is_free_in_redis,
        i1_a_ticket_is_for_another_unit,
        i2_redis_promises_what_it_has_not,
        i3_redis_forgets_what_a_buyer_owns,
        i3_one_buyer_owns_the_tickets_of_two,
        i4_the_provider_charged_a_cancelled_order,
        i5_the_provider_took_nothing_for_issued_tickets,
        i5_a_code_was_forged,
        i6_an_order_never_ends,
        i7_an_order_has_another_request,
        i7_an_order_was_charged_in_two_sessions,
        i8_a_buyer_stands_elsewhere_in_redis,
        i8_the_seed_was_revealed_as_another,
        i11_an_order_was_published_twice,
        i11_a_stranger_published_changes,
    )
]


@pytest.mark.parametrize(("invariant", "corruption"), CORRUPTIONS)
async def test_a_corrupted_store_is_named_by_its_number(
    sold: Sold, invariant: str, corruption: Corruption, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["audit", sold.sale, "--data", sold.running.data, "--settled", "--json"]
    arguments = cli.parser().parse_args(command)
    async with corruption(sold):
        # In a process of its own it does the same, only later.
        status = await asyncio.to_thread(arguments.run, arguments)

    assert status == 1
    assert invariant in json.loads(capsys.readouterr().out)["broken"]
    assert (await audit(Sources.of(sold.running), sold.sale, settled=True)).ok, "undone, all is well again"
