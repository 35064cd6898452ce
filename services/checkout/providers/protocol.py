"""What checkout asks of a payment provider. A new provider is one class that does these things."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ProviderUnavailable(Exception):
    """No answer, or none that says what happened: ask again with the same key."""


@dataclass(frozen=True, slots=True)
class Session:
    """Where the buyer pays."""

    session_id: str
    url: str


@dataclass(frozen=True, slots=True)
class Charge:
    """What an order has to pay: an amount in minor units of `currency`, until a deadline."""

    order_id: str
    sale: str
    amount: int
    currency: str
    expires_at_ms: int


class SessionState(StrEnum):
    """How a session stands at the provider."""

    OPEN = "OPEN"
    PROCESSING = "PROCESSING"
    """The buyer paid and the provider has not decided yet."""
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    VOIDED = "VOIDED"
    REFUNDED = "REFUNDED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"
    """The provider has no such session."""


class Captured(StrEnum):
    """What became of a capture."""

    CAPTURED = "CAPTURED"
    REFUSED = "REFUSED"
    """For good: asking again will not help."""


class Voided(StrEnum):
    """What became of a void."""

    VOIDED = "VOIDED"
    """Nothing is reserved, and nobody can pay into the session any more."""
    CAPTURED = "CAPTURED"
    """The money was taken already: it has to be refunded."""


class EventType(StrEnum):
    """What a webhook tells."""

    AUTHORIZED = "authorized"
    DECLINED = "declined"
    CAPTURED = "captured"
    VOIDED = "voided"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True)
class Event:
    """One webhook, its signature checked."""

    event_id: str
    type: EventType
    session_id: str
    order_id: str
    amount: int
    currency: str


class Provider(Protocol):
    """One payment provider. Every call may be repeated: its key derives from the order.

    Each raises ProviderUnavailable where the outcome is not known.
    """

    @property
    def name(self) -> str:
        """As a sale's `payment.provider` and the webhook's path name it."""
        ...

    async def authorize(self, charge: Charge) -> Session:
        """Open the order's one session."""
        ...

    async def capture(self, order_id: str, session_id: str, amount: int) -> Captured:
        """Take what is reserved."""
        ...

    async def void(self, order_id: str, session_id: str) -> Voided:
        """Give back what is reserved, and let nobody pay any more."""
        ...

    async def refund(self, order_id: str, session_id: str, amount: int) -> None:
        """Pay back what was taken."""
        ...

    async def look_up(self, session_id: str) -> SessionState:
        """How the session stands."""
        ...

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Event:
        """The event of a call that really came from the provider. Raises Refusal WEBHOOK_SIGNATURE or
        INVALID_FIELD."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
