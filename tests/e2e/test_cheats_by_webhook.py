"""Webhooks that the provider did not send, or sent before: refused, counted, and nothing has changed."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from catraca.checkout.v1 import checkout_pb2 as checkout

from services.checkout.providers.sandbox import SIGNATURE_HEADER, load_secrets, signature
from tests.e2e.cheating import AWAITING, CONFIRMED, Tries, cheating, waiting


@dataclass(frozen=True)
class Answer:
    """What checkout said to a webhook."""

    status: int
    refusal: str


class Provider:
    """Where checkout takes webhooks, and the secret that signs them."""

    def __init__(self, house: Any) -> None:
        self.url = f"http://{house.stack.parts['checkout'].processes[0].webhook_address}/webhooks/sandbox"
        self.secret = load_secrets(Path(house.running.keys["sandbox"])).webhook_secret

    async def send(
        self, event: dict[str, Any], *, secret: bytes | None = None, age_s: int = 0, header: str = ""
    ) -> Answer:
        """Call checkout as the provider does."""
        body = json.dumps(event).encode()
        signed = signature(self.secret if secret is None else secret, int(time.time()) - age_s, body)
        headers = {SIGNATURE_HEADER: header or signed}
        async with aiohttp.ClientSession() as http, http.post(self.url, data=body, headers=headers) as answer:
            return Answer(answer.status, (await answer.json()).get("reason", ""))

    async def refused(self, tries: Tries, status: int, word: str, event: dict[str, Any], **how: Any) -> None:
        """Fails unless this is answered with the status and the word."""
        answer = await self.send(event, **how)
        tries.webhooks.update([answer.refusal])
        assert (answer.status, answer.refusal) == (status, word), event


def event_of(order: checkout.Order, type: str = "authorized", **changes: Any) -> dict[str, Any]:
    """What the provider would tell of an order's payment."""
    session = order.payment.url.rstrip("/").rsplit("/", 1)[1]
    told = {"event_id": f"ev_{secrets.token_hex(8)}", "type": type, "session_id": session}
    paid = {"order_id": order.order_id, "amount": order.amount, "currency": order.currency}
    return told | paid | changes


@asynccontextmanager
async def silence(house: Any) -> AsyncIterator[None]:
    """The provider itself tells nothing for the block: what is counted, the test has sent."""
    await house.stack.parts["sandbox"].down()
    try:
        yield
    finally:
        await house.stack.restart("sandbox")


async def test_a_webhook_with_a_wrong_signature_is_refused(house: Any) -> None:
    name = await house.sale(line=False)
    buyer, order = await waiting(house, name)
    provider, event = Provider(house), event_of(order)
    body = json.dumps(event | {"amount": 1}).encode()
    of_another_body = signature(provider.secret, int(time.time()), body)
    async with cheating(house, name, within=silence(house)) as tries:
        for how in (
            {"secret": b"guessed"},
            {"secret": b""},
            {"header": "t=1,v1="},
            {"header": "nothing of the kind"},
            {"header": of_another_body},
            {"age_s": 3600},
            {"age_s": -3600},
        ):
            await provider.refused(tries, 401, "WEBHOOK_SIGNATURE", event, **how)
    assert (await buyer.get_order(order.order_id)).state == AWAITING


async def test_a_webhook_for_another_order_is_refused(house: Any) -> None:
    name = await house.sale(line=False)
    (cheap_buyer, cheap), (dear_buyer, dear) = await waiting(house, name), await waiting(house, name)
    provider = Provider(house)
    async with cheating(house, name, within=silence(house)) as tries:
        for event in (
            event_of(cheap, order_id=dear.order_id),
            event_of(dear, session_id=event_of(cheap)["session_id"]),
            event_of(dear, amount=1),
            event_of(dear, currency="USD"),
            event_of(dear, order_id="a" * 26),
        ):
            await provider.refused(tries, 400, "WEBHOOK_FOREIGN", event)
        # Nor one that says nothing, however well it is signed.
        await provider.refused(tries, 400, "INVALID_FIELD", {})
        await provider.refused(tries, 400, "INVALID_FIELD", event_of(dear, amount="1500"))
    assert (await cheap_buyer.get_order(cheap.order_id)).state == AWAITING
    assert (await dear_buyer.get_order(dear.order_id)).state == AWAITING


async def test_replayed_webhooks_have_no_second_effect(house: Any) -> None:
    name = await house.sale(line=False)
    buyer, order = await waiting(house, name)
    await house.pay(order)
    confirmed = await house.told(buyer, order.order_id, CONFIRMED)
    provider = Provider(house)
    async with cheating(house, name, within=silence(house)) as tries:
        for type in ("authorized", "captured", "declined", "voided"):
            event = event_of(order, type)
            answers = await asyncio.gather(*(provider.send(event) for _ in range(5)))
            assert set(answers) == {Answer(200, "")}, type
        # An old one, as it was caught on its way.
        await provider.refused(tries, 401, "WEBHOOK_SIGNATURE", event_of(order, "refunded"), age_s=600)
    after = await buyer.get_order(order.order_id)
    assert (after.state, after.version) == (CONFIRMED, confirmed.version)
    assert [ticket.code for ticket in after.tickets] == [ticket.code for ticket in confirmed.tickets]


async def test_what_is_no_webhook_is_counted_too(house: Any) -> None:
    name = await house.sale(line=False)
    provider = Provider(house)
    async with cheating(house, name, within=silence(house)) as tries:
        await provider.refused(tries, 413, "MESSAGE_TOO_LARGE", {"event_id": "x" * 100_000})
        provider.url = provider.url.replace("sandbox", "another")
        await provider.refused(tries, 404, "INVALID_FIELD", {})
