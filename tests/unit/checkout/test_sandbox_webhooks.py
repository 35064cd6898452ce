"""The sandbox's webhooks are believed only with its signature."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.checkout.providers.protocol import EventType
from services.checkout.providers.sandbox import SIGNATURE_HEADER, SandboxProvider, Secrets, signature
from services.kit.errors import Refusal

SECRET = b"webhook secret"
NOW = 1_000_000
BODY: dict[str, Any] = {
    "event_id": "ev_1",
    "type": "authorized",
    "session_id": "cs_1",
    "order_id": "a" * 26,
    "amount": 3000,
    "currency": "BRL",
}


@pytest.fixture
async def provider() -> AsyncIterator[SandboxProvider]:
    """A provider that nobody calls."""
    provider = SandboxProvider(
        "http://sandbox",
        Secrets("api key", SECRET),
        "http://shop/webhooks/sandbox",
        timeout_s=1,
        connections=1,
        webhook_tolerance_s=300,
    )
    yield provider
    await provider.close()


def signed(body: bytes, at_s: int = NOW, secret: bytes = SECRET) -> dict[str, str]:
    """The headers of a call with this body."""
    return {SIGNATURE_HEADER: signature(secret, at_s, body)}


async def test_a_signed_event_is_read(provider: SandboxProvider) -> None:
    body = json.dumps(BODY).encode()

    event = provider.parse_webhook(signed(body), body, NOW + 299)

    assert (event.event_id, event.type, event.amount) == ("ev_1", EventType.AUTHORIZED, 3000)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {SIGNATURE_HEADER: ""},
        {SIGNATURE_HEADER: f"t={NOW}"},
        {SIGNATURE_HEADER: f"t={NOW},v1=" + "0" * 64},
        {SIGNATURE_HEADER: f"t={NOW},v1=" + "é" * 64},
        {SIGNATURE_HEADER: "t=-1,v1=" + "0" * 64},
        signed(json.dumps(BODY).encode(), secret=b"another secret"),
        signed(b"another body"),
        signed(json.dumps(BODY).encode(), at_s=NOW - 301),
        signed(json.dumps(BODY).encode(), at_s=NOW + 301),
        # The time is under the signature: an old call cannot be made new.
        {
            SIGNATURE_HEADER: signed(json.dumps(BODY).encode(), at_s=NOW - 301)[SIGNATURE_HEADER].replace(
                f"t={NOW - 301}", f"t={NOW}"
            )
        },
    ],
)
async def test_what_is_not_signed_now_by_the_sandbox_is_refused(
    headers: dict[str, str], provider: SandboxProvider
) -> None:
    with pytest.raises(Refusal) as refused:
        provider.parse_webhook(headers, json.dumps(BODY).encode(), NOW)
    assert refused.value.word == "WEBHOOK_SIGNATURE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"not json",
        b"\xff",
        json.dumps({**BODY, "type": "gift"}).encode(),
        json.dumps({**BODY, "amount": "3000"}).encode(),
        json.dumps({**BODY, "amount": True}).encode(),
        json.dumps({**BODY, "event_id": ""}).encode(),
        json.dumps({**BODY, "order_id": "nul\x00"}).encode(),
        json.dumps({**BODY, "session_id": 7}).encode(),
        json.dumps({name: BODY[name] for name in BODY if name != "currency"}).encode(),
    ],
)
async def test_what_is_no_event_is_refused(body: bytes, provider: SandboxProvider) -> None:
    with pytest.raises(Refusal) as refused:
        provider.parse_webhook(signed(body), body, NOW)
    assert refused.value.word == "INVALID_FIELD"
