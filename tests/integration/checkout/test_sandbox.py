"""The sandbox provider: its ledger survives a kill, its webhooks arrive, its keys make calls repeatable."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.checkout.providers.protocol import Captured, Charge, EventType, SessionState, Voided
from services.checkout.providers.protocol import ProviderUnavailable as Unavailable
from services.checkout.providers.sandbox import SandboxProvider
from tests.integration.checkout.shop import Sandbox

SandboxThat = Callable[..., Sandbox]


class Receiver:
    """Takes webhooks, and refuses the first so many."""

    def __init__(self) -> None:
        self.refuse = 0
        self.calls: list[tuple[dict[str, str], bytes]] = []
        app = web.Application()
        app.router.add_post("/webhooks/sandbox", self._receive)
        self.server = TestServer(app)

    async def _receive(self, request: web.Request) -> web.Response:
        if self.refuse > 0:
            self.refuse -= 1
            return web.Response(status=503)
        self.calls.append((dict(request.headers), await request.read()))
        return web.Response()

    async def until(self, count: int) -> None:
        """Return when so many calls were taken."""
        while len(self.calls) < count:
            await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody to call."""
    receiver = Receiver()
    await receiver.server.start_server()
    yield receiver
    await receiver.server.close()


@pytest.fixture
async def provider_of(receiver: Receiver) -> AsyncIterator[Callable[[Sandbox], SandboxProvider]]:
    """Checkout's side of a sandbox."""
    made: list[SandboxProvider] = []

    def make(sandbox: Sandbox) -> SandboxProvider:
        url = str(receiver.server.make_url("/webhooks/sandbox"))
        provider = SandboxProvider(
            sandbox.url, sandbox.secrets, url, timeout_s=2, connections=8, webhook_tolerance_s=300
        )
        made.append(provider)
        return provider

    yield make
    for provider in made:
        await provider.close()


ProviderOf = Callable[[Sandbox], SandboxProvider]


def charge(**changes: Any) -> Charge:
    """A charge of an order of its own."""
    fields: dict[str, Any] = {
        "order_id": secrets.token_hex(13),
        "sale": f"sale-{secrets.token_hex(4)}",
        "amount": 1500,
        "currency": "BRL",
        "expires_at_ms": int(time.time() * 1000) + 60_000,
    }
    return Charge(**{**fields, **changes})


async def pay(url: str, card: str = "approve") -> str:
    """The page's answer to a card."""
    async with aiohttp.ClientSession() as http, http.post(url, json={"card": card}) as answer:
        return str((await answer.json()).get("result", answer.status))


async def test_a_killed_sandbox_has_its_ledger_and_sends_what_it_owes(
    sandbox_that: SandboxThat, provider_of: ProviderOf, receiver: Receiver
) -> None:
    sandbox = sandbox_that()
    provider = provider_of(sandbox)
    receiver.refuse = 1000
    charges = [charge(sale="one-sale") for _ in range(20)]
    sessions = await asyncio.gather(*(provider.authorize(each) for each in charges))
    assert await asyncio.gather(*(pay(session.url) for session in sessions)) == ["authorized"] * 20
    await provider.capture(charges[0].order_id, sessions[0].session_id, 1500)

    sandbox.kill9()
    receiver.refuse = 0
    sandbox.start()
    await sandbox.until_ready()

    states = {each["session_id"]: each["state"] for each in await sandbox.ledger("one-sale")}
    assert [states[session.session_id] for session in sessions] == ["captured"] + ["authorized"] * 19
    await receiver.until(21)
    events = [provider.parse_webhook(headers, body, time.time()) for headers, body in receiver.calls]
    assert {event.session_id for event in events} == set(states)
    # What was sent when it was killed may be sent again, as it could not note that it was.
    assert len({event.session_id for event in events if event.type is EventType.CAPTURED}) == 1


async def test_calls_may_be_repeated(sandbox: Sandbox, provider_of: ProviderOf) -> None:
    provider, asked = provider_of(sandbox), charge()
    session = await provider.authorize(asked)
    assert await provider.authorize(asked) == session
    with pytest.raises(Unavailable, match="idempotency_key_reused"):
        await provider.authorize(charge(order_id=asked.order_id, amount=1))
    await pay(session.url)

    for _ in range(2):
        assert await provider.capture(asked.order_id, session.session_id, 1500) is Captured.CAPTURED
    assert await provider.void(asked.order_id, session.session_id) is Voided.CAPTURED
    for _ in range(2):
        await provider.refund(asked.order_id, session.session_id, 1500)
    assert await provider.void(asked.order_id, session.session_id) is Voided.VOIDED
    assert await provider.look_up(session.session_id) is SessionState.REFUNDED


