"""A sale with its misfortunes shows no secret: not in logs, refusals, process lists, metrics, subjects.

And the whole system works with the rights it was given: the servers have refused nothing.
"""

import asyncio
import json
import re
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import nats
import psutil
import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1.inventory_pb2 import GetLedgerRequest
from redis.asyncio import Redis

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, answered, item
from services.checkout.providers.sandbox import SIGNATURE_HEADER
from services.kit.errors import Refusal

CONFIRMED, AWAITING = checkout.ORDER_STATE_CONFIRMED, checkout.ORDER_STATE_AWAITING_PAYMENT
ONE = [item("floor", 1)]
# Every secret of the stack is longer; shorter lines are the frame of a PEM.
SECRET = re.compile(r"[A-Za-z0-9_\-+/=.]{16,}")
# The names under which a file of keys holds what nobody may know.
PRIVATE = {"key", "secret", "api_key", "webhook_secret", "private", "pem", "d", "p", "q", "dp", "dq", "qi"}


@dataclass
class Sold:
    """A sale after its end, what must stand nowhere, and what was answered."""

    sale: str
    secrets: dict[str, str] = field(default_factory=dict)
    """Each with what it is."""
    refusals: list[str] = field(default_factory=list)

    def shown_in(self, text: str) -> list[str]:
        """Which secrets a text shows."""
        return [what for what, secret in self.secrets.items() if secret in text]


def secrets_of(data: Path) -> dict[str, str]:
    """Every secret below a data folder, by where it stands."""
    found = {path.name: path.read_text() for path in (data / "secrets").iterdir()}
    for name in [name for name in found if name.startswith("url-")]:
        # The password alone: the rest of a URL is no secret.
        found[name] = found[name].split("://")[1].split("@")[0].split(":")[1]
    for path in (data / "keys").iterdir():
        text = path.read_text()
        if path.suffix == ".pem":
            found[path.name] = text.splitlines()[1]
        elif path.suffix == ".json":
            for place, value in enumerate(_private(json.loads(text))):
                found[f"{path.name} {place}"] = value
        else:
            found[path.name] = text.strip()
    return found


