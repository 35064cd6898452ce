"""Checkout's parts put together in this process, on the real Postgres, NATS and sandbox provider."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from aiohttp import web
from catraca.events.v1.events_pb2 import OrderChanged
from catraca.sale.v1 import sale_pb2
from nats.aio.client import Client
from nats.js import JetStreamContext

from local.parts import HttpProcess
from local.servers import ports
from services.checkout.intake import Intake, Wish
from services.checkout.messages import order_of
from services.checkout.pauses import Pauses
from services.checkout.providers.sandbox import SandboxProvider, Secrets, load_secrets
from services.checkout.records import Buyer as Owner
from services.checkout.records import Change, Item, Order
from services.checkout.rules import order_id_of
from services.checkout.saga import Saga, now_ms
from services.checkout.states import OrderState
from services.checkout.store import Store
from services.checkout.transitions import Steps
from services.checkout.webhooks import Webhooks
from services.checkout.workers import intake as intake_worker
from services.checkout.workers import resume
from services.checkout.workers.intake import IntakeWorker
from services.checkout.workers.relay import Relay
from services.kit.definitions import Definitions
from services.kit.identity import Buyer
from services.kit.keys import KeyRing, SymmetricKey
from services.kit.signing import SigningRing
from services.kit.streams import consume, read_all
from services.kit.tasks import stop

PATIENCE_S = 20.0
LOOK_S = 0.02


@dataclass(frozen=True)
class Tuning:
    """The settings that the parts read."""

    orders_placing: int = 1000
    intake_batch: int = 50
    orders_in_flight: int = 200
    unprocessable_tries: int = 2
    breaker_failures: int = 3
    breaker_pause_s: float = 0.2
    resume_s: float = 0.4
    resume_longest_s: float = 1.0
    sweep_s: float = 0.05
    sweep_batch: int = 100
    relay_pending: int = 1000
    relay_stale_s: float = 0.4


class Sandbox(HttpProcess):
    """The sandbox provider as its own process; kill9 and start again keep its ledger."""

    def __init__(self, folder: Path, secrets_file: Path, **behaviour: float) -> None:
        super().__init__("sandbox", folder, "local.sandbox")
        self.key_file = secrets_file
        self.variables = {
            "CATRACA_SANDBOX_LISTEN": self.address,
            "CATRACA_SANDBOX_URL": self.url,
            "CATRACA_SANDBOX_LEDGER": str(folder / "sandbox.sqlite"),
            "CATRACA_SANDBOX_KEY_FILE": str(secrets_file),
            **{f"CATRACA_SANDBOX_{name.upper()}": str(value) for name, value in behaviour.items()},
        }

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def secrets(self) -> Secrets:
        return load_secrets(self.key_file)

    async def ledger(self, sale: str) -> list[dict[str, Any]]:
        """Every session of a sale, as the provider has it."""
        headers = {"Authorization": f"Bearer {self.secrets.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.url}/v1/ledger", params={"sale": sale}) as answer,
        ):
            return list((await answer.json())["sessions"])


def sale_without_line(
    sale: str,
    *,
    capacity: int = 10,
    price: int = 1500,
    window_s: float = 60,
    grace_s: float = 30,
    queue_max_s: float = 60,
    rate: float = 0,
) -> sale_pb2.Sale:
    """A sale that is open, one standing section, no line."""
    section = sale_pb2.Section(id="floor", title="Floor", capacity=capacity)
    section.ticket_types.add(id="full", title="Full", price=price)
    spec = sale_pb2.SaleSpec(title=sale, currency="BRL", sections=[section])
    now_s = time.time()
    for field_name, at_s in (("lobby_opens_at", -120), ("opens_at", -60), ("closes_at", 3600)):
        getattr(spec.window, field_name).FromMilliseconds(round((now_s + at_s) * 1000))
    spec.line.kind = sale_pb2.LINE_KIND_NONE
    spec.limits.per_buyer = 10
    spec.limits.holds_per_turn = 100
    spec.holds.duration.FromSeconds(60)
    spec.payment.window.FromMilliseconds(round(window_s * 1000))
    spec.payment.grace.FromMilliseconds(round(grace_s * 1000))
    spec.payment.provider = "sandbox"
    spec.orders.queue_max.FromMilliseconds(round(queue_max_s * 1000))
    spec.orders.rate = rate
    return sale_pb2.Sale(sale=sale, spec=spec, revision=1)


KEYS = KeyRing((SymmetricKey("k1", b"k" * 32),))


def buyer(subject: str) -> Buyer:
    """Someone who buys."""
    return Buyer("public", subject, KEYS)


def buyer_id(subject: str) -> str:
    """Their internal id in every sale of these tests."""
    return buyer(subject).id_in(sale_pb2.Sale())


@dataclass
class Shop:
    """One process of checkout. `open` starts what `parts` names; leaving ends it as a crash would."""

    sale: sale_pb2.Sale
    ledger: Any
    nats: Client
    postgres_url: str
    sandbox: Sandbox
    key: SigningRing
    tuning: Tuning = field(default_factory=Tuning)

    def another(self, **changes: Any) -> "Shop":
        """A further process on the same servers."""
        return replace(self, **changes)

    @contextlib.asynccontextmanager
    async def open(self, *parts: str) -> AsyncIterator["Shop"]:
        """Run `intake`, `sweeper`, `relay` and `webhooks`, or only the parts that are named."""
        wanted = parts or ("intake", "sweeper", "relay", "webhooks")
        async with contextlib.AsyncExitStack() as stack:
            await self._connect(stack)
            tasks = []
            if "webhooks" in wanted:
                await self._listen()
            if "relay" in wanted:
                tasks.append(asyncio.create_task(self.relay.run()))
            if "intake" in wanted:
                tasks.append(asyncio.create_task(self._consume()))
            if "sweeper" in wanted:
                tasks.append(asyncio.create_task(resume.run(self.store, self.saga, self.tuning)))
            try:
                yield self
            finally:
                await stop(*tasks, *self.saga._tasks)

    async def _connect(self, stack: contextlib.AsyncExitStack) -> None:
        self.js: JetStreamContext = self.nats.jetstream()
        self.pool = await asyncpg.create_pool(self.postgres_url, min_size=0, max_size=4, command_timeout=5)
        stack.callback(self.pool.terminate)
        self.definitions = Definitions(self.js)
        await self.definitions.start()
        stack.push_async_callback(self.definitions.close)
        self.webhook_port = ports.reserve()
        self.webhook_url = f"http://127.0.0.1:{self.webhook_port}/webhooks/sandbox"
        provider = SandboxProvider(
            self.sandbox.url,
            self.sandbox.secrets,
            self.webhook_url,
            timeout_s=2,
            connections=16,
            webhook_tolerance_s=300,
        )
        stack.push_async_callback(provider.close)
        self.providers = {"sandbox": provider}
        self.steps = Steps(round(self.tuning.resume_s * 1000))
        self.store = Store(self.pool)
        self.intake = Intake(
            self.js, self.ledger, self.definitions, KeyRing(()), Pauses(100), self.tuning.orders_placing
        )
        self.saga = Saga(
            self.store, self.ledger, self.providers, self.definitions, self.key, self.steps, self.tuning
        )
        self.worker = IntakeWorker(
            self.store, self.ledger, self.saga, self.definitions, self.steps, self.tuning
        )
        self.relay = Relay(self.store, self.js, self.tuning)
        self.webhooks = Webhooks(self.store, self.saga, self.providers, self.steps)
        self._stack = stack

    async def _listen(self) -> None:
        runner = web.AppRunner(self.webhooks.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.webhook_port).start()
        self._stack.push_async_callback(runner.cleanup)

    async def _consume(self) -> None:
        sale = self.sale.sale
        await consume(
            self.js,
            intake_worker.STREAM,
            f"test-{sale}",
            self.worker.handle,
            subject=f"catraca.intake.{sale}.>",
            batch=self.tuning.intake_batch,
            max_tries=intake_worker.UNLIMITED,
            max_pending=intake_worker.NO_BOUND,
        )

    # ---- what a buyer does ----

    def wish(self, quantity: int = 1, key: str = "", *, section: str = "floor") -> Wish:
        """What is asked for; under a key of its own unless one is given."""
        key = key or secrets.token_urlsafe(12)
        return Wish(self.sale.sale, key, (Item(section, "", quantity),), "", "")

    async def place(self, subject: str = "ada", quantity: int = 1, key: str = "") -> Order:
        """Place an order."""
        return await self.intake.place(buyer(subject), self.wish(quantity, key))

    async def pay(self, order: Order, card: str = "approve") -> str:
        """Pay on the session's page; the page's answer."""
        assert order.payment is not None
        async with (
            aiohttp.ClientSession() as http,
            http.post(order.payment.url, json={"card": card}) as answer,
        ):
            return str((await answer.json())["result"])

    async def until(self, order: Order, *states: OrderState) -> Order:
        """The order once it is in one of the states."""
        deadline = time.monotonic() + PATIENCE_S
        found = None
        while time.monotonic() < deadline:
            found = await self.store.load_one(order.order_id)
            if found is not None and found.state in states:
                return found
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"the order is {found}, not {states}")

    async def until_rest(self, order: Order) -> Order:
        """The order once it has ended and left nothing behind."""
        deadline = time.monotonic() + PATIENCE_S
        found = None
        while time.monotonic() < deadline:
            found = await self.store.load_one(order.order_id)
            if found is not None and found.ended and not found.due_at_ms:
                return found
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"the order does not come to rest: {found}")

    async def until_published(self, order: Order) -> list[OrderChanged]:
        """Every published state of the order, once the last one is among them."""
        deadline = time.monotonic() + PATIENCE_S
        published: Sequence[OrderChanged] = []
        while time.monotonic() < deadline:
            known = await self.store.load_one(order.order_id)
            published = await self.published(order)
            if known is not None and published and published[-1].order.version >= known.version:
                return list(published)
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"published: {published}")

    async def published(self, order: Order) -> list[OrderChanged]:
        """Every published state of the order so far."""
        subject = f"catraca.checkout.{order.sale}.order.{order.buyer}.{order.order_id}"
        return [OrderChanged.FromString(each.data) async for each in read_all(self.js, "CHECKOUT", subject)]

    async def order_under(self, key: str, subject: str = "ada") -> Order:
        """The order of a buyer's key, as it was taken in."""
        order_id = order_id_of(self.sale.sale, buyer_id(subject), key)
        asked = await self.intake.find(self.sale.sale, buyer_id(subject), order_id)
        assert asked is not None
        return order_of(asked, "BRL")

    async def write_down(self, order: Order) -> None:
        """Insert the order's row, as a worker or CancelOrder does."""
        await self.store.insert([(order, Owner(order.buyer, "public", f"owner of {order.order_id}"))])

    async def authorize(self, order: Order) -> Order:
        """AWAITING_PAYMENT → AUTHORIZED, with nobody leading it on."""
        return await self.store.advance(Change(order, self.steps.authorized(order, now_ms())))

    async def tickets(self) -> list[asyncpg.Record]:
        """Every ticket row of the sale."""
        query = "select * from orders.tickets where sale = $1 order by section, unit"
        return await self.pool.fetch(query, self.sale.sale)

    async def counts(self) -> dict[str, int]:
        """The ledger's units by state."""
        return await self.ledger.counts(self.sale.sale)

    async def session_of(self, order: Order) -> dict[str, Any]:
        """The order's session as the provider has it."""
        (session,) = [
            each for each in await self.sandbox.ledger(order.sale) if each["order_id"] == order.order_id
        ]
        return session
