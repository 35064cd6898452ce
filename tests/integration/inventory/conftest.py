"""Ledgers on the shared Redis, and whole replicas of the inventory, as processes of their own, beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from catraca.checkout.v1 import checkout_pb2, checkout_pb2_grpc
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.inventory.v1.inventory_pb2_grpc import InventoryServiceStub, LedgerServiceStub
from catraca.queue.v1.queue_pb2 import AdmissionClaims
from catraca.sale.v1 import sale_pb2
from nats.js import JetStreamContext
from redis.asyncio import Redis as Client

from local.issuer.tokens import AUDIENCE, Minter
from local.parts import GrpcProcess, HttpProcess
from local.private import symmetric_keys, write_private
from local.servers.nats import Nats
from local.servers.redis import Redis
from services.kit import admission
from services.kit.buyers import buyer_id
from services.kit.keys import load_ring
from services.kit.redis import connect
from services.kit.streams import connect_nats, declare, kv_subject, read_all
from tests.integration.inventory.book import Book, definition

NAMESPACE = "shop"
Metadata = tuple[tuple[str, str], ...]


@pytest.fixture
async def redis(redis_server: Redis) -> AsyncIterator[Client]:
    """A client of the shared Redis."""
    client = connect(redis_server.url)
    yield client
    await client.aclose()


@pytest.fixture
def book_of(redis: Client, sale_id: str) -> Callable[..., Awaitable[Book]]:
    """Opens the test's sale with a definition of its own."""

    async def open_book(**changes: Any) -> Book:
        return await Book.open(redis, sale_id, definition(**changes))

    return open_book


@pytest.fixture
async def book(book_of: Callable[..., Awaitable[Book]]) -> Book:
    """The test's sale with a line."""
    return await book_of()


class NatsUrl:
    """What `connect_nats` needs of a service's settings."""

    def __init__(self, url: str) -> None:
        self.nats_url = url


def spec(*, line: bool = False, **sections: int) -> sale_pb2.SaleSpec:
    """A sale that is open for an hour, with sections by name and capacity and every default filled in."""
    made = sale_pb2.SaleSpec(title="A test", currency="BRL")
    for name, capacity in (sections or {"floor": 10}).items():
        section = made.sections.add(id=name, capacity=capacity, kind=sale_pb2.SECTION_KIND_STANDING)
        section.ticket_types.add(id="full", price=1000)
        section.ticket_types.add(id="half", price=500)
    made.window.opens_at.GetCurrentTime()
    made.window.lobby_opens_at.CopyFrom(made.window.opens_at)
    made.window.closes_at.FromSeconds(made.window.opens_at.seconds + 3600)
    made.line.kind = sale_pb2.LINE_KIND_DRAW if line else sale_pb2.LINE_KIND_NONE
    made.line.turn_duration.FromSeconds(300)
    made.limits.per_buyer, made.limits.holds_per_turn = 4, 20
    made.holds.duration.FromSeconds(120)
    made.orders.queue_max.FromSeconds(120)
    return made


class Replica:
    """One process of the inventory, and calls to it as whoever one likes."""

    def __init__(self, process: GrpcProcess, minter: Minter) -> None:
        self.process = process
        self.minter = minter
        self.channel = grpc.aio.insecure_channel(process.address, [("grpc.enable_http_proxy", 0)])
        self.inventory = InventoryServiceStub(self.channel)
        self.ledger = LedgerServiceStub(self.channel)

    def as_(self, subject: str, *roles: str) -> Metadata:
        """The metadata of a caller."""
        token = self.minter.mint(subject, roles=roles or ("buyer",), namespace=NAMESPACE)
        return (("authorization", f"Bearer {token}"),)

    async def apply(self, sale: str, *commands: pb.Command) -> list[pb.Result]:
        """The results of commands."""
        answer = await self.ledger.Apply(
            pb.ApplyRequest(sale=sale, commands=commands), metadata=self.as_("checkout", "service")
        )
        return list(answer.results)

    async def load(self, sale: str, revision: int) -> None:
        """Has the replica take in a definition."""
        request = pb.LoadRequest(sale=sale, revision=revision)
        answer = await self.ledger.Load(request, metadata=self.as_("queue", "service"))
        assert answer.revision >= revision

    async def hold(
        self, sale: str, subject: str, hold_id: str, *items: pb.HoldItem, token: str = ""
    ) -> pb.Hold:
        """A hold by a buyer."""
        request = pb.HoldRequest(sale=sale, hold_id=hold_id, items=items, admission=token)
        answer = await self.inventory.Hold(request, metadata=self.as_(subject))
        hold: pb.Hold = answer.hold
        return hold


class Checkout(checkout_pb2_grpc.SettlementServiceServicer):
    """Checkout as inventory asks it: what the orders of each sale have to do with its units."""

    def __init__(self) -> None:
        self.orders: dict[str, list[checkout_pb2.OrderUnits]] = {}
        self.fails: dict[str, int] = {}
        """How many more times it cannot say, by sale."""
        self.server = grpc.aio.server()
        checkout_pb2_grpc.add_SettlementServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def ReadOrders(
        self, request: checkout_pb2.ReadOrdersRequest, context: object
    ) -> AsyncIterator[checkout_pb2.ReadOrdersResponse]:
        """A message for each order, and an empty one."""
        if self.fails.get(request.sale):
            self.fails[request.sale] -= 1
            raise RuntimeError("checkout is asked too early")
        for order in self.orders.get(request.sale, []):
            yield checkout_pb2.ReadOrdersResponse(orders=[order])
        yield checkout_pb2.ReadOrdersResponse()


