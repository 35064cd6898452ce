"""An order as checkout keeps it: plain immutable values, the same in workers, rules and store. No I/O."""

from dataclasses import dataclass

from services.checkout.states import TERMINAL, OrderState, PaymentState, TicketState


@dataclass(frozen=True, slots=True)
class Item:
    """What is wanted of one section."""

    section: str
    ticket_type: str
    quantity: int
    seats: tuple[str, ...] = ()
    together: bool = False
    use: int = 0
    """For whom the seats are, as catraca.inventory.v1.SeatUse."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit the ledger holds for the order, at the price fixed when it was held (minor units)."""

    section: str
    unit: int
    ticket_type: str
    price: int
    seat: str = ""


@dataclass(frozen=True, slots=True)
class Payment:
    """The order's one payment at its provider. Amount in minor units."""

    provider: str
    session_id: str
    url: str
    state: PaymentState
    amount: int
    currency: str
    pay_until_ms: int
    declines: int = 0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket row: it claims its unit from CAPTURING on, and has a code once the order is CONFIRMED."""

    ticket_id: str
    section: str
    unit: int
    ticket_type: str
    price: int
    seat: str
    state: TicketState
    code: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One order with its payment and tickets. Times in milliseconds since 1970, 0 where there is none."""

    order_id: str
    sale: str
    buyer: str
    state: OrderState
    idempotency_key: str
    request_hash: bytes
    items: tuple[Item, ...]
    """Empty where the order brought a hold of its own."""
    hold_id: str
    """The hold at the ledger: the buyer's own, or the order's id."""
    accepted_at_ms: int
    currency: str
    place: int | None = None
    joined_at_ms: int = 0
    called_at_ms: int = 0
    version: int = 0
    """Grows with every change that is published."""
    revision: int = 0
    """Grows with every change at all; kept by the store."""
    reason: str = ""
    ends_as: OrderState | None = None
    """While VOIDING: the state that follows."""
    units: tuple[Unit, ...] = ()
    amount: int = 0
    held_at_ms: int = 0
    updated_at_ms: int = 0
    pay_until_ms: int = 0
    pin_until_ms: int = 0
    owes_units: bool = False
    """The ledger must still be told that this ended order wants its units no more."""
    due_at_ms: int = 0
    """When the sweeper takes the order up if nobody else has moved it; 0 for never."""
    payment: Payment | None = None
    tickets: tuple[Ticket, ...] = ()
    traceparent: str = ""
    """The trace that began when the order was placed; empty where it is not kept."""

    @property
    def ended(self) -> bool:
        """Whether the state is terminal."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who a buyer id stands for."""

    buyer: str
    namespace: str
    subject: str


@dataclass(frozen=True, slots=True)
class Change:
    """One step of an order: written if the order still is as it was `before`, else not at all."""

    before: Order
    after: Order
    event_id: str = ""
    """The webhook that caused it, remembered in the same transaction."""

    @property
    def published(self) -> bool:
        """Whether buyers are told: a new version, not only something put right behind the scenes."""
        return self.after.version != self.before.version
