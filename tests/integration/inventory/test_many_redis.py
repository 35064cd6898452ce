"""Inventory on a Redis Cluster of three nodes, and on a Redis behind a Sentinel: real processes, killed."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

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
from tests.integration.inventory.test_rebuild import acts, counts, order_of, patiently

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

    async def __call__(self, url: str) -> Replica:
        self.made.append(Replicas(self._folder, url, *self._rest))
        return await self.made[-1].start()


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


@pytest.mark.timeout(120)
async def test_the_master_behind_a_sentinel_fails_over(
    tmp_path: Path, start: Starter, js: JetStreamContext
) -> None:
    password = secrets.token_hex(8)
    master = Node(tmp_path, "master", password)
    started: list[Node] = [master]
    try:
        master.launch()
        copy = Node(tmp_path, "copy", password, f"replicaof 127.0.0.1 {master.port}")
        sentinel = Sentinel(tmp_path, master, password)
        for node in (copy, sentinel):
            started.append(node)
            node.launch()
        async with asyncio.timeout(20):
            while copy.client().info("replication")["master_link_status"] != "up":
                await asyncio.sleep(0.05)
        where = await start(f"redis+sentinel://:{password}@{sentinel.address}/{MASTER}")
        sale = f"sentinel-{secrets.token_hex(4)}"
        await define(js, where, sale)
        held = await hold(where, sale, "ana", "hold-0001")
        master.client().wait(1, 2000)

        master.kill9()
        after = await hold(where, sale, "bia", "hold-0001")
        kept = await patiently(
            lambda: where.inventory.GetHold(
                pb.GetHoldRequest(sale=sale, hold_id="hold-0001"), metadata=where.as_("ana")
            )
        )

        assert (held.state, after.state, kept.hold.state) == (pb.HOLD_STATE_HELD,) * 3
        assert copy.client().info("replication")["role"] == "master"
        assert kept.hold.units != after.units
    finally:
        for node in reversed(started):
            node.stop()
