"""Everything the audit judges by, as one snapshot of plain values: the checks read nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from catraca.events.v1.events_pb2 import InventoryChange, OrderIntake, QueueChange
from catraca.sale.v1.sale_pb2 import LINE_KIND_NONE, Sale

from services.checkout.states import TERMINAL, OrderState
from services.queue.seeds import DrawSecrets

Change = TypeVar("Change", InventoryChange, QueueChange)


@dataclass(slots=True)
class Batch:
    """One message of INVENTORY or QUEUE, without its changes: what its headers and fields say of it."""

    stream_seq: int
    epoch: int
    first: int
    """Sequence of its first change."""
    last: int
    announced_last: int
    """The last sequence as the message's header says."""


@dataclass(slots=True)
class SectionCounts:
    """A section as inventory's Redis counts it."""

    capacity: int
    held: int
    sold: int
    blocked: int
    claimed: int


@dataclass(slots=True)
class StoredHold:
    """A hold as inventory's Redis has it."""

    state: str
    order_id: str
    units: list[tuple[str, int]]


@dataclass(slots=True)
class StoredPromise:
    """A promise as inventory's Redis has it."""

    state: str
    place: int
    left: int


@dataclass(slots=True)
class InventoryStore:
    """Inventory's Redis at one moment. Units are two bits each: free 0, held 1, sold 2, blocked 3."""

    epoch: int
    sequence: int
    watermark: int
    promised: int
    turns: int
    claims: int
    sections: dict[str, SectionCounts]
    units: dict[str, bytes]
    buyers: dict[str, tuple[int, int, int]]
    """Held, owned and claimed by buyer."""
    promises: dict[str, StoredPromise]
    holds: dict[tuple[str, str], StoredHold]
    """By buyer and hold id."""


@dataclass(slots=True)
class QueueStore:
    """The queue's Redis at one moment."""

    epoch: int
    sequence: int
    count: int
    cohort: int | None
    serving: int
    draw_key: bytes
    index: dict[bytes, int]
    """By raw buyer id; −index − 1 for who left."""
    members: bytes
    """Records of 22 bytes by index: buyer and 6 bytes of big-endian joined_at_ms."""


@dataclass(slots=True)
class Intake:
    """One message of INTAKE: where it stands, and the order it asks for (None where it cannot be read)."""

    stream_seq: int
    subject: str
    order: OrderIntake | None


@dataclass(slots=True)
class Announced:
    """One message of CHECKOUT: one state of one order."""

    stream_seq: int
    header_version: int
    version: int
    state: OrderState | None
    tickets: int
    """How many live tickets with a code it tells of."""


@dataclass(slots=True)
class Order:
    """One row of orders.orders."""

    order_id: str
    buyer: str
    state: OrderState
    reason: str
    version: int
    idempotency_key: str
    request_hash: bytes
    hold_id: str
    units: list[tuple[str, int]]
    amount: int
    owes_units: bool

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""
        return self.state in TERMINAL


@dataclass(slots=True)
class Ticket:
    """One row of orders.tickets."""

    ticket_id: str
    order_id: str
    section: str
    unit: int
    price: int
    live: bool
    code: str


@dataclass(slots=True)
class Payment:
    """One row of payments.payments."""

    order_id: str
    session_id: str
    state: str
    amount: int


@dataclass(slots=True)
class Session:
    """One payment session as its provider's own ledger has it. Amounts in minor units."""

    session_id: str
    order_id: str
    state: str
    amount: int
    captured: int
    refunded: int


@dataclass
class Facts:
    """One sale as all of its stores and streams show it, read in the order that loading.py explains."""

    sale: str
    definitions: Mapping[int, Sale]
    """Every revision that is still known, ascending."""
    settled: bool = False
    """Whether everything under way must have come to its end."""

    inventory_batches: Sequence[Batch] = ()
    inventory: Sequence[InventoryChange] = ()
    """Every published change, in stream order."""
    inventory_outbox: Sequence[InventoryChange] = ()
    """Changes that only Redis' outbox has, in order."""
    inventory_store: InventoryStore | None = None
    """None where the sale is not loaded: archived, or lost."""

    queue_batches: Sequence[Batch] = ()
    queue: Sequence[QueueChange] = ()
    queue_outbox: Sequence[QueueChange] = ()
    queue_store: QueueStore | None = None
    draw: DrawSecrets | None = None

    intake: Sequence[Intake] = ()
    announced: Mapping[str, Sequence[Announced]] = field(default_factory=dict)
    """By order id, in stream order."""

    orders: Mapping[str, Order] = field(default_factory=dict)
    tickets: Sequence[Ticket] = ()
    payments: Mapping[str, Payment] = field(default_factory=dict)
    """By order id."""
    unpublished: Mapping[str, int] = field(default_factory=dict)
    """States in checkout's outbox that wait for publication, by order id."""
    sessions: Sequence[Session] = ()
    ticket_keys: Mapping[str, bytes] = field(default_factory=dict)
    """Public keys of tickets by key id."""

    @cached_property
    def definition(self) -> Sale:
        """The sale as it stands."""
        return self.definitions[max(self.definitions)]

    @cached_property
    def has_line(self) -> bool:
        """Whether buyers are called."""
        return bool(self.definition.spec.line.kind != LINE_KIND_NONE)

    @cached_property
    def accepted(self) -> frozenset[str]:
        """The ids of all orders of INTAKE."""
        return frozenset(intake.order.order_id for intake in self.intake if intake.order is not None)

    def too_new(self, order_id: str) -> bool:
        """Whether an order's row may have been written after the rows were read: the sale goes on."""
        return not self.settled and order_id not in self.orders and order_id in self.accepted

    @cached_property
    def sessions_of(self) -> dict[str, list[Session]]:
        """The provider's sessions by order."""
        found: dict[str, list[Session]] = {}
        for session in self.sessions:
            found.setdefault(session.order_id, []).append(session)
        return found

    @cached_property
    def tickets_of(self) -> dict[str, list[Ticket]]:
        """Ticket rows by order."""
        found: dict[str, list[Ticket]] = {}
        for ticket in self.tickets:
            found.setdefault(ticket.order_id, []).append(ticket)
        return found


def known_changes(
    published: Sequence[Change], outbox: Sequence[Change], store: InventoryStore | QueueStore | None
) -> Iterator[Change]:
    """The changes that made Redis what it was when it was read: published ones, then those of the outbox.

    What was published since then is left out; where the sale is not loaded, every published change counts.
    """
    last = 0
    for change in published:
        if store is None or change.sequence <= store.sequence:
            last = change.sequence
            yield change
    for change in outbox:
        if change.sequence > last and store is not None and change.sequence <= store.sequence:
            yield change