def _private(value: Any, name: str = "") -> list[str]:
    """The values of a document that are secret by the name they stand under."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in _private(inner, key)]
    if isinstance(value, list):
        return [each for inner in value for each in _private(inner, name)]
    return [line for line in str(value).splitlines() if name in PRIVATE and SECRET.fullmatch(line)]


@pytest.fixture(scope="module")
async def sold(house: Any) -> Sold:
    """A line, a hold, orders that are paid, declined and cancelled, and attempts that must not work."""
    sold = Sold(await house.sale(capacity=6, window_s=60.0))
    sold.secrets |= secrets_of(house.stack.data)
    subject = f"Maria da Silva {secrets.token_hex(8)}@example.org"
    token = house.minter.mint(subject)
    buyer = Buyer(house.at, sold.sale, token)
    admission = await house.admitted(buyer)
    sold.secrets |= {"a buyer's token": token, "an admission": admission.token, "a buyer's subject": subject}

    placed = await buyer.order("to-pay-for", ONE, admission=admission.token)
    order = await house.told(buyer, placed.order_id, AWAITING)
    await house.pay(order, "decline")
    await house.pay(order)
    confirmed = await house.told(buyer, placed.order_id, CONFIRMED)
    sold.secrets["a ticket's code"] = confirmed.tickets[0].code
    other = await buyer.order("to-cancel", ONE, admission=admission.token)
    await buyer.cancel(other.order_id)
    await house.told(buyer, other.order_id, checkout.ORDER_STATE_CANCELLED)
    await _misfortunes(house, sold, buyer, admission.token)
    return sold


async def _misfortunes(house: Any, sold: Sold, buyer: Buyer, admission: str) -> None:
    """Refusals of every kind that is near a secret."""
    forged = admission[:-4] + ("AAAA" if not admission.endswith("AAAA") else "BBBB")
    expired = house.minter.mint("late", ttl_s=-60)
    unsigned = buyer.metadata[0][1].removeprefix("Bearer ").rpartition(".")[0] + ".AAAA"
    sold.secrets |= {"an expired token": expired, "a forged token": unsigned, "a forged admission": forged}
    attempts = [
        buyer.hold("a-hold-of-mine", ONE, forged),
        buyer.order("forged-one", ONE, admission=forged),
        buyer.order("to-pay-for", [item("floor", 2)], admission=admission),
        Buyer(house.at, sold.sale, expired).join(),
        Buyer(house.at, sold.sale, unsigned).join(),
        Buyer(house.at, "no-such-sale", house.minter.mint("someone")).join(),
        answered(house.at.ledger.GetLedger(GetLedgerRequest(sale=sold.sale), metadata=buyer.metadata)),
    ]
    for attempt in attempts:
        with pytest.raises(Refusal) as refused:
            await attempt
        sold.refusals.append(f"{refused.value} {refused.value.metadata}")
    async with aiohttp.ClientSession() as http:
        webhook = house.stack.parts["checkout"].processes[0].webhook_address
        headers = {SIGNATURE_HEADER: f"t=1,v1={'0' * 64}"}
        for url in (f"http://{webhook}/webhooks/sandbox", f"{house.running.sandbox_url}/v1/sessions"):
            async with http.post(url, data=b"{}", headers=headers) as answer:
                assert answer.status == 401
                sold.refusals.append(await answer.text())
        issuer = f"{house.running.issuer}/token"
        async with http.post(issuer, data={"grant_type": "client_credentials"}) as answer:
            assert answer.status >= 400
            sold.refusals.append(await answer.text())


async def test_nothing_secret_was_answered(sold: Sold) -> None:
    assert len(sold.secrets) > 20 and len(sold.refusals) >= 10
    assert [sold.shown_in(refusal) for refusal in sold.refusals] == [[]] * len(sold.refusals)


async def test_nothing_secret_stands_in_a_log(house: Any, sold: Sold) -> None:
    logs = {path.name: path.read_text(errors="replace") for path in (house.stack.data / "logs").iterdir()}

    assert {"queue-1.log", "inventory.log", "checkout.log", "notifier.log", "nats.log"} <= set(logs)
    assert {name: sold.shown_in(text) for name, text in logs.items() if sold.shown_in(text)} == {}


async def test_nothing_secret_stands_in_a_process_list(house: Any, sold: Sold) -> None:
    shown = {}
    for pid in (pid for pids in house.running.pids.values() for pid in pids):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            command = " ".join(process.cmdline())
            environment = " ".join(process.environ().values())
            assert command
            shown[process.pid] = [*sold.shown_in(command), *sold.shown_in(environment)]

    assert len(shown) >= 10
    assert {pid: found for pid, found in shown.items() if found} == {}


async def test_nothing_secret_is_measured(house: Any, sold: Sold) -> None:
    async with aiohttp.ClientSession() as http:
        for url in (url for urls in house.running.metrics.values() for url in urls):
            async with http.get(url) as answer:
                page = await answer.text()
            assert "catraca_" in page
            assert sold.shown_in(page) == []


async def test_no_subject_of_nats_names_a_buyer(house: Any, sold: Sold) -> None:
    client = await nats.connect(house.running.nats_url)
    try:
        subjects: list[str] = []
        for stream in ("INVENTORY", "QUEUE", "INTAKE", "CHECKOUT"):
            info = await client.jetstream().stream_info(stream, subjects_filter=">")
            subjects += [name for name in info.state.subjects or {} if sold.sale in name]
    finally:
        await client.close()

    assert len(subjects) >= 4
    assert sold.shown_in(" ".join(subjects)) == []
    assert "Maria" not in " ".join(subjects)


@pytest.mark.parametrize("command", [["audit"], ["audit", "--json"], ["get"]], ids=" ".join)
async def test_no_command_shows_a_secret(house: Any, sold: Sold, command: list[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.cli", command[0], sold.sale, *command[1:]),
        *("--data", str(house.stack.data)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    assert output and sold.shown_in(output.decode()) == []


async def test_no_description_of_a_part_shows_a_secret(house: Any, sold: Sold) -> None:
    sources = Sources.of(house.running)

    assert sold.shown_in(repr(sources) + repr(house.running) + repr(house.stack._wiring())) == []


async def test_the_servers_refused_nothing_that_the_system_asked_for(house: Any, sold: Sold) -> None:
    verdict = await audit(Sources.of(house.running), sold.sale, settled=False)
    assert verdict.broken == []

    async with Redis.from_url(house.running.redis_url) as owner:
        assert await owner.acl_log() == []
    assert "Violation" not in (house.stack.data / "logs" / "nats.log").read_text()
    postgres = (house.stack.data / "logs" / "postgres.log").read_text()
    assert "permission denied" not in postgres


async def test_a_service_that_starts_again_asks_for_nothing_more(house: Any, sold: Sold) -> None:
    for service in ("queue", "inventory", "checkout", "notifier"):
        house.stack.kill9(service)
        await house.stack.restart(service)
    await house.found_again()
    buyer = house.buyer(sold.sale)
    await house.admitted(buyer)

    await test_the_servers_refused_nothing_that_the_system_asked_for(house, sold)
