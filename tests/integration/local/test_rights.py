"""Each user of the embedded servers is refused what is not its own: a row for everything it must not do."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from types import SimpleNamespace

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from redis.asyncio import Redis as Connection
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from local.prepare import prepare_streams, prepare_tables
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from services.checkout.store import Store
from services.kit.rights import NATS, REDIS
from services.kit.streams import connect_nats, inbox_of, kv_subject, last_message, read_all

REFUSED = r"(?i)no permissions|can't run this|can't access"
SERVICES = ("queue", "inventory", "checkout", "notifier")
FOR_NOBODY = (
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG SET maxmemory-policy allkeys-lru",
    "CONFIG GET requirepass",
    "KEYS *",
    "SCAN 0",
    "DEBUG SLEEP 0",
    "SCRIPT FLUSH",
    "ACL WHOAMI",
    "ACL SETUSER queue +@all",
    "SHUTDOWN",
    "REPLICAOF 127.0.0.1 1",
    "MONITOR",
    "CLIENT LIST",
    "PUBLISH news told",
    "SUBSCRIBE news",
)
REDIS_ROWS = [
    *((user, command) for user in REDIS for command in FOR_NOBODY),
    ("queue", "XRANGE i:{s}:out - +"),
    ("queue", "XTRIM i:{s}:out MAXLEN 0"),
    ("queue", "EVAL return(redis.call('HSET',KEYS[1],'a','b')) 1 i:{s}:meta"),
    ("queue", "EVAL return(redis.call('GET','i:{s}:units:floor')) 0"),
    ("queue", "EVAL return(redis.call('FLUSHALL')) 0"),
    ("queue", "HGETALL q:{s}:meta"),
    ("inventory", "XRANGE q:{s}:out - +"),
    ("inventory", "EVAL return(redis.call('HSET',KEYS[1],'a','b')) 1 q:{s}:meta"),
    ("inventory", "EVAL return(redis.call('KEYS','*')) 0"),
    ("inventory", "DEL i:{s}:meta"),
    ("auditor", "SET a b"),
    ("auditor", "HSET i:{s}:meta a b"),
    ("auditor", "DEL i:{s}:meta"),
    ("auditor", "EVAL return(1) 0"),
    ("auditor", "XTRIM i:{s}:out MAXLEN 0"),
]


@pytest.mark.parametrize(("user", "command"), REDIS_ROWS, ids=" ".join)
async def test_redis_refuses(redis_server: Redis, user: str, command: str) -> None:
    async with Connection.from_url(redis_server.url_for(user)) as connection:
        with pytest.raises((NoPermissionError, ResponseError), match=REFUSED):
            await connection.execute_command(*command.split(" "))


async def test_redis_knows_nobody_without_a_password(redis_server: Redis) -> None:
    for url in (f"redis://{redis_server.address}", f"redis://queue:guess@{redis_server.address}"):
        async with Connection.from_url(url) as connection:
            with pytest.raises(AuthenticationError):
                await connection.execute_command("INFO")


# ---- NATS ----

EVERY_STREAM_OF_OTHERS = [
    f"$JS.API.STREAM.{what}.{stream}"
    for what in ("CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE")
    for stream in ("COPY", "KV_draws", "INTAKE")
]
SEEDS = [
    "$JS.API.STREAM.MSG.GET.KV_draws",
    "$JS.API.STREAM.INFO.KV_draws",
    "$JS.API.DIRECT.GET.KV_draws",
    "$JS.API.DIRECT.GET.KV_draws.$KV.draws.a-sale",
    "$JS.API.CONSUMER.CREATE.KV_draws.mine",
    "$JS.API.CONSUMER.MSG.NEXT.KV_draws.mine",
    "$KV.draws.a-sale",
]
OWN = {
    "queue": [
        "catraca.queue.s.line",
        "catraca.turn.s.b.7.come",
        "catraca.arrived.s",
        "$KV.sales.s",
        "$KV.epochs.queue.s",
        "$O.plans.M.a",
    ],
    "inventory": ["catraca.inventory.s.units", "catraca.lost.s.b.h", "$KV.epochs.inventory.s"],
    "checkout": ["catraca.intake.s.b.k", "catraca.checkout.s.order.b.o", "catraca.dead.checkout-intake"],
    "notifier": [],
    "auditor": [],
}
PUBLISH_ROWS = [
    *((user, subject) for user in NATS for subject in EVERY_STREAM_OF_OTHERS),
    *((user, subject) for user in ("inventory", "checkout", "notifier") for subject in SEEDS),
    *(
        (user, subject)
        for user in NATS
        for owner, subjects in OWN.items()
        for subject in subjects
        if owner != user
    ),
    *((user, f"_INBOX.{other}.answer") for user in NATS for other in NATS),
    *((user, "$SYS.REQ.SERVER.PING") for user in NATS),
    ("auditor", "$KV.draws.s"),
    ("notifier", "$JS.ACK.INTAKE.checkout-intake.1.1.1.1.0"),
]
SUBSCRIBE_ROWS = [
    *((user, subject) for user in NATS for subject in (">", "_INBOX.>", "$KV.>", "$JS.>", "$KV.draws.>")),
    *((user, f"_INBOX.{other}.>") for user in NATS for other in NATS if other != user),
    *((user, "catraca.>") for user in SERVICES),
    *((user, "catraca.arrived.*") for user in SERVICES if user != "queue"),
]


class Heard:
    """A user's connection, and what the server refused it."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.client = Client()

    async def connect(self, server: Nats, user: str) -> None:
        async def problem(error: Exception) -> None:
            self.refused.append(str(error).lower())

        await self.client.connect(server.url_for(user), error_cb=problem, inbox_prefix=inbox_of(user))

    async def count(self, expected: int) -> None:
        """Wait until so much was refused."""
        async with asyncio.timeout(10):
            while len(self.refused) < expected:
                await self.client.flush()


