"""One trace from the call that places an order to the stream that tells of its end, over real servers."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from catraca.checkout.v1 import checkout_pb2 as api
from catraca.checkout.v1 import checkout_pb2_grpc
from catraca.inventory.v1 import inventory_pb2 as ledger
from catraca.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from catraca.sale.v1.sale_pb2 import Sale
from nats.aio.client import Client
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from local.servers.nats import Nats
from services.checkout.ledger import GrpcLedger
from services.checkout.rpc import OrderServicer
from services.checkout.states import OrderState
from services.inventory.__main__ import Inventory
from services.kit import tracing
from services.kit.channels import Channels
from services.kit.definitions import Definition
from services.kit.server import Server, Service
from services.kit.settings import CommonSettings, load
from services.kit.signing import SigningRing
from services.kit.tasks import stop
from services.notifier.config import Settings as NotifierSettings
from services.notifier.rpc import NotifierServicer
from services.notifier.store import LiveNews, Snapshots
from services.notifier.streams import Streams
from services.notifier.workers.live import follow
from services.notifier.workers.snapshots import SnapshotReader
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop
from tests.integration.kit.conftest import AUDIENCE, ISSUER, Issuer

PATIENCE_S = 20.0
Variables = dict[str, str]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Everything is traced, and every span that is over is kept here."""
    exporter = InMemorySpanExporter()
    provider = tracing.provider_of("test")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.add_key("first")
    application = web.Application()
    application.router.add_get("/jwks", issuer.answer)
    async with TestServer(application) as server:
        issuer.url = str(server.make_url("/jwks"))
        yield issuer


@pytest.fixture
def variables(issuer: Issuer, nats_server: Nats, tmp_path: Path) -> Variables:
    """What every service is told."""
    (tmp_path / "buyers.json").write_text(json.dumps([{"id": "a", "key": secrets.token_hex(32)}]))
    (tmp_path / "token").write_text(issuer.token("checkout", roles=["service"]))
    return {
        "CATRACA_LISTEN": "127.0.0.1:0",
        "CATRACA_NATS_URL": nats_server.url,
        "CATRACA_OIDC_ISSUER": ISSUER,
        "CATRACA_AUDIENCE": AUDIENCE,
        "CATRACA_JWKS_URL": issuer.url,
        "CATRACA_BUYER_HASH_KEY_FILE": str(tmp_path / "buyers.json"),
        "CATRACA_SERVICE_TOKEN_FILE": str(tmp_path / "token"),
        "CATRACA_LAME_DUCK_S": "0",
        "CATRACA_DRAIN_S": "0",
    }


@contextlib.asynccontextmanager
async def serving(settings: CommonSettings, *services: Service) -> AsyncIterator[str]:
    """A gRPC server in this process; answers its address."""
    server = Server("test", settings, services)
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.abandon()


@contextlib.asynccontextmanager
async def notifier(variables: Variables, nats: Client) -> AsyncIterator[str]:
    async def exists(sale: str) -> Definition:
        """Every sale does."""
        return Definition(Sale(sale=sale), 1)

    settings = load(NotifierSettings, variables)
    streams = Streams(max_streams=10, max_pending=100, max_orders=100)
    async with LiveNews(nats, streams.forget_position) as news:
        reader = SnapshotReader(Snapshots(nats), news, buyers_per_read=10, retry_s=0.1)
        servicer = NotifierServicer(settings, streams, reader, exists)
        working = [asyncio.create_task(follow(news, streams)), asyncio.create_task(reader.run())]
        add = notifier_pb2_grpc.add_NotifierServiceServicer_to_server
        async with serving(settings, (add, servicer, "catraca.notifier.v1.NotifierService")) as target:
            yield target
        await stop(*working)


def of_trace(spans: InMemorySpanExporter, trace_id: int) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.context.trace_id == trace_id]


