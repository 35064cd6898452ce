"""Buys a ticket: `python -m local.cluster.check`, the chart's test.

It defines a sale of two tickets that opens at once, stands in its line, orders, pays where a sandbox
provider is there to be paid, hears of its ticket, and archives the sale. Each step is told; the first that
fails ends it with an error. Nobody else is told of the sale, and its units are its own.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import grpc
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sales
from catraca.sale.v1.sale_pb2 import SaleSpec

from local.client import Buyer, Connection, Organiser, Targets, answered, item
from services.kit.errors import Refusal
from services.kit.manifest import API_VERSION, KIND, spec_of
from services.kit.settings import REQUIRED, load_or_exit, setting

SECTION = "floor"
PRICE = 100
READY_S, STEP_S, PAUSE_S = 180.0, 60.0, 0.5
OPENS, OPEN, CLOSES = timedelta(seconds=2), timedelta(minutes=15), timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the services are, and as whom they are called."""

    queue_target: str = setting(REQUIRED, "gRPC target of the queue, or of the edge.")
    inventory_target: str = setting(REQUIRED, "gRPC target of inventory, or of the edge.")
    checkout_target: str = setting(REQUIRED, "gRPC target of checkout, or of the edge.")
    notifier_target: str = setting(REQUIRED, "gRPC target of the notifier, or of the edge.")
    tls_cert_file: Path | None = setting(None, "PEM file with the certificate that is shown.")
    tls_key_file: Path | None = setting(None, "PEM file with the private key of the certificate.")
    tls_ca_file: Path | None = setting(None, "PEM file with the CAs of the services; without it no TLS.")
    organiser_token_file: Path = setting(REQUIRED, "A bearer token with the role organiser.")
    buyer_token_file: Path | None = setting(
        None, "A bearer token with the role buyer; without it the development issuer is asked for one."
    )
    token_url: str | None = setting(None, "Token endpoint of the development issuer.")
    issuer_secret: str | None = setting(None, "What its development grant asks for.", secret=True)
    pays: bool = setting(
        False, "Whether the ticket costs something and is paid at the sandbox provider; else it is free."
    )


class Failed(Exception):
    """A step that did not go as it should; the text says which."""


async def check(settings: Settings, token: str) -> None:
    """The whole path. Raises Failed, Refusal, and TimeoutError for a step that takes too long."""
    name, opens = f"helm-test-{secrets.token_hex(4)}", datetime.now(UTC) + OPENS
    async with Connection(_targets(settings)) as connection:
        organiser = Organiser(connection, token)
        await _patiently(READY_S, lambda: organiser.define(name, _spec(name, settings, opens, opens + OPEN)))
        _say(f"defined the sale {name}")
        try:
            async with asyncio.timeout(STEP_S):
                await _bought(Buyer(connection, name, await _buyer_token(settings)), settings)
        finally:
            closes = max(datetime.now(UTC), opens) + CLOSES
            await organiser.define(name, _spec(name, settings, opens, closes))
            await _patiently(
                STEP_S, lambda: _archive(connection, organiser, name), "WRONG_PHASE", "SALE_NOT_SETTLED"
            )
    _say("archived the sale")


def _arrived(file: Path) -> str:
    """A token, which in a new installation may come later than this pod."""
    ends = time.monotonic() + READY_S
    while not file.exists() and time.monotonic() < ends:
        time.sleep(PAUSE_S)
    return file.read_text().strip()


async def _patiently(within_s: float, step: Callable[[], Awaitable[object]], *passing: str) -> None:
    """Do a step again while it is refused for what passes: services that have just been installed may still
    be waiting for their stores."""
    ends = time.monotonic() + within_s
    while True:
        try:
            await step()
            return
        except Refusal as refusal:
            if (refusal.retry_after_s is None and refusal.word not in passing) or time.monotonic() > ends:
                raise
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > ends:
                raise
        await asyncio.sleep(PAUSE_S)


