"""What one simulated buyer was told: the evidence that a rush is judged by."""

from enum import IntEnum, StrEnum
from typing import NamedTuple

from local.rush.shop import Item

TERMINAL = frozenset({"CONFIRMED", "REJECTED", "EXPIRED", "CANCELLED", "PAYMENT_FAILED"})


class Ask(StrEnum):
    """What a buyer asks of the system."""

    JOIN = "join"
    LEAVE = "leave"
    ENTER = "enter"
    HOLD = "hold"
    RELEASE = "release"
    ORDER = "order"
    CANCEL = "cancel"
    PAY = "pay"


class Probe(IntEnum):
    """What a buyer asks although, or because, it must be refused."""

    NONE = 0
    FORGED = 1
    BEFORE_OPENING = 2
    NO_ADMISSION = 3
    FOREIGN = 4
    EXPIRED = 5
    CAME_TOO_LATE = 6
    OTHER_BODY = 7


# The refusals that each of them must be told.
RIGHT_WORDS: dict[Probe, frozenset[str]] = {
    Probe.FORGED: frozenset({"ADMISSION_INVALID"}),
    # Both are true before the opening; which of them is said first is left open.
    Probe.BEFORE_OPENING: frozenset({"WRONG_PHASE", "ADMISSION_REQUIRED"}),
    Probe.NO_ADMISSION: frozenset({"ADMISSION_REQUIRED"}),
    Probe.FOREIGN: frozenset({"ADMISSION_FOREIGN"}),
    Probe.EXPIRED: frozenset({"TURN_EXPIRED"}),
    Probe.CAME_TOO_LATE: frozenset({"TURN_EXPIRED"}),
    Probe.OTHER_BODY: frozenset({"IDEMPOTENCY_KEY_REUSED"}),
}


class Refused(NamedTuple):
    """An answer: no, and why."""

    word: str
    left: dict[str, int]
    """What is left by section, where the refusal says so."""


class Stood(NamedTuple):
    """An answer: where the buyer stands."""

    number: int
    """The index, fixed when joining."""
    place: int | None


class Admitted(NamedTuple):
    """An answer: come in."""

    token: str
    allowance: int
    turn_ends: float
    place: int


class Placed(NamedTuple):
    """An answer: the order is taken."""

    order_id: str


class Done(NamedTuple):
    """An answer: yes. For a payment, what the provider says."""

    said: str = ""


Answer = Refused | Stood | Admitted | Placed | Done


class View(NamedTuple):
    """An order as the stream told it."""

    order_id: str
    key: str
    state: str
    version: int
    reason: str
    url: str
    pay_until: float
    units: int
    amount: int
    decided_at: float


class Refusal(NamedTuple):
    """A refusal, and what the buyer could rightly expect at that time."""

    ask: Ask
    word: str
    sent_at: float
    told_at: float
    quantity: int
    left: int
    """Units of the allowance that the buyer had not asked for yet, these included."""
    turn_ends: float


class Tried(NamedTuple):
    """Something that had to be refused. An empty word: it was not."""

    probe: Probe
    word: str


class Attempt:
    """One click on "buy" and all that became of it."""

    __slots__ = (
        "amount",
        "answer",
        "cards",
        "ended_at",
        "first_told_at",
        "items",
        "key",
        "order_id",
        "pay_until",
        "prompt",
        "provider_said",
        "reason",
        "sent_at",
        "state",
        "units",
        "url",
        "version",
    )

    def __init__(self, key: str, items: list[Item]) -> None:
        self.key = key
        self.items = items
        self.sent_at = 0.0
        # The first answer: an order id or a word. A repeat must get the same.
        self.answer = ""
        self.order_id = ""
        self.state = ""
        self.version = -1
        self.reason = ""
        self.first_told_at = 0.0
        self.ended_at = 0.0
        self.url = ""
        self.pay_until = 0.0
        self.cards = 0
        self.provider_said = ""
        # Paid at once by its buyer: only such orders tell how fast the system is.
        self.prompt = False
        self.units = 0
        self.amount = 0

    @property
    def accepted(self) -> bool:
        """The buyer was answered that the system took the order on; the stream names refused ones, too."""
        return bool(self.order_id) and self.answer == self.order_id

    @property
    def ended(self) -> bool:
        """Its end was told."""
        return self.state in TERMINAL

    @property
    def quantity(self) -> int:
        """Units asked for."""
        return sum(count for _, _, count in self.items)
