"""Starts the queue: `python -m services.queue`."""

import contextlib
import secrets
from dataclasses import dataclass

from catraca.queue.v1 import queue_pb2_grpc
from catraca.sale.v1 import sale_pb2_grpc
from nats.aio.client import Client
from redis.asyncio import Redis

from services.kit import logs, metrics, server, tls
from services.kit import redis as kit_redis
from services.kit.channels import Channels
from services.kit.definitions import Definitions
from services.kit.epochs import Epochs
from services.kit.http import listening
from services.kit.keys import LiveRing
from services.kit.plans.store import PlanStore
from services.kit.publisher import Publisher
from services.kit.settings import load_or_exit
from services.kit.signing import LiveSigningRing
from services.kit.streams import connect_nats, prepare
from services.queue.beacon import Drand
from services.queue.challenges import Challenges
from services.queue.config import Settings
from services.queue.events import last_published
from services.queue.ledger import GrpcLedger
from services.queue.line import Line
from services.queue.metrics import LineReading
from services.queue.public import PublicStanding
from services.queue.receipts import Receipts
from services.queue.rpc import QueueServicer
from services.queue.rules import Nearness
from services.queue.sales.codes import Codes
from services.queue.sales.desk import Desk
from services.queue.sales.neighbours import GrpcInventory, GrpcOrders
from services.queue.sales.rpc import SaleServicer
from services.queue.sales.rules import Offered
from services.queue.sales.store import DrawStore, SaleStore
from services.queue.seeds import Seeds
from services.queue.store import SERVICE as NAME
from services.queue.store import LineStore
from services.queue.trees import Trees
from services.queue.unary import Unary
from services.queue.workers.arrivals import Arrivals
from services.queue.workers.leader import Leader, Pace
from services.queue.workers.loader import EpochCache, Loader
from services.queue.workers.rebuilder import Rebuilder
from services.queue.workers.standing import Hubs
from services.queue.workers.stock import StockNews
from services.queue.workers.turns import STREAM as TURNS
from services.queue.workers.turns import TurnTeller

SERVICE = "catraca.queue.v1.QueueService"
SALE_SERVICE = "catraca.sale.v1.SaleService"
PUBLIC = {f"/{SERVICE}/GetReceiptKeys"}


@dataclass(frozen=True)
class Parts:
    """What the queue is made of, wired."""

    definitions: Definitions
    loader: Loader
    arrivals: Arrivals
    hubs: Hubs
    servicer: QueueServicer
    public: PublicStanding
    sales: SaleServicer
    reading: LineReading
    rebuilder: Rebuilder
    store: LineStore


