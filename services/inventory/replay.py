"""What a sale's published changes come to: every unit, hold, claim and promise. Pure: no I/O, no clock."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem

UnitId = tuple[str, int]
HoldId = tuple[str, str]
"""Buyer and hold id."""


@dataclass(slots=True)
class Hold:
    """One hold as its changes left it."""

    buyer: str
    hold_id: str
    state: str
    units: list[HeldUnit]
    ends_ms: int
    order_id: str = ""
    place: int | None = None
    pinned: bool = False
    waiting: bool = False
    """It was bound to an order that no worker has taken on."""
    returned: set[UnitId] = field(default_factory=set)

    @property
    def standing(self) -> list[HeldUnit]:
        """The units that it keeps from others."""
        if self.state not in ("HELD", "SOLD"):
            return []
        return [unit for unit in self.units if id_of(unit) not in self.returned]


@dataclass(slots=True)
class Claim:
    """One order's claim: OPEN, SPENT, BOUND, or EXPIRED or RELEASED where it ended without a hold."""

    order_id: str
    buyer: str
    state: str
    lines: list[HoldItem]
    quantity: int
    ends_ms: int
    place: int | None = None
    hold_id: str = ""
    """Where it bound a hold of the buyer's."""
    kept: list[HeldUnit] = field(default_factory=list)
    """The seats that it keeps, line after line; none of a standing section."""


@dataclass(slots=True)
class Block:
    """Units that the organiser took out of the sale, BLOCKED or UNBLOCKED."""

    block_id: str
    state: str
    units: list[HeldUnit]


@dataclass(slots=True)
class Promise:
    """A buyer's latest promise; `state` is PROMISED, LAPSED or FINISHED."""

    place: int
    allowance: int
    left: int
    called_at_ms: int
    turn_ends_ms: int
    state: str
    ended_ms: int = 0


@dataclass(slots=True)
class Has:
    """How many units one buyer has."""

    held: int = 0
    owned: int = 0
    claimed: int = 0

    @property
    def total(self) -> int:
        return self.held + self.owned + self.claimed


