"""The sandbox payment provider over HTTP."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from services.checkout.providers.protocol import (
    Captured,
    Charge,
    Event,
    EventType,
    ProviderUnavailable,
    Session,
    SessionState,
    Voided,
)
from services.kit import tracing
from services.kit.errors import Refusal
from services.kit.settings import SettingError, variable_of

NAME = "sandbox"
SIGNATURE_HEADER = "Catraca-Sandbox-Signature"
SIGNATURE = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")
KEEP_ALIVE_S = 60.0


@dataclass(frozen=True)
class Secrets:
    """What the sandbox and checkout share."""

    api_key: str = field(repr=False)
    webhook_secret: bytes = field(repr=False)


def load_secrets(path: Path) -> Secrets:
    """Read the key file. Raises SettingError."""
    expected = 'a JSON file {"api_key", "webhook_secret"}'
    try:
        entries = json.loads(path.read_text())
        return Secrets(str(entries["api_key"]), str(entries["webhook_secret"]).encode())
    except OSError as error:
        found = f"{str(path)!r} ({error.strerror})"
    except (ValueError, TypeError, KeyError):
        found = f"{str(path)!r}, whose content does not fit"
    raise SettingError(variable_of("sandbox_key_file"), found, expected)


def signature(secret: bytes, at_s: int, body: bytes) -> str:
    """A webhook's signature header: the time, and HMAC-SHA-256 over time and body."""
    return f"t={at_s},v1={_mac(secret, at_s, body)}"


class SandboxProvider:
    """Calls the sandbox. Keys derive from the order's id, so every call may be repeated."""

    name = NAME

    def __init__(
        self,
        url: str,
        secrets: Secrets,
        webhook_url: str,
        *,
        timeout_s: float,
        connections: int,
        webhook_tolerance_s: float,
    ) -> None:
        """`webhook_url` is where the sandbox shall call. Needs a running event loop."""
        self._url = url.rstrip("/")
        self._secrets = secrets
        self._webhook_url = webhook_url
        self._tolerance_s = webhook_tolerance_s
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers={"Authorization": f"Bearer {secrets.api_key}"},
        )

    async def authorize(self, charge: Charge) -> Session:
        """Open the order's one session."""
        body = {
            "order_id": charge.order_id,
            "sale": charge.sale,
            "amount": charge.amount,
            "currency": charge.currency,
            "webhook_url": self._webhook_url,
            "expires_at_ms": charge.expires_at_ms,
        }
        status, answer = await self._call("POST", "/v1/sessions", f"{charge.order_id}-authorize", body)
        if status != 201:
            raise _unexpected(status, answer)
        return Session(answer["session_id"], answer["url"])

    async def capture(self, order_id: str, session_id: str, amount: int) -> Captured:
        """Take what is reserved."""
        path = f"/v1/sessions/{session_id}/capture"
        status, answer = await self._call("POST", path, f"{order_id}-capture", {"amount": amount})
        if status == 200:
            return Captured.CAPTURED
        if status in (402, 409):
            return Captured.REFUSED
        raise _unexpected(status, answer)

    async def void(self, order_id: str, session_id: str) -> Voided:
        """Give back what is reserved, and let nobody pay any more."""
        status, answer = await self._call("POST", f"/v1/sessions/{session_id}/void", f"{order_id}-void", {})
        # A session the provider does not have, or one that was refunded, holds no money.
        if status in (200, 404) or answer.get("error") == "session_refunded":
            return Voided.VOIDED
        if answer.get("error") == "session_captured":
            return Voided.CAPTURED
        raise _unexpected(status, answer)

    async def refund(self, order_id: str, session_id: str, amount: int) -> None:
        """Pay back what was taken."""
        path = f"/v1/sessions/{session_id}/refund"
        status, answer = await self._call("POST", path, f"{order_id}-refund", {"amount": amount})
        if status != 200:
            raise _unexpected(status, answer)

    async def look_up(self, session_id: str) -> SessionState:
        """How the session stands."""
        status, answer = await self._call("GET", f"/v1/sessions/{session_id}")
        if status == 404:
            return SessionState.UNKNOWN
        if status != 200:
            raise _unexpected(status, answer)
        return SessionState(answer["state"].upper())

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Event:
        """The event of a call that really came from the sandbox, not long ago."""
        match = SIGNATURE.fullmatch(headers.get(SIGNATURE_HEADER, ""))
        if match is None:
            raise Refusal("WEBHOOK_SIGNATURE", "The signature is missing or malformed.")
        at_s = int(match[1])
        if not hmac.compare_digest(_mac(self._secrets.webhook_secret, at_s, body), match[2]):
            raise Refusal("WEBHOOK_SIGNATURE", "The signature is not of this body.")
        if abs(now_s - at_s) > self._tolerance_s:
            raise Refusal("WEBHOOK_SIGNATURE", "The signature is too old.")
        try:
            return _event(json.loads(body))
        except (ValueError, TypeError, KeyError):
            raise Refusal("INVALID_FIELD", field="body", expected="an event of the sandbox") from None

    async def close(self) -> None:
        """Give connections back."""
        await self._http.close()

    async def _call(
        self, method: str, path: str, key: str = "", body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers = tracing.headers() | ({"Idempotency-Key": key} if key else {})
        try:
            async with self._http.request(method, self._url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
            raise ProviderUnavailable(f"sandbox: {problem or type(problem).__name__}") from problem


def _mac(secret: bytes, at_s: int, body: bytes) -> str:
    return hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()


def _event(body: Mapping[str, Any]) -> Event:
    event = Event(
        event_id=body["event_id"],
        type=EventType(body["type"]),
        session_id=body["session_id"],
        order_id=body["order_id"],
        amount=body["amount"],
        currency=body["currency"],
    )
    texts = (event.event_id, event.session_id, event.order_id, event.currency)
    sound = type(event.amount) is int and all(
        isinstance(text, str) and 0 < len(text) <= 128 and text.isprintable() for text in texts
    )
    if not sound:
        raise ValueError("a field of the event is not of its kind")
    return event


def _unexpected(status: int, answer: Mapping[str, Any]) -> ProviderUnavailable:
    return ProviderUnavailable(f"sandbox answered {status} {answer.get('error', '')}".strip())
