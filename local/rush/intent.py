"""What buyers know of the sale, and what they mean to do at a time."""

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from local.rush.record import Ask, Attempt, Probe
from local.rush.shop import Item, Offer

if TYPE_CHECKING:
    from local.rush.buyer import Buyer


class Stage(IntEnum):
    """Where a buyer is."""

    AWAY = 0
    WAITING = 1
    LEAVING = 2
    CALLED = 3
    ADMITTED = 4
    LAPSED = 5
    GONE = 6


class World(NamedTuple):
    """What every buyer knows of the sale."""

    run: str
    """Makes keys unique among runs."""
    opens_at: float
    turn_s: float
    think_s: float
    offers: list[Offer]
    stock: dict[str, int]
    """What is left by section, as last read; shared and changed from outside."""


class Do:
    """Something a buyer does at a time: an ask and what goes with it."""

    __slots__ = (
        "admission",
        "ask",
        "at",
        "attempt",
        "buyer",
        "card",
        "hold_id",
        "items",
        "only_while",
        "probe",
        "sent_at",
        "tries",
    )

    def __init__(self, at: float, ask: Ask, buyer: "Buyer", only_while: Stage | None = None) -> None:
        self.at = at
        self.ask = ask
        self.buyer = buyer
        self.only_while = only_while
        """Forgotten where the buyer is at another stage by then."""
        self.attempt: Attempt | None = None
        self.items: list[Item] = []
        self.hold_id = ""
        self.admission = ""
        self.card = ""
        self.probe = Probe.NONE
        self.sent_at = 0.0
        self.tries = 0

    def __lt__(self, other: "Do") -> bool:
        return self.at < other.at