@pytest.mark.parametrize("user", NATS)
async def test_nats_takes_nothing_from_a_user_that_is_not_its_own(nats_server: Nats, user: str) -> None:
    subjects = [subject for who, subject in PUBLISH_ROWS if who == user]
    heard = Heard()
    await heard.connect(nats_server, user)
    try:
        for subject in subjects:
            await heard.client.publish(subject, b"{}")
        await heard.count(len(subjects))
        refused = " ".join(heard.refused)
        assert [subject for subject in subjects if f'"{subject.lower()}"' not in refused] == []
    finally:
        await heard.client.close()
    # What tests of the whole system look for.
    assert "Violation" in nats_server.log_path.read_text()


@pytest.mark.parametrize("user", NATS)
async def test_nats_lets_nobody_listen_to_others(nats_server: Nats, user: str) -> None:
    subjects = [subject for who, subject in SUBSCRIBE_ROWS if who == user]
    heard = Heard()
    await heard.connect(nats_server, user)
    try:
        for subject in subjects:
            await heard.client.subscribe(subject)
        await heard.count(len(subjects))
    finally:
        await heard.client.close()


async def test_nats_knows_nobody_without_a_password(nats_server: Nats) -> None:
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(f"nats://queue:guess@{nats_server.address}", allow_reconnect=False)


@pytest.fixture
async def queue_and_auditor(nats_server: Nats) -> AsyncIterator[tuple[Client, Client]]:
    await prepare_streams(nats_server.url)
    clients = [
        await connect_nats(SimpleNamespace(nats_url=nats_server.url_for(user)), user)
        for user in ("queue", "auditor")
    ]
    yield clients[0], clients[1]
    for client in clients:
        await client.close()


