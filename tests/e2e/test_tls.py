"""The whole system with TLS on every hop: a ticket is bought, and who speaks plainly gets nowhere."""

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local.audit.load import Sources
from local.audit.report import audit
from local.authority import Authority
from local.client import Buyer, Connection, Targets, item
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from local.stack import Stack
from tests.e2e.conftest import House
from tests.integration.kit.endings import Ending, ending

CONFIRMED, AWAITING = checkout.ORDER_STATE_CONFIRMED, checkout.ORDER_STATE_AWAITING_PAYMENT


@dataclasses.dataclass
class Ciphered:
    """The stack, and where TLS ends before Redis and Postgres."""

    house: House
    redis: Ending
    postgres: Ending


@pytest.fixture(scope="module")
async def ciphered(
    tmp_path_factory: pytest.TempPathFactory,
    redis_server: Redis,
    postgres_server: Postgres,
    postgres_url: str,
) -> AsyncIterator[Ciphered]:
    """Redis and Postgres are given servers, as the wheels' own are built without TLS."""
    folder: Path = tmp_path_factory.mktemp("ciphered")
    authority = Authority(folder / "tls")
    own = [authority.issue(name) for name in ("redis", "postgres")]
    with pytest.MonkeyPatch.context() as patch:
        async with (
            ending(redis_server.address, own[0]) as redis,
            ending(postgres_server.address, own[1], postgres=True) as postgres,
        ):
            url = redis_server.url.replace(redis_server.address, redis.address)
            patch.setenv(
                "CATRACA_REDIS_URL", f"rediss{url.removeprefix('redis')}?ssl_ca_certs={authority.ca}"
            )
            url = postgres_url.replace(postgres_server.address, postgres.address)
            patch.setenv("CATRACA_POSTGRES_URL", f"{url}?sslmode=verify-full&sslrootcert={authority.ca}")
            async with Stack(folder, tls=True, replicas={"inventory": 2}) as stack:
                running = stack.running
                targets = Targets(**running.targets, certificate=running.certificate)
                async with Connection(targets) as connection:
                    yield Ciphered(House(stack, connection), redis, postgres)


async def bought(house: House) -> tuple[str, Buyer]:
    """A sale, and a buyer who stood in line and has a ticket."""
    name = await house.sale(capacity=2)
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    placed = await buyer.order("over-tls", [item("floor", 1)], admission=admission.token)
    await house.pay(await house.told(buyer, placed.order_id, AWAITING))
    order = await house.told(buyer, placed.order_id, CONFIRMED)
    assert len(order.tickets) == 1
    return name, buyer


async def test_a_ticket_is_bought(ciphered: Ciphered) -> None:
    name, buyer = await bought(ciphered.house)

    verdict = await audit(Sources.of(ciphered.house.running), name, settled=False)
    assert verdict.broken == []
    # The services showed who they are to the servers that asked.
    assert {"queue", "inventory"} <= set(ciphered.redis.shown)
    await _through_the_edge(ciphered, name, buyer)


async def _through_the_edge(ciphered: Ciphered, name: str, buyer: Buyer) -> None:
    running = ciphered.house.running
    edge = running.edge_url.removeprefix("https://")
    addresses = dict.fromkeys(("queue", "inventory", "checkout", "notifier"), edge)
    async with Connection(Targets(**addresses, certificate=running.certificate)) as connection:
        outside = Buyer(connection, name, buyer.metadata[0][1].removeprefix("Bearer "))
        # Each of them answers, and so the edge has come to each over TLS.
        assert (await outside.place()).index == 0
        assert await outside.availability()
        async for message in outside.subscribe():
            assert message.update.order.state == CONFIRMED
            assert (await outside.get_order(message.update.order.order_id)).state == CONFIRMED
            break
    context = ssl.create_default_context(cafile=running.certificate["ca"])
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(f"{running.edge_url}/standing/{name}", ssl=context) as answer,
    ):
        assert answer.status == 200


async def test_who_speaks_plainly_or_is_nobody_is_not_served(ciphered: Ciphered) -> None:
    running = ciphered.house.running
    ca = Path(running.certificate["ca"]).read_bytes()
    addresses = [
        address for name in running.targets for address in ciphered.house.stack.parts[name].addresses
    ]
    assert len(addresses) == 5
    for address in addresses:
        nameless = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(ca))
        for channel in (grpc.aio.insecure_channel(address), nameless):
            async with channel:
                stub: Any = health_pb2_grpc.HealthStub(channel)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    async with aiohttp.ClientSession() as browser:
        with pytest.raises(aiohttp.ClientError):
            await browser.get(running.edge_url.replace("https", "http") + "/healthz")


async def test_the_edge_and_the_services_take_renewed_certificates(ciphered: Ciphered) -> None:
    house = ciphered.house
    authority = Authority(house.stack.data / "tls")
    edge, queue = house.stack.parts["edge"].addresses[0], house.stack.parts["queue"].addresses[0]
    shown = {address: await _serial_at(address, authority) for address in (edge, queue)}
    for name in ("queue", "inventory", "checkout", "notifier", "edge"):
        authority.issue(name)

    async with asyncio.timeout(30):
        for address, former in shown.items():
            # The edge is told of new files; the services look for them at each handshake.
            while await _serial_at(address, authority) == former:
                await asyncio.sleep(0.05)
    await bought(house)


async def _serial_at(address: str, authority: Authority) -> str:
    """The serial number of the certificate that is shown there."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    serial = str(writer.get_extra_info("peercert")["serialNumber"])
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return serial
