"""Notifiers as processes of their own on a real NATS, and a checkout that publishes what the test decides."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import nats
import pytest
from catraca.checkout.v1 import checkout_pb2
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2
from catraca.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from catraca.queue.v1 import queue_pb2
from catraca.sale.v1 import sale_pb2

from local.issuer.tokens import AUDIENCE, Minter
from local.parts import GrpcProcess, HttpProcess
from local.private import symmetric_keys, write_private
from local.servers.nats import Nats
from services.kit.buyers import buyer_id
from services.kit.keys import load_ring
from services.kit.streams import connect_nats, declare, kv_subject

NAMESPACE = "shop"


@dataclass
class NatsUrl:
    """What `connect_nats` needs of a service's settings."""

    nats_url: str


class Checkout:
    """Publishes order states as checkout does, and remembers the last version of each order."""

    def __init__(self, nc: nats.NATS, buyer: Callable[[str], str]) -> None:
        self.nc = nc
        self.js = nc.jetstream()
        self.buyer = buyer
        self.last: dict[str, dict[str, int]] = defaultdict(dict)

    async def define(self, sale: str) -> None:
        definition = sale_pb2.Sale(sale=sale)
        await self.js.publish(kv_subject("sales", sale), definition.SerializeToString())

    async def decide(self, sale: str, subject: str, order: str, *, padding: int = 0) -> int:
        """The order's next state, published and stored."""
        version = self.last[subject].get(order, -1) + 1
        self.last[subject][order] = version
        await self.publish(sale, subject, order, version, padding=padding)
        return version

    async def lose(self, sale: str, subject: str, hold_id: str) -> None:
        """A hold that went with inventory's store, as inventory tells of it."""
        units = [inventory_pb2.HeldUnit(section="floor", unit=unit) for unit in range(2)]
        buyer = self.buyer(subject)
        lost = events_pb2.HoldLost(sale=sale, buyer=buyer, hold_id=hold_id, units=units, at_ms=1_000)
        await self.js.publish(f"catraca.lost.{sale}.{buyer}.{hold_id}", lost.SerializeToString())

    async def turn(
        self, sale: str, subject: str, word: str, *, place: int = 7, ends_in_s: float = 60
    ) -> None:
        """A turn that is near or has come, as the queue tells of it."""
        buyer = self.buyer(subject)
        news = events_pb2.TurnNews(sale=sale, buyer=buyer, place=place, at_ms=1_000)
        if word == "come":
            news.word, news.allowance = queue_pb2.TURN_WORD_COME, 2
            news.turn_ends_at_ms = round((time.time() + ends_in_s) * 1000)
        else:
            news.word, news.ahead = queue_pb2.TURN_WORD_NEAR, 5
            news.estimate.low_s, news.estimate.high_s = 3, 9
        await self.js.publish(f"catraca.turn.{sale}.{buyer}.{place}.{word}", news.SerializeToString())

    async def publish(self, sale: str, subject: str, order: str, version: int, *, padding: int = 0) -> None:
        buyer = self.buyer(subject)
        changed = events_pb2.OrderChanged(
            order=checkout_pb2.Order(
                order_id=order, sale=sale, buyer=buyer, version=version, reason="x" * padding
            ),
            decided_at_ms=1_000 + version,
        )
        address = f"catraca.checkout.{sale}.order.{buyer}.{order}"
        headers = {"Catraca-Version": str(version)}
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                await self.js.publish(address, changed.SerializeToString(), headers=headers, timeout=2)
                return
            await asyncio.sleep(0.1)


