"""Inventory on a Redis Cluster of three nodes, and on a Redis behind a Sentinel: real processes, killed."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2
from nats.js import JetStreamContext
from redis import Redis as Sync
from redis.cluster import key_slot

from local.issuer.tokens import Minter
from local.parts import HttpProcess
from local.servers import binaries
from local.servers.nats import Nats
from local.servers.redis import Redis
from services.inventory.store import key_of
from services.kit.streams import connect_nats, declare, kv_subject
from tests.integration.inventory.conftest import Checkout, NatsUrl, Replica, Replicas, published, spec
from tests.integration.inventory.test_rebuild import acts, counts, once_loaded, order_of

FLOOR = pb.HoldItem(section="floor", quantity=1)
SLOTS = 16384
NODES = 3
SALES = 9
MASTER = "ledger"


class Node(Redis):
    """A Redis with lines of configuration of its own."""

    def __init__(self, folder: Path, name: str, password: str, *lines: str) -> None:
        super().__init__(folder / name, name)
        self._password = password
        self._lines = lines

    def prepare(self) -> None:
        """The usual configuration, and these lines."""
        super().prepare()
        with self.config.open("a") as config:
            config.write("\n".join([f"masterauth {self._password}", *self._lines, ""]))

    def client(self) -> "Sync[bytes]":
        """A client of this very server."""
        return Sync(host="127.0.0.1", port=self.port, password=self._password, protocol=2)


class Sentinel(Node):
    """One that watches a master, and promotes its replica as soon as it is alone with it."""

    def __init__(self, folder: Path, master: Node, password: str) -> None:
        super().__init__(folder, "sentinel", password)
        self._master = master

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self.config.write_text(
            f"bind 127.0.0.1\nport {self.port}\nprotected-mode no\ndir {self.data}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self._master.port} 1\n"
            f"sentinel auth-pass {MASTER} {self._password}\n"
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )

    def command(self) -> list[str]:
        return [str(binaries.redis_server()), str(self.config), "--sentinel"]

    def probe(self) -> None:
        Sync(host="127.0.0.1", port=self.port, protocol=2).ping()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Node]]:
    """Three masters that share the slots."""
    password = secrets.token_hex(8)
    lines = ("cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000")
    nodes = [Node(tmp_path, f"node-{number}", password, *lines) for number in range(NODES)]
    try:
        for number, node in enumerate(nodes):
            node.launch()
            node.client().execute_command("CLUSTER ADDSLOTS", *range(number, SLOTS, NODES))
            node.client().execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        yield nodes
    finally:
        for node in nodes:
            node.stop()


async def until_whole(nodes: list[Node]) -> None:
    """Every node knows all slots."""
    async with asyncio.timeout(20):
        for node in nodes:
            while "ok" not in re.findall(r"cluster_state\W+(\w+)", str(node.client().cluster("info"))):
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    """One of their own: replicas at the shared Redis would take these sales in first, and these would take
    theirs for lost.
    """
    server = Nats(tmp_path_factory.mktemp("nats"))
    server.launch()
    yield server
    server.stop()


@pytest.fixture(scope="module")
async def js(nats_server: Nats) -> AsyncIterator[JetStreamContext]:
    """Its JetStream."""
    connection = await connect_nats(NatsUrl(nats_server.url))
    context = connection.jetstream()
    await declare(context)
    yield context
    with contextlib.suppress(Exception):
        await connection.close()


@pytest.fixture
async def start(
    tmp_path: Path, nats_server: Nats, checkout: Checkout, issuer: tuple[HttpProcess, Minter]
) -> AsyncIterator["Starter"]:
    """Starts replicas on another Redis than the shared one."""
    starter = Starter(tmp_path, nats_server.url, checkout, *issuer)
    yield starter
    for each in starter.made:
        await each.stop()


class Starter:
    """See `start`."""

    def __init__(
        self, folder: Path, nats_url: str, checkout: Checkout, issuer: HttpProcess, minter: Minter
    ) -> None:
        self._folder = folder
        self._rest = (nats_url, checkout, issuer, minter)
        self.made: list[Replicas] = []

    async def __call__(self, url: str, **settings: object) -> Replica:
        self.made.append(Replicas(self._folder, url, *self._rest))
        return await self.made[-1].start(**settings)


async def define(js: JetStreamContext, where: Replica, sale: str) -> None:
    made = sale_pb2.Sale(sale=sale, spec=spec(floor=10))
    await where.load(sale, (await js.publish(kv_subject("sales", sale), made.SerializeToString())).seq)


async def hold(where: Replica, sale: str, name: str, hold_id: str) -> pb.Hold:
    """A hold, asked for until it is answered: nodes come and go."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await where.hold(sale, name, hold_id, FLOOR)
            await asyncio.sleep(0.1)