def wire(settings: Settings, redis: Redis, nc: Client, channels: Channels) -> Parts:
    """Puts the parts together; nothing runs yet."""
    js = nc.jetstream()
    receipt_key = settings.receipt_key_file
    admission_keys = LiveRing(settings.admission_key_file, "admission_key_file")
    buyer_keys = LiveRing(settings.buyer_hash_key_file, "buyer_hash_key_file")
    receipt_keys = LiveSigningRing(receipt_key, "receipt_key_file") if receipt_key else None
    definitions, epochs, seeds, stock = Definitions(js), Epochs(js), Seeds(js), StockNews(js)
    cache = EpochCache(epochs)
    store = LineStore(
        redis,
        cache,
        lambda sale: last_published(js, sale),
        settings.rejoin_pause_s,
        settings.challenge_s,
        kit_redis.Copies.of(settings.redis_url, settings.redis_copies, settings.redis_copies_ms),
    )
    ledger = GrpcLedger(channels.channel(settings.inventory_target))
    trees = Trees(store, seeds.salt, cache.last)
    receipts = Receipts(receipt_keys, seeds.salt)
    challenges = Challenges(admission_keys, settings.challenge_digits, settings.challenge_s)
    arrivals = Arrivals(nc)
    line = Line(store, ledger, receipts, trees, admission_keys, definitions.active, arrivals.tell)
    unary = Unary(line, settings.joins_per_run)
    hubs = Hubs(store, line, ledger, stock, settings.watch_near, settings.standing_poll_ms / 1000)
    pace = Pace(settings.lease_ttl_ms, settings.call_poll_ms / 1000, settings.call_batch)
    relays = [url for url in map(str.strip, settings.drand_urls.split(",")) if url]
    drand = Drand(relays)
    replica = secrets.token_hex(8)
    nearness = Nearness(settings.turn_near_places, settings.turn_near_s)
    publisher = Publisher(js, TURNS)

    def leader_of(sale: str) -> Leader:
        teller = TurnTeller(sale, store, ledger, publisher, line.permutation, nearness)
        reads, kept = definitions.get, loader.kept
        return Leader(sale, replica, store, ledger, reads, seeds.of, trees, drand, kept, teller, pace)

    def forget(sale: str) -> None:
        for part in (line, unary, ledger, seeds, trees):
            part.forget(sale)

    loader = Loader(js, definitions, epochs, cache, store, stock, leader_of, forget)
    rebuilder = Rebuilder(js, store, epochs, definitions, ledger, settings.takeover_s, loader.recovered)
    store.on_lost(rebuilder.recover)
    store.on_changes(loader.poke)
    desk = Desk(
        definitions,
        SaleStore(js),
        DrawStore(js, seeds),
        GrpcInventory(channels.channel(settings.inventory_target)),
        GrpcOrders(channels.channel(settings.checkout_target)),
        PlanStore(js),
        load_queue=loader.load,
        drop_queue=loader.drop,
        now_ms=store.now_ms,
        buyer_key_id=lambda: buyer_keys.newest.id,
        offered=Offered(beacon=bool(relays)),
    )
    codes = Codes(definitions, store, buyer_keys)
    servicer = QueueServicer(settings, line, unary, hubs, store, definitions.found, receipt_keys, challenges)
    public = PublicStanding(hubs, definitions.active)
    reading = LineReading(store, lambda: loader.with_line, loader.published, loader.leads)
    sales = SaleServicer(desk, codes)
    return Parts(definitions, loader, arrivals, hubs, servicer, public, sales, reading, rebuilder, store)


async def main(settings: Settings) -> None:
    """Serves until the process is told to stop."""
    reconnects = kit_redis.Reconnects()
    # The store itself repeats what was not answered: first it makes sure that the answer will come from the
    # same data.
    redis = kit_redis.connect_to(settings, retries=0, on_reconnect=reconnects)
    await kit_redis.require_noeviction(redis)
    nats = await connect_nats(settings, NAME, tls.to_nats(settings))
    await prepare(nats.jetstream(), settings, NAME)
    channels = Channels(settings.service_token_file, tls.ChannelFiles(settings))
    parts = wire(settings, redis, nats, channels)
    reconnects.tell = parts.store.connection_lost
    parts.definitions.on_change(parts.loader.on_change)
    await parts.definitions.start()

    async def on_drain() -> None:
        parts.hubs.drain()
        await parts.loader.close()

    services: list[server.Service] = [
        (queue_pb2_grpc.add_QueueServiceServicer_to_server, parts.servicer, SERVICE),
        (sale_pb2_grpc.add_SaleServiceServicer_to_server, parts.sales, SALE_SERVICE),
    ]
    try:
        async with contextlib.AsyncExitStack() as stack:
            if settings.standing_listen:
                page, context = parts.public.application(), tls.for_clients(settings)
                await stack.enter_async_context(
                    listening(page, settings.standing_listen, "standing_listen", context)
                )
            await stack.enter_async_context(parts.arrivals.listening(parts.loader.arrived))
            stack.enter_context(metrics.read_before_scrape(parts.reading))
            await server.serve(
                NAME, settings, services, public=PUBLIC, on_told=parts.public.leave, on_drain=on_drain
            )
    finally:
        await parts.hubs.close()
        await parts.rebuilder.close()
        await parts.loader.close()
        await parts.definitions.close()
        await channels.close()
        await nats.close()
        await redis.aclose()


if __name__ == "__main__":
    chosen = load_or_exit(Settings)
    logs.configure(NAME, chosen.log_level)
    server.run(lambda: main(chosen))