def root_of(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    (root,) = [span for span in spans.get_finished_spans() if span.name == name and span.parent is None]
    return root


async def buy(shop: Shop, orders: str, news: str, token: str) -> None:
    """Place an order, pay when told to, and wait to be told of the ticket."""
    metadata = (("authorization", f"Bearer {token}"),)
    sale = shop.sale.sale
    async with grpc.aio.insecure_channel(orders) as to_orders, grpc.aio.insecure_channel(news) as to_news:
        told = notifier_pb2_grpc.NotifierServiceStub(to_news).Subscribe(
            notifier_pb2.SubscribeRequest(sale=sale), metadata=metadata
        )
        item = ledger.HoldItem(section="floor", quantity=1)
        request = api.PlaceOrderRequest(sale=sale, idempotency_key="the-first-click", items=[item])
        await checkout_pb2_grpc.OrderServiceStub(to_orders).PlaceOrder(request, metadata=metadata)
        paid = False
        async for message in told:
            order = message.update.order
            if order.state == api.ORDER_STATE_AWAITING_PAYMENT and not paid:
                paid = True
                await pay(shop, order)
            if order.state == api.ORDER_STATE_CONFIRMED:
                return


async def pay(shop: Shop, order: api.Order) -> None:
    found = await shop.store.load_one(order.order_id)
    assert found is not None
    assert await shop.pay(found) == "authorized"


async def until(spans: InMemorySpanExporter, trace_id: int, name: str, times: int = 1) -> None:
    """Wait until the trace has so many spans of this name."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(span.name == name for span in of_trace(spans, trace_id)) < times:
            await asyncio.sleep(0.02)


async def test_an_order_is_one_trace_from_the_click_to_the_news(
    spans: InMemorySpanExporter,
    variables: Variables,
    issuer: Issuer,
    shop_of: ShopOf,
    nats: Client,
    inventory: Inventory,
    key: SigningRing,
) -> None:
    made = await shop_of()
    await inventory.definitions.latest(made.sale.sale)
    channels = Channels(Path(variables["CATRACA_SERVICE_TOKEN_FILE"]))
    add: Any = checkout_pb2_grpc.add_OrderServiceServicer_to_server
    async with (
        serving(load(CommonSettings, variables), *inventory.services) as target,
        notifier(variables, nats) as news,
        made.another(ledger=GrpcLedger(channels.channel(target), 5.0)).open() as shop,
        serving(
            load(CommonSettings, variables),
            (add, OrderServicer(shop.intake, shop.store, shop.saga, key), "catraca.checkout.v1.OrderService"),
        ) as orders,
        asyncio.timeout(PATIENCE_S),
    ):
        await buy(shop, orders, news, issuer.token("ada"))
        root = root_of(spans, "checkout.v1.OrderService/PlaceOrder")
        await until(spans, root.context.trace_id, "notifier tell", 2)
    await channels.close()

    trace = of_trace(spans, root.context.trace_id)
    names = {span.name for span in trace}
    assert names >= {
        "INTAKE publish",
        "inventory.v1.LedgerService/Apply",
        "script inventory",
        "INTAKE process",
        "batch checkout_advances",
        "sandbox authorize",
        "webhook sandbox authorized",
        "saga sell",
        "sandbox capture",
        "CHECKOUT publish",
        "notifier tell",
    }
    # Nothing hangs in the air: every span's parent is in the trace, and the one root is the buyer's call.
    by_id = {span.context.span_id: span for span in trace}
    loose = [span.name for span in trace if span.parent is None or span.parent.span_id not in by_id]
    assert loose == [root.name]
    (worker,) = [span for span in trace if span.name == "INTAKE process"]
    assert worker.parent is not None and by_id[worker.parent.span_id].name == "INTAKE publish"
    scripts = [span.parent.span_id for span in trace if span.name == "script inventory" and span.parent]
    assert "batch inventory_commands" in {by_id[parent].name for parent in scripts}


async def test_the_trace_goes_on_in_another_process_after_the_first_one_died(
    spans: InMemorySpanExporter, shop_of: ShopOf
) -> None:
    first = await shop_of()
    async with first.open():
        with tracing.beginning("the click"):
            order = await first.place()
        waiting = await first.until(order, OrderState.AWAITING_PAYMENT)
    trace_id = root_of(spans, "the click").context.trace_id
    spans.clear()

    # Paid while nobody listens: the webhook is lost, and the second process knows only the order's row.
    await first.pay(waiting)
    async with first.another().open("relay") as second:
        found = await second.store.load_one(order.order_id)
        assert found is not None
        second.saga.start(await second.authorize(found))
        await second.until(order, OrderState.CONFIRMED)
        await until(spans, trace_id, "CHECKOUT publish", 3)

    names = {span.name for span in of_trace(spans, trace_id)}
    assert names >= {"saga", "saga capture", "sandbox capture", "CHECKOUT publish"}


async def test_what_is_not_sampled_leaves_no_mark(shop_of: ShopOf) -> None:
    tracing.use(tracing.provider_of("test"), ratio=0.0)
    try:
        shop = await shop_of()
        async with shop.open("intake"):
            with tracing.beginning("the click"):
                order = await shop.place()
            found = await shop.until(order, OrderState.AWAITING_PAYMENT)
    finally:
        tracing.use(None)
    assert found.traceparent == ""
