"""Makes what the services find in NATS and Postgres: streams, buckets, tables, and Postgres' users.

The servers' owner does it, before a service starts: so no service needs a right to make or change any.
"""

import base64
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Mapping
from types import SimpleNamespace

import asyncpg

from services.checkout.store import LOCK_ID, MIGRATIONS
from services.kit.rights import AUDITOR
from services.kit.sql import migrate
from services.kit.streams import connect_nats, declare

CHECKOUT = "checkout"
SCRAM_ROUNDS = 4096

# What each user may do with each table, and nothing else. Who a buyer is, the audit has no use for.
GRANTS: Mapping[str, Mapping[str, str]] = {
    CHECKOUT: {
        "buyers.buyers": "select, insert",
        "orders.orders": "select, insert, update",
        "orders.tickets": "select, insert, update, delete",
        "orders.outbox": "select, insert, update",
        "orders.paces": "select, insert, update, delete",
        "orders.slots": "select, insert, update, delete",
        "payments.payments": "select, insert, update",
        "payments.webhooks": "select, insert",
        "public.migrations": "select",
    },
    AUDITOR: {
        "orders.orders": "select",
        "orders.tickets": "select",
        "orders.outbox": "select",
        "payments.payments": "select",
    },
}
SCHEMAS = "buyers, orders, payments"


async def prepare_streams(nats_url: str, context: ssl.SSLContext | None = None, *, replicas: int = 1) -> None:
    """Make every stream and bucket that is missing, each kept by so many servers.

    `context` is what a URL of tls:// is connected with.
    """
    nc = await connect_nats(SimpleNamespace(nats_url=nats_url), "owner", context)
    try:
        await declare(nc.jetstream(), replicas)
    finally:
        await nc.close()


async def prepare_tables(
    postgres_url: str, passwords: Mapping[str, str], context: ssl.SSLContext | None = None
) -> None:
    """Bring the schema up to date, and give each user of `passwords` its rights: no more, no less.

    `context` is what the server is connected with; None leaves it to the URL.
    """
    async with asyncpg.create_pool(postgres_url, min_size=0, max_size=1, ssl=context) as pool:
        await migrate(pool, MIGRATIONS, LOCK_ID)
    if not passwords:
        return
    connection = await asyncpg.connect(postgres_url, ssl=context)
    try:
        async with connection.transaction():
            database = await connection.fetchval("select quote_ident(current_database())")
            await connection.execute(f"revoke all on database {database} from public")
            for user, password in passwords.items():
                await _give(connection, database, user, password)
    finally:
        await connection.close()


async def _give(
    connection: "asyncpg.Connection[asyncpg.Record]", database: str, user: str, password: str
) -> None:
    if not await connection.fetchval("select true from pg_roles where rolname = $1", user):
        await connection.execute(f"create role {user} login")
    # Only what a password is checked with: a statement may end in the server's log.
    await connection.execute(f"alter role {user} password '{_verifier(password)}'")
    await connection.execute(f"grant connect on database {database} to {user}")
    await connection.execute(f"revoke all on all tables in schema public, {SCHEMAS} from {user}")
    for table, rights in GRANTS[user].items():
        await connection.execute(f"grant usage on schema {table.split('.')[0]} to {user}")
        await connection.execute(f"grant {rights} on {table} to {user}")


def _verifier(password: str) -> str:
    """What Postgres keeps of a password (RFC 5803), in the form that `pg_authid` has it."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded_salt, encoded_stored, encoded_server = (
        base64.b64encode(part).decode() for part in (salt, stored, server)
    )
    return f"SCRAM-SHA-256${SCRAM_ROUNDS}:{encoded_salt}${encoded_stored}:{encoded_server}"