class Replicas:
    """Starts replicas of the inventory on one Redis and one NATS."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        nats_url: str,
        checkout: Checkout,
        issuer: HttpProcess,
        minter: Minter,
    ) -> None:
        self.folder = folder
        self.minter = minter
        self.key_file = symmetric_keys(folder / "buyers.json")
        self.admission_file = symmetric_keys(folder / "admission.json")
        write_private(folder / "token", minter.mint("inventory", roles=["service"]))
        self.variables = {
            "CATRACA_REDIS_URL": redis_url,
            "CATRACA_NATS_URL": nats_url,
            "CATRACA_CHECKOUT_TARGET": checkout.address,
            "CATRACA_OIDC_ISSUER": minter.issuer,
            "CATRACA_JWKS_URL": f"http://{issuer.address}/jwks.json",
            "CATRACA_AUDIENCE": AUDIENCE,
            "CATRACA_BUYER_HASH_KEY_FILE": str(self.key_file),
            "CATRACA_ADMISSION_KEY_FILE": str(self.admission_file),
            "CATRACA_SERVICE_TOKEN_FILE": str(folder / "token"),
            "CATRACA_LAME_DUCK_S": "0",
            "CATRACA_DRAIN_S": "2",
        }
        self.started: list[Replica] = []

    def buyer(self, subject: str) -> str:
        """The internal id of a subject."""
        return buyer_id(load_ring(self.key_file, "buyer_hash_key_file").newest, NAMESPACE, subject)

    def admission(self, sale: str, subject: str, place: int) -> str:
        """An admission as the queue mints it."""
        claims = AdmissionClaims(sale=sale, buyer=self.buyer(subject), place=place)
        return admission.mint(claims, load_ring(self.admission_file, "admission_key_file"))

    async def start(self, **settings: object) -> Replica:
        """One more replica, serving."""
        process = GrpcProcess(f"inventory-{len(self.started)}", self.folder, "services.inventory")
        process.variables = (
            self.variables
            | {"CATRACA_LISTEN": process.address}
            | {f"CATRACA_{name.upper()}": str(value) for name, value in settings.items()}
        )
        replica = Replica(process, self.minter)
        self.started.append(replica)
        await process.up(30)
        return replica

    async def stop(self) -> None:
        for replica in self.started:
            await replica.channel.close()
            await asyncio.to_thread(replica.process.stop)


@pytest.fixture(scope="session")
async def checkout() -> AsyncIterator[Checkout]:
    """Checkout as the replicas find it."""
    made = Checkout()
    await made.server.start()
    yield made
    await made.server.stop(None)


@pytest.fixture(scope="session")
async def shared_replicas(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Redis,
    nats_server: Nats,
    checkout: Checkout,
    issuer: tuple[HttpProcess, Minter],
) -> AsyncIterator[Replicas]:
    """What starts replicas on the shared servers."""
    folder = tmp_path_factory.mktemp("inventory")
    started = Replicas(folder, redis_server.url, nats_server.url, checkout, *issuer)
    yield started
    await started.stop()


@pytest.fixture(scope="session")
async def replica(shared_replicas: Replicas) -> Replica:
    """A replica that many tests share."""
    return await shared_replicas.start()


@pytest.fixture(scope="session")
async def other_replica(shared_replicas: Replicas, replica: Replica) -> Replica:
    """A second one beside it."""
    return await shared_replicas.start()


@pytest.fixture(scope="session")
async def js(nats_server: Nats) -> AsyncIterator[JetStreamContext]:
    """The shared JetStream, its streams declared."""
    connection = await connect_nats(NatsUrl(nats_server.url))
    context = connection.jetstream()
    await declare(context)
    yield context
    with contextlib.suppress(Exception):
        await connection.close()


Define = Callable[..., Awaitable[int]]


@pytest.fixture
def define(js: JetStreamContext, sale_id: str) -> Define:
    """Stores the test's sale, and has replicas load it, as SaleService does; answers its revision."""

    async def store(made: sale_pb2.SaleSpec, *replicas: Replica, phase: int = 0) -> int:
        sale = sale_pb2.Sale(sale=sale_id, spec=made, phase=phase)
        revision = (await js.publish(kv_subject("sales", sale_id), sale.SerializeToString())).seq
        await asyncio.gather(*(replica.load(sale_id, revision) for replica in replicas))
        return revision

    return store


async def published(js: JetStreamContext, sale: str) -> list[events_pb2.InventoryChange]:
    """Every change of a sale that JetStream has."""
    changes: list[events_pb2.InventoryChange] = []
    async for message in read_all(js, "INVENTORY", f"catraca.inventory.{sale}.units"):
        changes += events_pb2.InventoryBatch.FromString(message.data).changes
    return changes
