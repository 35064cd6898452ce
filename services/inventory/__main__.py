"""The inventory's composition root: settings, connections, the ledger, its workers and its gRPC server."""

import asyncio

from catraca.inventory.v1.inventory_pb2_grpc import (
    add_InventoryServiceServicer_to_server,
    add_LedgerServiceServicer_to_server,
)
from nats.js import JetStreamContext
from redis.asyncio import Redis

from services.inventory import events
from services.inventory.config import InventorySettings
from services.inventory.metrics import LedgerReading
from services.inventory.orders import GrpcOrders, Orders
from services.inventory.rpc import InventoryService
from services.inventory.rpc_ledger import LedgerService
from services.inventory.seat_map import reading
from services.inventory.store import SERVICE, Bounds, Store, key_of
from services.inventory.workers.availability import Availability
from services.inventory.workers.loader import Loader
from services.inventory.workers.rebuilder import Rebuilder
from services.inventory.workers.reconciler import Reconciler
from services.inventory.workers.relay import Relays, last_published
from services.inventory.workers.sweeper import Sweeper
from services.kit import logs, metrics, tls
from services.kit.channels import Channels
from services.kit.definitions import Definitions
from services.kit.epochs import Epochs
from services.kit.keys import LiveRing
from services.kit.plans.store import PlanStore
from services.kit.redis import Copies, Reconnects, connect_to, require_noeviction
from services.kit.relay import OutboxRelay
from services.kit.server import Service, run, serve
from services.kit.settings import load_or_exit
from services.kit.streams import connect_nats, prepare
from services.kit.tasks import stop

# A relay is poked by what this process does; what a dead one left behind may wait this long.
IDLE_POLL_S = 2.0
# What an entry of an outbox was made under that does not say so: such were written before a store was ever
# rebuilt.
FIRST_EPOCH = 1
ORDERS_TIMEOUT_S = 60.0


def bounds_of(settings: InventorySettings) -> Bounds:
    """How much goes into one run."""
    return Bounds(
        commands=settings.batch_commands,
        pending=settings.batch_pending,
        linger_s=settings.batch_linger_ms / 1000,
        budget=settings.run_budget,
        refused_orders=settings.refused_orders,
        wait_s=settings.load_wait_s,
        copies=Copies.of(settings.redis_url or "", settings.redis_copies, settings.redis_copies_ms),
    )


class Inventory:
    """One replica of the service: its parts, put together."""

    def __init__(
        self, settings: InventorySettings, redis: Redis, js: JetStreamContext, orders: Orders
    ) -> None:
        self._redis = redis
        self._js = js
        self._keep_s = settings.outbox_keep_s
        self.definitions = Definitions(js)
        epochs = Epochs(js)
        self.store = Store(
            redis,
            epochs,
            self.definitions,
            bounds_of(settings),
            lambda sale: last_published(js, sale),
            PlanStore(js).get,
        )
        self.relays = Relays(self.store, self._relay)
        self.loader = Loader(self.store, self.relays.start, self._archived)
        self.sweeper = Sweeper(self.store, lambda: self.relays.sales, settings.sweep_ms / 1000)
        admission_keys = LiveRing(settings.admission_key_file, "admission_key_file")
        self.availability = Availability(
            lambda sale, seen: self.store.submit(sale, reading(seen)),
            settings.watch_ms / 1000,
            settings.heartbeat_s,
        )
        self.service = InventoryService(
            self.store,
            self.definitions,
            admission_keys,
            self.availability,
            snapshot_s=settings.snapshot_ms / 1000,
            streams_per_buyer=settings.streams_per_buyer,
        )
        self.reading = LedgerReading(
            lambda sale: self.store.submit(sale, {"op": "ledger"}),
            lambda: self.relays.sales,
            self.relays.published,
        )
        self.ledger = LedgerService(self.store, self.definitions, self.relays, settings.load_wait_s)
        self.rebuilder = Rebuilder(
            js, self.store, epochs, self.definitions, orders, settings.takeover_s, self.relays.go_on
        )
        self.reconciler = Reconciler(
            self.store, orders, lambda: self.relays.sales, settings.reconcile_s, settings.saga_max_s
        )
        self.definitions.on_change(self.loader.put)
        self.store.on_lost(self.rebuilder.recover)
        self.store.on_changes(self.relays.poke)
        self.store.on_changes(self.sweeper.wake)

    @property
    def services(self) -> list[Service]:
        """What the gRPC server serves."""
        return [
            (add_InventoryServiceServicer_to_server, self.service, "catraca.inventory.v1.InventoryService"),
            (add_LedgerServiceServicer_to_server, self.ledger, "catraca.inventory.v1.LedgerService"),
        ]

    async def drain(self) -> None:
        """Ends the streams that would go on for ever."""
        self.availability.drain()

    def _relay(self, sale: str) -> OutboxRelay:
        return OutboxRelay(
            self._redis,
            self._js,
            sale,
            key_of(sale, "out"),
            events.SUBJECT.format(sale=sale),
            lambda changes, epoch: events.batch_of(
                sale, epoch or FIRST_EPOCH, changes, self.store.house(sale)
            ),
            trim_after_s=self._keep_s,
            longest_poll_s=IDLE_POLL_S,
        )

    def _archived(self, sale: str) -> None:
        self.relays.stop(sale)
        self.service.forget(sale)


async def main() -> None:
    """Runs until told to stop."""
    settings = load_or_exit(InventorySettings)
    logs.configure(SERVICE, settings.log_level)
    reconnects = Reconnects()
    # The store itself repeats what was not answered: first it makes sure that the answer will come from the
    # same data.
    redis = connect_to(settings, retries=0, on_reconnect=reconnects)
    await require_noeviction(redis)
    nats = await connect_nats(settings, SERVICE, tls.to_nats(settings))
    js = nats.jetstream()
    await prepare(js, settings, SERVICE)
    channels = Channels(settings.service_token_file, tls.ChannelFiles(settings))
    orders = GrpcOrders(channels.channel(settings.checkout_target), ORDERS_TIMEOUT_S)
    inventory = Inventory(settings, redis, js, orders)
    reconnects.tell = inventory.store.connection_lost
    await inventory.definitions.start()
    workers = [
        asyncio.create_task(inventory.loader.run(), name="loader"),
        asyncio.create_task(inventory.sweeper.run(), name="sweeper"),
        asyncio.create_task(inventory.reconciler.run(), name="reconciler"),
    ]
    try:
        with metrics.read_before_scrape(inventory.reading):
            await serve(SERVICE, settings, inventory.services, on_drain=inventory.drain)
        # Those who go on look at an outbox that others fill only now and then.
        await inventory.relays.settle()
    finally:
        await stop(*workers)
        await inventory.rebuilder.close()
        await inventory.availability.close()
        await inventory.relays.close()
        await inventory.definitions.close()
        await channels.close()
        await nats.close()
        await redis.aclose()


if __name__ == "__main__":
    run(main)
