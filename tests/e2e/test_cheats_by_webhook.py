"""Webhooks that the provider did not send, or sent before: refused by name, and nothing has changed."""

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Any

import aiohttp
from catraca.checkout.v1 import checkout_pb2 as checkout

from services.checkout.providers.sandbox import SIGNATURE_HEADER, load_secrets, signature
from tests.e2e.cheating import AWAITING, CONFIRMED, nothing_changes, waiting


class Provider:
    """Where checkout takes webhooks, and the secret that signs them."""

    def __init__(self, house: Any) -> None:
        self.url = f"http://{house.stack.parts['checkout'].processes[0].webhook_address}/webhooks/sandbox"
        self.secret = load_secrets(Path(house.running.keys["sandbox"])).webhook_secret

    async def send(
        self, event: dict[str, Any], *, secret: bytes | None = None, age_s: int = 0, header: str = ""
    ) -> tuple[int, str]:
        """Status and reason of the answer."""
        body = json.dumps(event).encode()
        signed = signature(secret or self.secret, int(time.time()) - age_s, body)
        headers = {SIGNATURE_HEADER: header or signed}
        async with aiohttp.ClientSession() as http, http.post(self.url, data=body, headers=headers) as answer:
            return answer.status, (await answer.json()).get("reason", "")


def event_of(order: checkout.Order, type: str = "authorized", **changes: Any) -> dict[str, Any]:
    """What the provider would tell of an order's payment."""
    session = order.payment.url.rstrip("/").rsplit("/", 1)[1]
    told = {"event_id": f"ev_{secrets.token_hex(8)}", "type": type, "session_id": session}
    paid = {"order_id": order.order_id, "amount": order.amount, "currency": order.currency}
    return told | paid | changes


async def test_a_webhook_with_a_wrong_signature_is_refused(house: Any) -> None:
    name = await house.sale(line=False)
    buyer, order = await waiting(house, name)
    provider, event = Provider(house), event_of(order)
    body = json.dumps(event | {"amount": 1}).encode()
    of_another_body = signature(provider.secret, int(time.time()), body)
    async with nothing_changes(house, name):
        attempts = [
            provider.send(event, secret=b"guessed"),
            provider.send(event, header="t=1,v1="),
            provider.send(event, header=of_another_body),
            provider.send(event, age_s=3600),
            provider.send(event, age_s=-3600),
        ]
        for attempt in attempts:
            assert await attempt == (401, "WEBHOOK_SIGNATURE")
    assert (await buyer.get_order(order.order_id)).state == AWAITING


async def test_a_webhook_for_another_order_is_refused(house: Any) -> None:
    name = await house.sale(line=False)
    (cheap_buyer, cheap), (dear_buyer, dear) = await waiting(house, name), await waiting(house, name)
    provider = Provider(house)
    async with nothing_changes(house, name):
        for event in (
            event_of(cheap, order_id=dear.order_id),
            event_of(dear, session_id=event_of(cheap)["session_id"]),
            event_of(dear, amount=1),
            event_of(dear, currency="USD"),
            event_of(dear, order_id="a" * 26),
        ):
            assert await provider.send(event) == (400, "WEBHOOK_FOREIGN"), event
    assert (await cheap_buyer.get_order(cheap.order_id)).state == AWAITING
    assert (await dear_buyer.get_order(dear.order_id)).state == AWAITING


async def test_replayed_webhooks_have_no_second_effect(house: Any) -> None:
    name = await house.sale(line=False)
    buyer, order = await waiting(house, name)
    await house.pay(order)
    confirmed = await house.told(buyer, order.order_id, CONFIRMED)
    provider = Provider(house)
    async with nothing_changes(house, name):
        for type in ("authorized", "captured", "declined", "voided"):
            event = event_of(order, type)
            answers = await asyncio.gather(*(provider.send(event) for _ in range(5)))
            assert set(answers) == {(200, "")}, type
    after = await buyer.get_order(order.order_id)
    assert (after.state, after.version) == (CONFIRMED, confirmed.version)
    assert [ticket.code for ticket in after.tickets] == [ticket.code for ticket in confirmed.tickets]