@dataclass
class Told:
    """What one stream was told. Hearing of an order twice, or of an older state, fails at once."""

    versions: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    lost: list[tuple[str, str, int]] = field(default_factory=list)
    """Subject, hold id and units of each lost hold."""
    turns: list[notifier_pb2.TurnNews] = field(default_factory=list)
    updates: int = 0
    heartbeats: int = 0
    caught_up: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    error: BaseException | None = None

    def hear(self, subject: str, update: notifier_pb2.OrderUpdate) -> None:
        order = update.order
        known = self.versions[subject].get(order.order_id, -1)
        assert order.version > known, f"{subject}: {order.order_id} told {order.version} after {known}"
        assert update.decided_at_ms == 1_000 + order.version
        self.versions[subject][order.order_id] = order.version
        self.updates += 1

    async def until(self, done: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until what was told is enough; the stream's own failure is raised."""
        async with asyncio.timeout(timeout_s):
            while not done():
                if self.error is not None:
                    raise self.error
                self.changed.clear()
                await self.changed.wait()

    async def ended(self) -> BaseException:
        """What the stream ended with."""
        with contextlib.suppress(BaseException):
            await self.until(lambda: False)
        assert self.error is not None
        return self.error


class Client:
    """One connection to a notifier, as a buyer and as a BFF."""

    def __init__(self, address: str, minter: Minter) -> None:
        self.channel = grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self.stub = notifier_pb2_grpc.NotifierServiceStub(self.channel)
        self.minter = minter
        self._tasks: list[asyncio.Task[None]] = []

    def headers(self, subject: str, *roles: str) -> tuple[tuple[str, str], ...]:
        token = self.minter.mint(subject, roles=roles, namespace=NAMESPACE)
        return (("authorization", f"Bearer {token}"),)

    def subscribe(self, sale: str, subject: str) -> Told:
        """A buyer's own stream."""
        told = Told()
        call = self.stub.Subscribe(
            notifier_pb2.SubscribeRequest(sale=sale), metadata=self.headers(subject, "buyer")
        )

        async def listen() -> None:
            async for answer in call:
                if answer.HasField("update"):
                    told.hear(subject, answer.update)
                if answer.HasField("lost"):
                    told.lost.append((subject, answer.lost.hold_id, len(answer.lost.units)))
                if answer.HasField("turn"):
                    told.turns.append(answer.turn)
                told.heartbeats += answer.heartbeat
                told.caught_up = max(told.caught_up, int(answer.caught_up))
                told.changed.set()

        self._run(listen(), told)
        return told

    def subscribe_many(self) -> tuple["Many", Told]:
        """A BFF's stream."""
        told = Told()
        call = self.stub.SubscribeMany(metadata=self.headers("bff", "bff"))

        async def listen() -> None:
            async for answer in call:
                for update in answer.updates:
                    told.hear(update.subject, update)
                told.lost += [(each.subject, each.hold_id, len(each.units)) for each in answer.lost]
                told.turns += answer.turns
                told.heartbeats += answer.heartbeat
                told.caught_up = max(told.caught_up, answer.caught_up)
                told.changed.set()

        many = Many(call)
        self._run(listen(), told)
        return many, told

    def _run(self, listening: Any, told: Told) -> None:
        async def guarded() -> None:
            try:
                await listening
            except BaseException as error:
                told.error = error
                told.changed.set()

        self._tasks.append(asyncio.create_task(guarded()))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.channel.close()


@dataclass
class Many:
    """The sending side of a BFF's stream."""

    call: Any

    async def send(self, sale: str, add: list[str] | None = None, drop: list[str] | None = None) -> None:
        await self.call.write(notifier_pb2.SubscribeManyRequest(sale=sale, add=add or [], drop=drop or []))


class Notifiers:
    """Starts notifiers on one NATS."""

    def __init__(self, folder: Path, nats_server: Nats, issuer: HttpProcess, minter: Minter) -> None:
        self.folder = folder
        self.nats_server = nats_server
        self.issuer = issuer
        self.minter = minter
        self.key_file = symmetric_keys(folder / "buyers.json")
        write_private(folder / "token", minter.mint("notifier", roles=["service"]))
        self.processes: list[GrpcProcess] = []
        self.clients: list[Client] = []

    def buyer(self, subject: str) -> str:
        return buyer_id(load_ring(self.key_file, "buyer_hash_key_file").newest, NAMESPACE, subject)

    async def start(self, **settings: object) -> GrpcProcess:
        """One more replica, serving."""
        process = GrpcProcess(f"notifier-{len(self.processes)}", self.folder, "services.notifier")
        process.variables = {
            "CATRACA_LISTEN": process.address,
            "CATRACA_NATS_URL": self.nats_server.url,
            "CATRACA_OIDC_ISSUER": self.minter.issuer,
            "CATRACA_JWKS_URL": f"http://{self.issuer.address}/jwks.json",
            "CATRACA_AUDIENCE": AUDIENCE,
            "CATRACA_BUYER_HASH_KEY_FILE": str(self.key_file),
            "CATRACA_SERVICE_TOKEN_FILE": str(self.folder / "token"),
            "CATRACA_LAME_DUCK_S": "0",
            "CATRACA_DRAIN_S": "2",
            **{f"CATRACA_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.processes.append(process)
        await process.up(30)
        return process

    def client(self, process: GrpcProcess) -> Client:
        client = Client(process.address, self.minter)
        self.clients.append(client)
        return client

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        for process in self.processes:
            await asyncio.to_thread(process.stop)


@pytest.fixture
async def notifiers(
    tmp_path: Path, nats_server: Nats, issuer: tuple[HttpProcess, Minter]
) -> AsyncIterator[Notifiers]:
    """Starts notifiers on the shared NATS."""
    started = Notifiers(tmp_path, nats_server, *issuer)
    yield started
    await started.stop()


@pytest.fixture
async def fragile(tmp_path: Path, issuer: tuple[HttpProcess, Minter]) -> AsyncIterator[Notifiers]:
    """Starts notifiers on a NATS of their own, which the test may kill."""
    server = Nats(tmp_path)
    await asyncio.to_thread(server.launch)
    started = Notifiers(tmp_path, server, *issuer)
    yield started
    await started.stop()
    await asyncio.to_thread(server.stop)


Connect = Callable[[Notifiers], Awaitable[Checkout]]


@pytest.fixture
async def checkout_of() -> AsyncIterator[Connect]:
    """Connects a checkout to the NATS of some notifiers."""
    connections = []

    async def connect(notifiers: Notifiers) -> Checkout:
        nc = await connect_nats(NatsUrl(notifiers.nats_server.url))
        connections.append(nc)
        await declare(nc.jetstream())
        return Checkout(nc, notifiers.buyer)

    yield connect
    for nc in connections:
        await nc.close()


@pytest.fixture
async def checkout(notifiers: Notifiers, checkout_of: Connect, sale_id: str) -> Checkout:
    """A checkout on the shared NATS, with this test's sale defined."""
    connected = await checkout_of(notifiers)
    await connected.define(sale_id)
    return connected