async def test_what_is_voided_cannot_be_paid_or_captured(sandbox: Sandbox, provider_of: ProviderOf) -> None:
    provider, asked = provider_of(sandbox), charge()
    session = await provider.authorize(asked)
    await pay(session.url)

    for _ in range(2):
        assert await provider.void(asked.order_id, session.session_id) is Voided.VOIDED

    assert await pay(session.url) == "voided"
    assert await provider.capture(asked.order_id, session.session_id, 1500) is Captured.REFUSED
    assert await provider.look_up(session.session_id) is SessionState.VOIDED
    assert await provider.look_up("cs_of_nobody") is SessionState.UNKNOWN


async def test_nobody_pays_after_the_deadline(sandbox: Sandbox, provider_of: ProviderOf) -> None:
    provider = provider_of(sandbox)
    session = await provider.authorize(charge(expires_at_ms=int(time.time() * 1000) + 50))
    await asyncio.sleep(0.1)

    assert await pay(session.url) == "expired"
    assert await provider.look_up(session.session_id) is SessionState.EXPIRED


async def test_cards_are_declined_or_refused_at_the_capture(
    sandbox: Sandbox, provider_of: ProviderOf
) -> None:
    provider, asked = provider_of(sandbox), charge()
    session = await provider.authorize(asked)
    assert await pay(session.url, "decline") == "declined"
    assert await pay(session.url, "golden") == "400"
    assert await pay(session.url, "approve-no-capture") == "authorized"
    assert await provider.capture(asked.order_id, session.session_id, 1500) is Captured.REFUSED
    assert await provider.look_up(session.session_id) is SessionState.AUTHORIZED


async def test_webhooks_are_sent_until_they_arrive(
    sandbox: Sandbox, provider_of: ProviderOf, receiver: Receiver
) -> None:
    receiver.refuse = 2
    provider, asked = provider_of(sandbox), charge()
    await pay((await provider.authorize(asked)).url)

    await receiver.until(1)

    headers, body = receiver.calls[0]
    event = provider.parse_webhook(headers, body, time.time())
    assert (event.order_id, event.amount, event.type) == (asked.order_id, 1500, EventType.AUTHORIZED)
    await asyncio.sleep(0.5)
    assert len(receiver.calls) == 1


async def test_it_misbehaves_as_asked(
    sandbox_that: SandboxThat, provider_of: ProviderOf, receiver: Receiver
) -> None:
    sandbox = sandbox_that(lost_answer_rate=1, duplicate_rate=1, decline_rate=1, delay_s=0.3)
    provider, asked = provider_of(sandbox), charge(sale="odd-sale")
    with pytest.raises(Unavailable):
        await provider.authorize(asked)
    # It was done all the same.
    (session,) = await sandbox.ledger("odd-sale")

    url = f"{sandbox.url}/pay/{session['session_id']}"
    assert await pay(url) == "processing"
    await receiver.until(2)
    events = [provider.parse_webhook(headers, body, time.time()) for headers, body in receiver.calls]
    assert [event.type for event in events] == [EventType.DECLINED] * 2
    assert events[0].event_id == events[1].event_id


async def test_a_wrong_api_key_opens_nothing(sandbox: Sandbox) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer guessed"}) as http:
        for method, path in (
            ("POST", "/v1/sessions"),
            ("GET", "/v1/ledger?sale=x"),
            ("GET", "/v1/sessions/x"),
        ):
            async with http.request(method, sandbox.url + path) as answer:
                assert answer.status == 401


async def test_a_person_can_pay_on_the_page(sandbox: Sandbox, provider_of: ProviderOf) -> None:
    provider = provider_of(sandbox)
    session = await provider.authorize(charge(order_id="<script>"))
    async with aiohttp.ClientSession() as http:
        async with http.get(session.url) as answer:
            page = await answer.text()
            assert "15.00 BRL" in page
            assert "<script>" not in page
        async with http.post(session.url, data={"card": "decline"}) as answer:
            assert "declined" in await answer.text()
        async with http.post(session.url, data={"card": "approve"}) as answer:
            assert "Thank you" in await answer.text()
    assert await provider.look_up(session.session_id) is SessionState.AUTHORIZED
