"""Who the simulated buyers are: wants and habits, which follow from the seed and a buyer's number."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from local.rush.settings import RushSettings

# How many units people come for: two is company.
WANTS = ((1, 0.25), (2, 0.45), (3, 0.12), (4, 0.18))
DRAWS = struct.Struct("<10I")
FULL = float(2**32)


class Line(IntEnum):
    """How one stands in line."""

    WAITS = 0
    LEAVES_LOBBY = 1
    LEAVES_LINE = 2
    JOINS_TWICE = 3
    LAPSES_UNSEEN = 4
    LAPSES_ADMITTED = 5


class Buy(IntEnum):
    """How one orders."""

    ORDERS = 0
    HOLDS_FIRST = 1
    HOLDS_RELEASES = 2
    CLICKS_TWICE = 3
    CHANGES_BODY = 4
    ORDERS_TWICE = 5


class Pay(IntEnum):
    """How one pays."""

    PAYS = 0
    DECLINED_ONCE = 1
    DECLINED = 2
    PAYS_LATE = 3
    NEVER_PAYS = 4
    CANCELS = 5


class Trick(IntEnum):
    """What one tries that must not succeed."""

    NONE = 0
    FORGED = 1
    BEFORE_OPENING = 2
    NO_ADMISSION = 3
    FOREIGN = 4


@dataclass(frozen=True, slots=True)
class Person:
    """One buyer's intentions."""

    late: bool
    arrives: float
    """When within the lobby's or the late ones' span: 0 to 1."""
    patience: float
    """How quickly they decide: 0 to 1."""
    wants: int
    taste: float
    """Which section and ticket type they look at first: 0 to 1."""
    line: Line
    buy: Buy
    pay: Pay
    trick: Trick
    walks_away: bool
    again: bool
    """Joins again after a turn that lapsed."""
    reconnects: bool


def person(settings: RushSettings, number: int) -> Person:
    """The buyer with this number; the same for the same seed."""
    digest = blake2b(f"{settings.seed}/{number}".encode(), digest_size=DRAWS.size).digest()
    u = [value / FULL for value in DRAWS.unpack(digest)]
    h = settings.habits
    late = u[0] < h.late
    line = _pick(
        u[1],
        # Who comes after the opening finds no lobby to leave.
        (Line.LEAVES_LOBBY, 0.0 if late else h.leaves_lobby),
        (Line.LEAVES_LINE, h.leaves_line),
        (Line.JOINS_TWICE, h.joins_twice),
        (Line.LAPSES_UNSEEN, h.lapses_unseen),
        (Line.LAPSES_ADMITTED, h.lapses_admitted),
    )
    buy = _pick(
        u[2],
        (Buy.HOLDS_FIRST, h.holds_first),
        (Buy.HOLDS_RELEASES, h.holds_releases),
        (Buy.CLICKS_TWICE, h.clicks_twice),
        (Buy.CHANGES_BODY, h.changes_body),
        (Buy.ORDERS_TWICE, h.orders_twice),
    )
    pay = _pick(
        u[3],
        (Pay.DECLINED_ONCE, h.declined_once),
        (Pay.DECLINED, h.declined),
        (Pay.PAYS_LATE, h.pays_late),
        (Pay.NEVER_PAYS, h.never_pays),
        (Pay.CANCELS, h.cancels),
    )
    trick = _pick(
        u[4],
        (Trick.FORGED, h.forges),
        (Trick.BEFORE_OPENING, 0.0 if late else h.intrudes / 3),
        (Trick.NO_ADMISSION, h.intrudes / 3),
        (Trick.FOREIGN, h.intrudes / 3),
    )
    return Person(
        late=late,
        arrives=u[5],
        patience=u[6],
        wants=min(_pick(u[7], *WANTS) or WANTS[-1][0], settings.limit),
        taste=u[8],
        line=Line(line),
        buy=Buy(buy),
        pay=Pay(pay),
        trick=Trick(trick),
        walks_away=u[9] < h.walks_away,
        # The lowest byte of a draw says nothing about the share its high bytes fall into.
        again=digest[0] & 1 == 1,
        reconnects=(digest[4] / 256) < h.reconnects,
    )


def _pick(u: float, *shares: tuple[int, float]) -> int:
    """The choice whose share `u` falls into; 0 where it falls behind all of them."""
    for choice, share in shares:
        if u < share:
            return choice
        u -= share
    return 0
