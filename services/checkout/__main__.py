"""Starts checkout: `python -m services.checkout`."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import asyncpg
from catraca.checkout.v1 import checkout_pb2_grpc

from services.checkout.config import Settings
from services.checkout.intake import Intake
from services.checkout.ledger import GrpcLedger
from services.checkout.metrics import OrdersReading
from services.checkout.pauses import Pauses
from services.checkout.providers import sandbox
from services.checkout.providers.protocol import Provider
from services.checkout.rpc import OrderServicer, SettlementServicer
from services.checkout.saga import Saga
from services.checkout.store import Store
from services.checkout.transitions import Steps
from services.checkout.webhooks import PATH, Webhooks
from services.checkout.workers import resume, slots
from services.checkout.workers.intake import IntakeWorker
from services.checkout.workers.relay import Relay
from services.kit import logs, metrics, server, tls
from services.kit.channels import Channels
from services.kit.definitions import Definitions
from services.kit.errors import refusal_for
from services.kit.http import listening
from services.kit.keys import LiveRing
from services.kit.settings import SettingError, load_or_exit, variable_of
from services.kit.signing import LiveSigningRing
from services.kit.streams import connect_nats, prepare
from services.kit.tasks import stop

NAME = "checkout"
ORDERS = "catraca.checkout.v1.OrderService"
SETTLEMENT = "catraca.checkout.v1.SettlementService"
PUBLIC = {f"/{ORDERS}/GetTicketKeys"}
RETRY_S = 0.5

log = logs.get_logger(__name__)


async def main(settings: Settings) -> None:
    """Serve until the process is told to stop."""
    ticket_keys = LiveSigningRing(settings.ticket_key_file, "ticket_key_file")
    admission_keys = LiveRing(settings.admission_key_file, "admission_key_file")
    providers = _providers(settings)
    async with contextlib.AsyncExitStack() as stack:
        for provider in providers.values():
            stack.push_async_callback(provider.close)
        channels = Channels(settings.service_token_file, tls.ChannelFiles(settings))
        stack.push_async_callback(channels.close)
        nc = await connect_nats(settings, NAME, tls.to_nats(settings))
        stack.push_async_callback(nc.close)
        js = nc.jetstream()
        await prepare(js, settings, NAME)
        ledger = GrpcLedger(channels.channel(settings.inventory_target), settings.ledger_timeout_s)
        definitions = Definitions(js)
        definitions.on_change(ledger.follow)
        await definitions.start()
        stack.push_async_callback(definitions.close)
        pool = await _pool(settings)
        stack.callback(pool.terminate)

        store = Store(pool)
        pauses = Pauses(settings.buyers_paused)
        intake = Intake(js, ledger, definitions, admission_keys, pauses, settings.orders_placing)
        steps = Steps(round(settings.resume_s * 1000))
        saga = Saga(store, ledger, providers, definitions, ticket_keys, steps, settings)
        worker = IntakeWorker(store, ledger, saga, definitions, steps, settings)
        relay = Relay(store, js, settings)

        reading = OrdersReading(store.overview, definitions.standing, saga.paused)
        stack.enter_context(metrics.read_before_scrape(reading))
        webhooks = Webhooks(store, saga, providers, steps).application()
        context = tls.for_clients(settings)
        await stack.enter_async_context(
            listening(webhooks, settings.webhook_listen, "webhook_listen", context)
        )
        workers = _Workers(store, saga, relay, settings)
        working = asyncio.create_task(
            workers.run(worker.run(js), resume.run(store, saga, settings), slots.run(store, definitions))
        )
        servicer = OrderServicer(intake, store, saga, ticket_keys)
        settlement = SettlementServicer(intake, store)
        services: list[server.Service] = [
            (checkout_pb2_grpc.add_OrderServiceServicer_to_server, servicer, ORDERS),
            (checkout_pb2_grpc.add_SettlementServiceServicer_to_server, settlement, SETTLEMENT),
        ]
        serving = asyncio.create_task(
            server.serve(NAME, settings, services, public=PUBLIC, on_drain=workers.drain)
        )
        await _first_of(serving, working)


class _Workers:
    """The loops that need the database: they begin when it is there, while orders are taken in already."""

    def __init__(self, store: Store, saga: Saga, relay: Relay, settings: Settings) -> None:
        self._store = store
        self._prepared = settings.stores_prepared
        self._saga = saga
        self._relay = relay
        self._taking: list[asyncio.Task[None]] = []

    async def run(self, *taking: Coroutine[Any, Any, None]) -> None:
        """Work until cancelled. `taking` are the loops that take up orders: a drain ends them first."""
        await self._until_migrated()
        self._taking = [asyncio.create_task(loop) for loop in taking]
        relaying = asyncio.create_task(self._relay.run())
        running = {relaying, *self._taking}
        try:
            while running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    # What a drain has ended is no reason to end the others; a loop that failed is.
                    if not task.cancelled():
                        task.result()
        finally:
            await stop(*running)

    async def drain(self) -> None:
        """Take nothing more up, bring to a stop what is under way, and publish it."""
        await stop(*self._taking)
        await self._saga.idle()
        await self._relay.idle()

    async def _until_migrated(self) -> None:
        while True:
            try:
                if not self._prepared:
                    return await self._store.migrate()
                missing = await self._store.missing_migrations()
                if not missing:
                    return None
                log.warning("database_waits", missing=missing)
            except Exception as problem:
                why = tls.distrust(problem)
                if why is not None:
                    raise tls.distrusted("postgres_url", "postgres_ca_file", why) from None
                if isinstance(problem, asyncpg.InvalidAuthorizationSpecificationError):
                    expected = "a user and password that may use it"
                    raise SettingError(
                        variable_of("postgres_url"), "refused by its Postgres", expected
                    ) from None
                if refusal_for(problem) is None:
                    raise
                log.warning("database_waits", problem=repr(problem))
            await asyncio.sleep(RETRY_S)


async def _first_of(*tasks: asyncio.Task[None]) -> None:
    """Return or raise as the first to end does, and end the others."""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await stop(*tasks)


async def _pool(settings: Settings) -> "asyncpg.Pool[Any]":
    """A pool that connects when it is first used: a database that is down does not stop the start."""
    try:
        return await asyncpg.create_pool(
            settings.postgres_url,
            min_size=0,
            max_size=settings.postgres_connections,
            command_timeout=settings.postgres_timeout_s,
            timeout=settings.postgres_timeout_s,
            server_settings={"application_name": "catraca-checkout"},
            # None leaves it to the URL.
            ssl=tls.to_postgres(settings),
            # Every statement stands alone: there is no session state whose clearing is worth a round trip.
            reset=_nothing_to_reset,
        )
    except (ValueError, asyncpg.InterfaceError):
        expected = "postgresql://user:password@host:port/database"
        raise SettingError(variable_of("postgres_url"), "set to something else", expected) from None


async def _nothing_to_reset(_: object) -> None:
    """Called when a connection goes back into the pool."""


def _providers(settings: Settings) -> dict[str, Provider]:
    url = settings.webhook_url.rstrip("/") + PATH.format(provider=sandbox.NAME)
    return {
        sandbox.NAME: sandbox.SandboxProvider(
            settings.sandbox_url,
            sandbox.load_secrets(settings.sandbox_key_file),
            url,
            timeout_s=settings.provider_timeout_s,
            connections=settings.provider_connections,
            webhook_tolerance_s=settings.webhook_tolerance_s,
        )
    }


if __name__ == "__main__":
    chosen = load_or_exit(Settings)
    logs.configure(NAME, chosen.log_level)
    server.run(lambda: main(chosen))