class Replay:
    """The ledger as its changes tell it. `apply` takes them in their order; none is judged.

    Unlike the audit's, this one is part of what it is about: a store is filled again from it.
    """

    def __init__(self) -> None:
        self.sequence = self.at_ms = self.watermark = self.revision = 0
        self.holds: dict[HoldId, Hold] = {}
        self.claims: dict[str, Claim] = {}
        self.promises: dict[str, Promise] = {}
        self.blocks: dict[str, Block] = {}
        self.blocked: dict[UnitId, Block] = {}
        """Which block has each unit that is BLOCKED."""
        self.has: dict[str, Has] = defaultdict(Has)
        self.taken: dict[UnitId, HoldId] = {}
        """Which hold has each unit that is HELD or SOLD."""
        self.kept: dict[UnitId, str] = {}
        """Which order's claim keeps each seat that is HELD, though nobody holds it yet."""
        self.out: dict[str, int] = defaultdict(int)
        """Units taken or blocked by section."""
        self.promised = 0
        self.claimed: dict[str, int] = defaultdict(int)
        """Units claimed by section."""
        self.used: dict[tuple[str, str], int] = defaultdict(int)
        """Units of a section held, sold or claimed by ticket type."""

    def apply(self, change: pb.InventoryChange) -> None:
        """Take in the next change."""
        step = _STEPS.get(change.act)
        if step is not None:
            step(self, change)
        self.sequence = change.sequence
        self.at_ms = max(self.at_ms, change.at_ms)

    def hold_of(self, order_id: str, buyer: str, hold_id: str) -> Hold | None:
        """The hold that an order has, if the ledger knows that it is the order's."""
        hold = self.holds.get((buyer, hold_id))
        return hold if hold is not None and hold.order_id == order_id else None

    # ---- the steps ----

    def _defined(self, change: pb.InventoryChange) -> None:
        self.revision = change.watermark

    def _called(self, change: pb.InventoryChange) -> None:
        self.watermark = change.watermark
        if not change.buyer:
            return
        promise = Promise(
            place=change.place,
            allowance=change.quantity,
            left=change.quantity,
            called_at_ms=change.at_ms,
            turn_ends_ms=change.until_ms,
            state="PROMISED" if change.quantity else "FINISHED",
            ended_ms=0 if change.quantity else change.at_ms,
        )
        self.promises[change.buyer] = promise
        self.promised += change.quantity

    def _claimed(self, change: pb.InventoryChange) -> None:
        claim = Claim(
            order_id=change.order_id,
            buyer=change.buyer,
            state="OPEN",
            lines=list(change.items),
            quantity=change.quantity,
            ends_ms=change.until_ms,
            place=_place(change),
            kept=list(change.units),
        )
        self.claims[change.order_id] = claim
        self._spend(change.buyer, claim.place, claim.quantity)
        self._count_claim(claim, 1)

    def _unclaimed(self, change: pb.InventoryChange) -> None:
        claim = self.claims[change.order_id]
        self._count_claim(claim, -1)
        claim.state = "EXPIRED" if change.at_ms >= claim.ends_ms else "RELEASED"
        self._restore(change)

    def _held(self, change: pb.InventoryChange) -> None:
        place = _place(change)
        claim = self.claims.get(change.order_id) if change.order_id else None
        if claim is not None and claim.state == "OPEN":
            self._count_claim(claim, -1)
            claim.state = "SPENT"
        else:
            self._spend(change.buyer, place, len(change.units))
        self._take(
            Hold(
                buyer=change.buyer,
                hold_id=change.hold_id,
                state="HELD",
                units=list(change.units),
                ends_ms=change.until_ms,
                order_id=change.order_id,
                place=place,
            )
        )

    def _bound(self, change: pb.InventoryChange) -> None:
        hold = self.holds[change.buyer, change.hold_id]
        hold.order_id, hold.ends_ms, hold.waiting = change.order_id, change.until_ms, True
        self.claims[change.order_id] = Claim(
            order_id=change.order_id,
            buyer=change.buyer,
            state="BOUND",
            lines=[],
            quantity=0,
            ends_ms=change.until_ms,
            hold_id=change.hold_id,
        )

    def _pinned(self, change: pb.InventoryChange) -> None:
        hold = self.holds[change.buyer, change.hold_id]
        hold.ends_ms, hold.pinned, hold.waiting = change.until_ms, True, False

    def _given_back(self, change: pb.InventoryChange) -> None:
        hold = self.holds[change.buyer, change.hold_id]
        self._free(hold, hold.standing)
        hold.state = act_of(change)
        self._restore(change)

    def _committed(self, change: pb.InventoryChange) -> None:
        hold = self.holds[change.buyer, change.hold_id]
        hold.state = "SOLD"
        has = self.has[hold.buyer]
        has.held -= len(hold.units)
        has.owned += len(hold.units)

    def _returned(self, change: pb.InventoryChange) -> None:
        hold = self.holds[change.buyer, change.hold_id]
        named = {id_of(unit) for unit in change.units} - hold.returned
        self._free(hold, [unit for unit in hold.units if id_of(unit) in named])
        hold.returned |= named
        if len(hold.returned) == len(hold.units):
            hold.state = "RETURNED"

    def _reacquired(self, change: pb.InventoryChange) -> None:
        before = self.holds.get((change.buyer, change.hold_id))
        hold = Hold(
            buyer=change.buyer,
            hold_id=change.hold_id,
            state="SOLD",
            units=list(change.units),
            ends_ms=before.ends_ms if before else change.at_ms,
            order_id=change.order_id,
        )
        self._take(hold)

    def _lapsed(self, change: pb.InventoryChange) -> None:
        promise, has = self.promises[change.buyer], self.has[change.buyer]
        self.promised -= promise.left
        # The ledger ends a turn before its time where nothing of it is left: all was bought.
        done = not change.quantity and change.at_ms < promise.turn_ends_ms and not has.held + has.claimed
        promise.left, promise.state = 0, "FINISHED" if done else "LAPSED"
        promise.ended_ms = min(change.at_ms, promise.turn_ends_ms)

    def _blocked(self, change: pb.InventoryChange) -> None:
        block = Block(change.block_id, "BLOCKED", list(change.units))
        self.blocks[block.block_id] = block
        for unit in block.units:
            self.out[unit.section] += id_of(unit) not in self.blocked
            self.blocked[id_of(unit)] = block

    def _unblocked(self, change: pb.InventoryChange) -> None:
        self.blocks[change.block_id].state = "UNBLOCKED"
        for unit in change.units:
            self.out[unit.section] -= self.blocked.pop(id_of(unit), None) is not None

    # ---- what they share ----

    def _take(self, hold: Hold) -> None:
        self.holds[hold.buyer, hold.hold_id] = hold
        has = self.has[hold.buyer]
        if hold.state == "HELD":
            has.held += len(hold.units)
        else:
            has.owned += len(hold.units)
        for unit in hold.units:
            self.out[unit.section] += id_of(unit) not in self.taken
            self.taken[id_of(unit)] = (hold.buyer, hold.hold_id)
            self.used[unit.section, unit.ticket_type] += 1

    def _free(self, hold: Hold, units: Iterable[HeldUnit]) -> None:
        has = self.has[hold.buyer]
        for unit in units:
            self.out[unit.section] -= self.taken.pop(id_of(unit), None) is not None
            self.used[unit.section, unit.ticket_type] -= 1
            if hold.state == "HELD":
                has.held -= 1
            else:
                has.owned -= 1

    def _count_claim(self, claim: Claim, sign: int) -> None:
        self.has[claim.buyer].claimed += sign * claim.quantity
        for line in claim.lines:
            self.claimed[line.section] += sign * line.quantity
            self.used[line.section, line.ticket_type] += sign * line.quantity
        for unit in claim.kept:
            if sign > 0:
                self.kept[id_of(unit)] = claim.order_id
            else:
                self.kept.pop(id_of(unit), None)

    def _spend(self, buyer: str, place: int | None, quantity: int) -> None:
        promise = self.promises.get(buyer) if place is not None else None
        if promise is not None and promise.place == place and promise.state == "PROMISED":
            promise.left -= quantity
            self.promised -= quantity

    def _restore(self, change: pb.InventoryChange) -> None:
        if change.restored:
            self.promises[change.buyer].left += change.restored
            self.promised += change.restored