def _spec(name: str, settings: Settings, opens: datetime, closes: datetime) -> SaleSpec:
    """With the defaults of the schema, as a TicketSale would have them."""
    price = PRICE if settings.pays else 0
    spec = {
        "title": "A test of the installation",
        "currency": "EUR",
        "window": {"opensAt": _text(opens), "closesAt": _text(closes)},
        "sections": [{"id": SECTION, "capacity": 2, "ticketTypes": [{"id": "full", "price": price}]}],
        # With the one ticket the turn is over, and the sale can be archived.
        "limits": {"perBuyer": 1},
    }
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    return spec_of(manifest)[1]


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _bought(buyer: Buyer, settings: Settings) -> None:
    await buyer.join()
    async for message in buyer.watch():
        if message.place.state == queue.PLACE_STATE_CALLED:
            break
    admission = await buyer.enter()
    _say("was called and entered")
    await buyer.order("the-one-order", [item(SECTION, 1)], admission=admission.token)
    if settings.pays:
        order = await _told(buyer, checkout.ORDER_STATE_AWAITING_PAYMENT)
        await _pay(order.payment.url)
        _say("paid at the sandbox provider")
    order = await _told(buyer, checkout.ORDER_STATE_CONFIRMED)
    if len(order.tickets) != 1:
        raise Failed(f"the order is confirmed with {len(order.tickets)} tickets")
    _say("was told of the ticket")


async def _told(buyer: Buyer, state: "checkout.OrderState.ValueType") -> checkout.Order:
    async for message in buyer.subscribe():
        order = message.update.order
        if order.state == state:
            return order
        if order.state in (checkout.ORDER_STATE_REJECTED, checkout.ORDER_STATE_EXPIRED):
            raise Failed(f"the order is {checkout.OrderState.Name(order.state)}")
    raise Failed("the stream of orders ended before the news came")


async def _pay(url: str) -> None:
    timeout = aiohttp.ClientTimeout(total=STEP_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as browser,
        browser.post(url, json={"card": "approve"}) as answer,
    ):
        if answer.status != 200:
            raise Failed(f"the sandbox provider answered {answer.status}")


async def _buyer_token(settings: Settings) -> str:
    if settings.buyer_token_file is not None:
        return settings.buyer_token_file.read_text().strip()
    if settings.token_url is None or settings.issuer_secret is None:
        raise Failed("set CATRACA_BUYER_TOKEN_FILE, or CATRACA_TOKEN_URL and CATRACA_ISSUER_SECRET")
    form = urlencode({"subject": f"helm-test-{secrets.token_hex(4)}", "roles": "buyer"})
    headers = {
        "Authorization": f"Bearer {settings.issuer_secret}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    timeout = aiohttp.ClientTimeout(total=STEP_S)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.post(settings.token_url, data=form, headers=headers) as answer,
    ):
        if answer.status != 200:
            raise Failed(f"the development issuer answered {answer.status}")
        return str((await answer.json())["access_token"])


async def _archive(connection: Connection, organiser: Organiser, name: str) -> None:
    request = sales.ArchiveRequest(sale=name)
    await answered(connection.sales.Archive(request, metadata=organiser.metadata, timeout=STEP_S))


def _targets(settings: Settings) -> Targets:
    files = {"cert": settings.tls_cert_file, "key": settings.tls_key_file, "ca": settings.tls_ca_file}
    certificate = {name: str(file) for name, file in files.items() if file is not None}
    return Targets(
        settings.queue_target,
        settings.inventory_target,
        settings.checkout_target,
        settings.notifier_target,
        certificate,
    )


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Check and tell how it went."""
    try:
        settings = load_or_exit(Settings)
        asyncio.run(check(settings, _arrived(settings.organiser_token_file)))
    except (Failed, Refusal, grpc.aio.AioRpcError, TimeoutError, OSError, aiohttp.ClientError) as problem:
        print(f"FAILED: {str(problem) or type(problem).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