@pytest.mark.timeout(120)
async def test_sales_are_spread_over_a_cluster(
    cluster: list[Node], start: Starter, checkout: Checkout, js: JetStreamContext
) -> None:
    await until_whole(cluster)
    password, addresses = cluster[0]._password, ",".join(node.address for node in cluster)
    where = await start(f"redis+cluster://:{password}@{addresses}")
    sales = [f"cluster-{secrets.token_hex(4)}-{number}" for number in range(SALES)]
    of_node = {sale: key_slot(key_of(sale, "meta").encode()) % NODES for sale in sales}
    # Nine sales on one of three nodes: one in six thousand runs, so there is a sale for each at hand.
    for number in range(NODES):
        while number not in of_node.values():
            sale = f"cluster-{secrets.token_hex(4)}"
            of_node[sale] = key_slot(key_of(sale, "meta").encode()) % NODES
    for sale in of_node:
        await define(js, where, sale)
        assert (await hold(where, sale, "ana", "hold-0001")).state == pb.HOLD_STATE_HELD
    for number, node in enumerate(cluster):
        held = {key.split(b"}")[0].split(b"{")[1].decode() for key in node.client().keys("i:*")}
        assert held == {sale for sale, on in of_node.items() if on == number}

    # One node is killed: its sales wait and lose nothing, the others do not notice.
    on_first = next(sale for sale, number in of_node.items() if number == 0)
    elsewhere = next(sale for sale, number in of_node.items() if number == 1)
    cluster[0].kill9()
    still = await where.hold(elsewhere, "bia", "hold-0001", FLOOR)
    cluster[0].start()
    await cluster[0].until_ready()
    again = await hold(where, on_first, "ana", "hold-0001")
    assert (still.state, again.state) == (pb.HOLD_STATE_HELD, pb.HOLD_STATE_HELD)

    # One node is emptied: its sales alone are filled again.
    checkout.orders[on_first] = [order_of("caio", "one", "CONFIRMED", 0, 1)]
    cluster[0].client().flushall()
    assert (await counts(where, on_first))[:3] == (8, 0, 2)
    assert "REBUILT" in acts(await published(js, on_first))
    assert "REBUILT" not in acts(await published(js, elsewhere))


class Pair:
    """A master, its copy and a Sentinel that watches them."""

    def __init__(self, folder: Path) -> None:
        self._password = secrets.token_hex(8)
        self.master = Node(folder, "master", self._password)
        self.copy = Node(folder, "copy", self._password, f"replicaof 127.0.0.1 {self.master.port}")
        self.sentinel = Sentinel(folder, self.master, self._password)
        self.nodes = (self.master, self.copy, self.sentinel)

    @property
    def url(self) -> str:
        """The master, as the Sentinel names it."""
        return f"redis+sentinel://:{self._password}@{self.sentinel.address}/{MASTER}"

    async def until_linked(self, linked: str = "up") -> None:
        """The copy follows its master, or not."""
        async with asyncio.timeout(20):
            while self.copy.client().info("replication")["master_link_status"] != linked:
                await asyncio.sleep(0.05)

    async def cut(self) -> None:
        """The copy hears nothing of its master any more."""
        self.copy.client().config_set("masterauth", "something else")
        self.master.client().client_kill_filter(_type="replica")
        await self.until_linked("down")

    async def join(self) -> None:
        """The copy hears all that it missed."""
        self.copy.client().config_set("masterauth", self._password)
        await self.until_linked()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    try:
        for node in pair.nodes:
            node.launch()
        await pair.until_linked()
        yield pair
    finally:
        for node in reversed(pair.nodes):
            node.stop()