_STEPS: Mapping[int, Callable[[Replay, pb.InventoryChange], None]] = {
    pb.INVENTORY_ACT_DEFINED: Replay._defined,
    pb.INVENTORY_ACT_CALLED: Replay._called,
    pb.INVENTORY_ACT_CLAIMED: Replay._claimed,
    pb.INVENTORY_ACT_UNCLAIMED: Replay._unclaimed,
    pb.INVENTORY_ACT_HELD: Replay._held,
    pb.INVENTORY_ACT_PINNED: Replay._pinned,
    pb.INVENTORY_ACT_RELEASED: Replay._given_back,
    pb.INVENTORY_ACT_EXPIRED: Replay._given_back,
    pb.INVENTORY_ACT_LOST: Replay._given_back,
    pb.INVENTORY_ACT_COMMITTED: Replay._committed,
    pb.INVENTORY_ACT_RETURNED: Replay._returned,
    pb.INVENTORY_ACT_REACQUIRED: Replay._reacquired,
    pb.INVENTORY_ACT_LAPSED: Replay._lapsed,
    pb.INVENTORY_ACT_BLOCKED: Replay._blocked,
    pb.INVENTORY_ACT_UNBLOCKED: Replay._unblocked,
    pb.INVENTORY_ACT_BOUND: Replay._bound,
}


def id_of(unit: HeldUnit) -> UnitId:
    """Section and number."""
    return unit.section, unit.unit


def act_of(change: pb.InventoryChange) -> str:
    """The act's name without its prefix: for what ends a hold also the hold's state."""
    return pb.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_")


def _place(change: pb.InventoryChange) -> int | None:
    return change.place if change.HasField("place") else None