async def test_the_queue_writes_a_seed_that_the_audit_reads(
    queue_and_auditor: tuple[Client, Client], sale_id: str
) -> None:
    queue, auditor = queue_and_auditor
    subject = kv_subject("draws", sale_id)

    await queue.jetstream().publish(subject, b"the seed")

    for client in (queue, auditor):
        found = await last_message(client.jetstream(), "KV_draws", subject, from_leader=True)
        assert found is not None and found.data == b"the seed"
    read = [message.data async for message in read_all(auditor.jetstream(), "KV_draws", subject)]
    assert read == [b"the seed"]


# ---- Postgres ----

POSTGRES_ROWS = [
    ("checkout", "create table orders.mine (a int)"),
    ("checkout", "create schema mine"),
    ("checkout", "create temporary table mine (a int)"),
    ("checkout", "drop table orders.tickets"),
    ("checkout", "alter table orders.tickets disable trigger all"),
    ("checkout", "truncate orders.tickets"),
    ("checkout", "truncate orders.slots"),
    ("checkout", "drop index orders.tickets_live_unit"),
    ("checkout", "delete from orders.orders"),
    ("checkout", "delete from payments.payments"),
    ("checkout", "delete from payments.webhooks"),
    ("checkout", "update payments.webhooks set order_id = ''"),
    ("checkout", "update buyers.buyers set subject = ''"),
    ("checkout", "insert into public.migrations values (99, '', '')"),
    ("checkout", "create role mine"),
    ("checkout", "select rolpassword from pg_authid"),
    ("checkout", "select pg_read_file('PG_VERSION')"),
    ("checkout", "copy orders.orders to program 'true'"),
    ("auditor", "select * from buyers.buyers"),
    ("auditor", "select * from payments.webhooks"),
    ("auditor", "select * from orders.slots"),
    ("auditor", "insert into orders.outbox (order_id) values ('')"),
    ("auditor", "update orders.orders set state = 'HELD'"),
    ("auditor", "delete from orders.tickets"),
    ("auditor", "create temporary table mine (a int)"),
]


@pytest.fixture(scope="module")
async def users(postgres_server: Postgres, postgres_url: str) -> dict[str, str]:
    """The URL of each user for the module's own database, prepared."""
    passwords = {user: secrets.token_hex(16) for user in ("checkout", "auditor")}
    await prepare_tables(postgres_url, passwords)
    # As at every start of a stack.
    await prepare_tables(postgres_url, passwords)
    database = postgres_url.rpartition("/")[2]
    return {
        user: f"postgresql://{user}:{password}@{postgres_server.address}/{database}"
        for user, password in passwords.items()
    }


@pytest.mark.parametrize(("user", "statement"), POSTGRES_ROWS, ids=": ".join)
async def test_postgres_refuses(users: dict[str, str], user: str, statement: str) -> None:
    connection = await asyncpg.connect(users[user])
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_postgres_lets_the_audit_read_what_it_judges(users: dict[str, str]) -> None:
    connection = await asyncpg.connect(users["auditor"])
    try:
        for table in ("orders.orders", "orders.tickets", "orders.outbox", "payments.payments"):
            assert await connection.fetch(f"select * from {table}") == []
    finally:
        await connection.close()


async def test_postgres_lets_checkout_pace_a_sale(users: dict[str, str]) -> None:
    async with asyncpg.create_pool(users["checkout"], min_size=0, max_size=1) as pool:
        store = Store(pool)
        for sequences in ([1, 2], [2, 3]):
            given = await store.give_slots("a-sale", sequences, 1_000_000, 60_000_000)
            assert given.keys() == set(sequences)
        await store.drop_slots("a-sale", [1])
        assert await pool.fetchval("select count(*) from orders.slots") == 2
        await store.drop_left_slots(["a-sale"], 0)
        assert await pool.fetchval("select count(*) from orders.slots") == 0


async def test_a_password_stands_in_no_log_of_postgres(
    users: dict[str, str], postgres_server: Postgres
) -> None:
    log = postgres_server.log_path.read_text()

    assert [user for user, url in users.items() if url.split(":")[2].split("@")[0] in log] == []