async def shown(where: Replica, sale: str, name: str, hold_id: str) -> pb.Hold:
    """A hold as it is now."""
    request = pb.GetHoldRequest(sale=sale, hold_id=hold_id)
    answer = await once_loaded(lambda: where.inventory.GetHold(request, metadata=where.as_(name)))
    found: pb.Hold = answer.hold
    return found


@pytest.mark.timeout(120)
async def test_the_master_behind_a_sentinel_fails_over(
    pair: Pair, start: Starter, js: JetStreamContext
) -> None:
    where = await start(pair.url)
    sale = f"sentinel-{secrets.token_hex(4)}"
    await define(js, where, sale)
    held = await hold(where, sale, "ana", "hold-0001")
    pair.master.client().wait(1, 2000)

    pair.master.kill9()
    after = await hold(where, sale, "bia", "hold-0001")
    kept = await shown(where, sale, "ana", "hold-0001")

    assert (held.state, after.state, kept.state) == (pb.HOLD_STATE_HELD,) * 3
    assert pair.copy.client().info("replication")["role"] == "master"
    assert kept.units != after.units


@pytest.mark.timeout(120)
async def test_a_copy_that_is_promoted_without_its_tail_is_filled_again(
    pair: Pair, start: Starter, checkout: Checkout, js: JetStreamContext
) -> None:
    where = await start(pair.url)
    sale = f"tail-{secrets.token_hex(4)}"
    await define(js, where, sale)
    before = await hold(where, sale, "ana", "hold-0001")
    pair.master.client().wait(1, 2000)
    await pair.cut()
    tail = await hold(where, sale, "bia", "hold-0001")
    async with asyncio.timeout(10):
        while len(await published(js, sale)) < 2:
            await asyncio.sleep(0.02)
    # What bia held was paid for meanwhile: checkout's word is final.
    (unit,) = tail.units
    checkout.orders[sale] = [order_of("bia", "one", "CONFIRMED", unit.unit)]

    pair.master.kill9()
    after = [await hold(where, sale, f"late-{number}", "hold-0001") for number in range(9)]
    lost = await shown(where, sale, "ana", "hold-0001")

    assert pair.copy.client().info("replication")["role"] == "master"
    assert "REBUILT" in acts(await published(js, sale))
    assert (before.state, lost.state) == (pb.HOLD_STATE_HELD, pb.HOLD_STATE_LOST)
    # Nine of ten units were free, and the one that was sold is nobody else's.
    assert {held.units[0].unit for held in after} == set(range(10)) - {unit.unit}


@pytest.mark.timeout(120)
async def test_nothing_is_answered_that_the_copy_lacks_where_it_is_waited_for(
    pair: Pair, start: Starter, js: JetStreamContext
) -> None:
    where = await start(pair.url, redis_copies=1, redis_copies_ms=100)
    sale = f"copies-{secrets.token_hex(4)}"
    await define(js, where, sale)
    first = await hold(where, sale, "ana", "hold-0001")
    await pair.cut()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await where.hold(sale, "bia", "hold-0001", FLOOR)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    await pair.join()
    again = await hold(where, sale, "bia", "hold-0001")
    # Who is promoted has no copy itself: whoever waits for one goes on once there is another.
    careless = await start.made[-1].start()
    pair.master.kill9()
    assert (await hold(careless, sale, "caio", "hold-0001")).state == pb.HOLD_STATE_HELD
    kept = [await shown(careless, sale, name, "hold-0001") for name in ("ana", "bia")]

    assert [each.state for each in kept] == [pb.HOLD_STATE_HELD] * 2
    assert [each.units for each in kept] == [first.units, again.units]
    assert pair.copy.client().info("replication")["role"] == "master"
    assert "REBUILT" not in acts(await published(js, sale))
