"""Checkout on real servers: a database per module, one sandbox, and each of the two ledgers."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from catraca.checkout.v1.checkout_pb2 import OrderUnits
from nats.aio.client import Client

from local.private import signing_keys, symmetric_keys, write_private
from local.servers.nats import Nats
from local.servers.redis import Redis
from services.checkout.store import Store
from services.inventory.__main__ import Inventory
from services.inventory.config import InventorySettings
from services.kit.redis import connect
from services.kit.signing import SigningRing, load_signing_ring
from services.kit.streams import connect_nats, declare
from tests.integration.checkout.ledgers import InventoryLedger, MemoryLedger
from tests.integration.checkout.shop import Sandbox, Shop, Tuning, sale_without_line


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningRing:
    """What tickets are signed with."""
    return load_signing_ring(signing_keys(tmp_path_factory.mktemp("keys") / "ticket.json"), "ticket_key_file")


@pytest.fixture(scope="session")
def sandbox_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that sandbox and checkout share."""
    path = tmp_path_factory.mktemp("sandbox-keys") / "sandbox.json"
    write_private(path, json.dumps({name: secrets.token_hex(16) for name in ("api_key", "webhook_secret")}))
    return path


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory, sandbox_secrets: Path) -> Iterator[Sandbox]:
    """A sandbox that behaves."""
    process = Sandbox(tmp_path_factory.mktemp("sandbox"), sandbox_secrets)
    process.start()
    process.wait_ready()
    yield process
    process.stop()


@pytest.fixture
def sandbox_that(tmp_path: Path, sandbox_secrets: Path) -> Iterator[Callable[..., Sandbox]]:
    """Starts a sandbox that misbehaves as asked."""
    started: list[Sandbox] = []

    def start(**behaviour: float) -> Sandbox:
        process = Sandbox(tmp_path / "sandbox", sandbox_secrets, **behaviour)
        process.folder.mkdir()
        process.start()
        process.wait_ready()
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


@pytest.fixture
async def nats(nats_server: Nats) -> AsyncIterator[Client]:
    """A connection with every stream declared."""

    class Where:
        nats_url = nats_server.url

    client = await connect_nats(Where())
    await declare(client.jetstream())
    yield client
    await client.close()


@pytest.fixture
async def migrated(postgres_url: str) -> str:
    """The module's database with the schema."""
    pool = await asyncpg.create_pool(postgres_url, min_size=0, max_size=1)
    await Store(pool).migrate()
    await pool.close()
    return postgres_url


class NoOrders:
    """What inventory reads where it lost a sale, which it does not here."""

    async def read(self, sale: str) -> dict[str, OrderUnits]:
        """Nothing."""
        return {}


ShopOf = Callable[..., Awaitable[Shop]]


@pytest.fixture
def shop_of(sale_id: str, nats: Client, migrated: str, sandbox: Sandbox, key: SigningRing) -> ShopOf:
    """Defines the test's sale and gives a shop for it, with the ledger in memory."""

    async def make(*, tuning: Tuning | None = None, sandbox: Sandbox = sandbox, **spec: Any) -> Shop:
        sale = sale_without_line(sale_id, **spec)
        await nats.jetstream().publish(f"$KV.sales.{sale_id}", sale.SerializeToString())
        return Shop(sale, MemoryLedger(sale), nats, migrated, sandbox, key, tuning or Tuning())

    return make


@pytest.fixture
async def inventory(redis_server: Redis, nats: Client, tmp_path: Path) -> AsyncIterator[Inventory]:
    """Inventory's parts in this process, on the shared Redis."""
    settings = InventorySettings(
        redis_url=redis_server.url,
        nats_url="",
        oidc_issuer="",
        jwks_url="",
        buyer_hash_key_file=tmp_path,
        service_token_file=tmp_path,
        admission_key_file=symmetric_keys(tmp_path / "admission.json"),
        checkout_target="",
    )
    client = connect(redis_server.url)
    parts = Inventory(settings, client, nats.jetstream(), NoOrders())
    await parts.definitions.start()
    yield parts
    await parts.definitions.close()
    await client.aclose()


@pytest.fixture(params=["memory", "inventory"])
def shop_on(request: pytest.FixtureRequest, shop_of: ShopOf, inventory: Inventory) -> ShopOf:
    """As `shop_of`, on the ledger in memory and on inventory's own: one suite for both."""

    async def make(**options: Any) -> Shop:
        shop = await shop_of(**options)
        if request.param == "memory":
            return shop
        await inventory.definitions.latest(shop.sale.sale)
        return shop.another(ledger=InventoryLedger(inventory.store))

    return make
