"""What a rush is made of: how many buyers and tickets, how fast, and how people behave."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Habits:
    """How large a share of all buyers behaves in each way. What is left over simply waits, buys and pays."""

    late: float = 0.08
    """Arrives after the opening, and so stands behind the draw."""
    leaves_lobby: float = 0.01
    """Leaves the lobby and comes back before the opening: the place must be the same."""
    leaves_line: float = 0.03
    """Gives up while waiting, and tells."""
    joins_twice: float = 0.03
    """Reloads the page: joins again, and must get the same place."""
    lapses_unseen: float = 0.02
    """Is called and never comes. Half of them join again afterwards."""
    lapses_admitted: float = 0.02
    """Enters, lets the turn end, and then tries to hold and to order all the same."""
    holds_first: float = 0.08
    """Holds units first and orders the hold."""
    holds_releases: float = 0.04
    """Holds units, gives them back, and orders after all."""
    clicks_twice: float = 0.06
    """Sends the same order twice at once: must get the same order."""
    changes_body: float = 0.01
    """Sends another order under the key of the first: must be refused."""
    orders_twice: float = 0.05
    """Places a second order with what is left of the allowance."""
    cancels: float = 0.02
    """Cancels instead of paying."""
    declined_once: float = 0.05
    """The first card is declined, the second one pays."""
    declined: float = 0.01
    """The only card is declined."""
    pays_late: float = 0.015
    """Pays after the deadline."""
    never_pays: float = 0.02
    """Orders and goes away."""
    walks_away: float = 0.3
    """Buys less than the allowance and does not say that this was all."""
    forges: float = 0.01
    """Tries to hold with an admission that was tampered with."""
    intrudes: float = 0.004
    """Tries to hold with no admission: a third before the opening, a third while it waits, a third with the
    admission of someone else."""
    reconnects: float = 0.2
    """Direct buyers only: loses the connection while it waits for the outcome."""


@dataclass(frozen=True)
class RushSettings:
    """One run. Durations are short so that a sale with all its misfortunes fits into two minutes."""

    buyers: int = 20_000
    tickets: int = 1_000
    seed: int = 1
    direct: int = 200
    """Buyers with a token and calls of their own; all others come through BFFs."""
    bffs: int = 4
    """BFFs, each with one connection to every service for all of its buyers."""
    limit: int = 4
    """Units per buyer."""
    lobby_s: float = 6.0
    """From the definition to the opening."""
    spread_s: float = 0.0
    """Over how long the lobby's buyers arrive; 0: all at once, as on a release night."""
    late_s: float = 10.0
    """Over how long the late ones arrive after the opening."""
    rate: float = 0.0
    """Buyers called per second at most; 0: as fast as they can be promised something."""
    turn_s: float = 8.0
    think_s: float = 1.5
    """An admitted buyer takes up to this long for each decision. Well within the turn."""
    payment_window_s: float = 8.0
    grace_s: float = 3.0
    queue_max_s: float = 60.0
    open_s: float = 3_600.0
    """From the opening to the close; a rush ends long before."""
    timeout_s: float = 300.0
    """After this long without having ended, the run is given up as failed."""
    sampled_orders: int = 500
    """Orders whose state on the stream is compared with GetOrder at the end."""
    sampled_places: int = 200
    """Places of the draw that are recomputed from what is published."""
    habits: Habits = field(default_factory=Habits)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RushSettings":
        """From what `to_json` gave."""
        return cls(**values | {"habits": Habits(**values["habits"])})


@dataclass(frozen=True)
class Plan:
    """All that the process which plays the crowd has to know."""

    settings: RushSettings
    sale: str
    targets: dict[str, str]
    certificate: dict[str, str]
    issuer: str
    issuer_key_file: str
    sections: list[list[Any]]
    """Of each section: id, capacity, and its ticket types with their prices."""

    def dumps(self) -> str:
        """As JSON, for the other process."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Plan":
        """From what `dumps` gave."""
        values = json.loads(text)
        return cls(**values | {"settings": RushSettings.from_json(values["settings"])})
