"""Replays inventory's changes one by one: what every unit, hold, claim, promise and buyer came to, and each
step that should have been impossible."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from catraca.events.v1 import events_pb2 as pb
from catraca.events.v1.events_pb2 import InventoryChange

from local.audit.facts import Facts, known_changes

FREE, HELD, SOLD, BLOCKED = 0, 1, 2, 3
NAMES = ("FREE", "HELD", "SOLD", "BLOCKED")


@dataclass(slots=True)
class Section:
    """One section's units and counters."""

    capacity: int = 0
    quotas: dict[str, int] = field(default_factory=dict)
    units: dict[int, int] = field(default_factory=dict)
    """State by unit; one that is absent is FREE."""
    held: int = 0
    sold: int = 0
    blocked: int = 0
    claimed: int = 0
    used: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def free(self) -> int:
        return self.capacity - self.held - self.sold - self.blocked - self.claimed

    @property
    def sellable(self) -> int:
        """What is free, and where every type has a quota no more than the quotas leave."""
        if not self.quotas or not all(self.quotas.values()):
            return self.free
        by_quota = sum(max(0, quota - self.used[kind]) for kind, quota in self.quotas.items())
        return min(self.free, by_quota)


@dataclass(slots=True)
class Buyer:
    """How many units one buyer has."""

    held: int = 0
    owned: int = 0
    claimed: int = 0

    @property
    def has(self) -> int:
        return self.held + self.owned + self.claimed


@dataclass(slots=True)
class Promise:
    """What one called buyer may still take."""

    place: int
    left: int
    live: bool


@dataclass(slots=True)
class Hold:
    """One hold with its units as (section, unit, ticket type)."""

    state: str
    units: list[tuple[str, int, str]]
    order_id: str
    place: int | None
    returned: set[tuple[str, int]] = field(default_factory=set)

    @property
    def sold_units(self) -> list[tuple[str, int]]:
        """Its units that are SOLD."""
        if self.state != "SOLD":
            return []
        return [(s, u) for s, u, _ in self.units if (s, u) not in self.returned]


@dataclass(slots=True)
class Claim:
    """Units kept for an order that waits."""

    buyer: str
    quantity: int
    lines: list[tuple[str, str, int]]
    """Section, ticket type, quantity."""
    place: int | None
    seats: list[tuple[str, int]] = field(default_factory=list)
    """The seats that it keeps, by section and unit: HELD, though nobody holds them yet."""


class Replay:
    """The ledger as its own changes tell it. `wrong` has the impossible steps by invariant."""

    def __init__(self, facts: Facts) -> None:
        self.wrong: dict[str, list[str]] = defaultdict(list)
        self.sections: dict[str, Section] = defaultdict(Section)
        self.buyers: dict[str, Buyer] = defaultdict(Buyer)
        self.promises: dict[str, Promise] = {}
        self.holds: dict[tuple[str, str], Hold] = {}
        self.claims: dict[str, Claim] = {}
        self.blocks: dict[str, set[tuple[str, int]]] = {}
        self.holds_of_order: dict[str, set[str]] = defaultdict(set)
        self.promised = self.turns = self.watermark = self.sequence = 0
        self.epoch = 0
        self.limit = facts.definition.spec.limits.per_buyer
        self._definitions = facts.definitions
        self._last_definition = facts.definition
        self._sellable = 0
        self._sellable_of: dict[str, int] = defaultdict(int)
        self._steps: dict[int, Callable[[InventoryChange], None]] = {
            pb.INVENTORY_ACT_DEFINED: self._defined,
            pb.INVENTORY_ACT_CALLED: self._called,
            pb.INVENTORY_ACT_CLAIMED: self._claimed,
            pb.INVENTORY_ACT_UNCLAIMED: self._unclaimed,
            pb.INVENTORY_ACT_HELD: self._held,
            pb.INVENTORY_ACT_PINNED: self._pinned,
            pb.INVENTORY_ACT_RELEASED: self._given_back,
            pb.INVENTORY_ACT_EXPIRED: self._given_back,
            pb.INVENTORY_ACT_LOST: self._given_back,
            pb.INVENTORY_ACT_COMMITTED: self._committed,
            pb.INVENTORY_ACT_RETURNED: self._returned,
            pb.INVENTORY_ACT_REACQUIRED: self._reacquired,
            pb.INVENTORY_ACT_LAPSED: self._lapsed,
            pb.INVENTORY_ACT_BLOCKED: self._blocked,
            pb.INVENTORY_ACT_UNBLOCKED: self._unblocked,
            pb.INVENTORY_ACT_BOUND: self._bound,
            pb.INVENTORY_ACT_REBUILT: self._rebuilt,
        }
        for change in known_changes(facts.inventory, facts.inventory_outbox, facts.inventory_store):
            step = self._steps.get(change.act)
            if step is None:
                self._say("I11", change, f"act {change.act} is not known")
            else:
                step(change)
            self.sequence = change.sequence

    def _defined(self, change: InventoryChange) -> None:
        definition = self._definitions.get(change.watermark, self._last_definition)
        self.limit = definition.spec.limits.per_buyer
        for defined in definition.spec.sections:
            section = self.sections[defined.id]
            section.capacity = defined.capacity
            section.quotas = {kind.id: kind.quota for kind in defined.ticket_types}
        self._check_stock(change, list(self.sections))

    def _called(self, change: InventoryChange) -> None:
        self.watermark = change.watermark
        if not change.buyer:
            return
        before = self.promises.get(change.buyer)
        if before is not None and before.live:
            self._say("I2", change, f"{change.buyer} was called while an earlier turn ran")
        self.promises[change.buyer] = Promise(change.place, change.quantity, change.quantity > 0)
        self.promised += change.quantity
        self.turns += change.quantity > 0
        self._check_stock(change, ())
        self._check_limit(change, change.quantity)

    def _claimed(self, change: InventoryChange) -> None:
        lines = [(item.section, item.ticket_type, item.quantity) for item in change.items]
        place = _place(change)
        if change.order_id in self.claims:
            self._say("I7", change, f"order {change.order_id} claimed twice")
        seats = [(unit.section, unit.unit) for unit in change.units]
        self.claims[change.order_id] = Claim(change.buyer, change.quantity, lines, place, seats)
        for name, unit in seats:
            self._mark(change, name, unit, HELD)
        self._spend(change, place, change.quantity)
        self.buyers[change.buyer].claimed += change.quantity
        self._count_claim(lines, 1)
        self._check_stock(change, [section for section, _, _ in lines])
        self._check_limit(change)

    def _unclaimed(self, change: InventoryChange) -> None:
        claim = self.claims.pop(change.order_id, None)
        if claim is None:
            self._say("I7", change, f"order {change.order_id} gave up a claim that it had not")
            return
        self._end_claim(claim)
        self._restore(change, claim.place, claim.quantity)
        self._check_stock(change, [section for section, _, _ in claim.lines])

    def _held(self, change: InventoryChange) -> None:
        key = (change.buyer, change.hold_id)
        if key in self.holds:
            self._say("I7", change, f"hold {change.hold_id} of {change.buyer} was made twice")
        units = [(unit.section, unit.unit, unit.ticket_type) for unit in change.units]
        place = _place(change)
        claim = self.claims.pop(change.order_id, None) if change.order_id else None
        if claim is not None:
            self._end_claim(claim)
            if claim.quantity != len(units):
                self._say(
                    "I7", change, f"order {change.order_id} claimed {claim.quantity}, held {len(units)}"
                )
            if not set(claim.seats) <= {unit[:2] for unit in units}:
                self._say("I7", change, f"order {change.order_id} claimed seats that it does not hold")
        else:
            self._spend(change, place, len(units))
        self.holds[key] = Hold("HELD", units, change.order_id, place)
        if change.order_id:
            self.holds_of_order[change.order_id].add(change.hold_id)
        self._take(change, units, HELD)
        self.buyers[change.buyer].held += len(units)
        self._check_stock(change, {section for section, _, _ in units})
        self._check_limit(change)

    def _bound(self, change: InventoryChange) -> None:
        hold = self._hold_in(change, "HELD")
        if hold is None:
            return
        if hold.order_id:
            self._say("I7", change, f"hold {change.hold_id} went from order {hold.order_id} to another")
        hold.order_id = change.order_id
        self.holds_of_order[change.order_id].add(change.hold_id)

    def _pinned(self, change: InventoryChange) -> None:
        self._hold_in(change, "HELD")

    def _given_back(self, change: InventoryChange) -> None:
        hold = self._hold_in(change, "HELD")
        if hold is None:
            return
        hold.state = pb.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_")
        self._free(hold.units, HELD)
        self.buyers[change.buyer].held -= len(hold.units)
        self._restore(change, hold.place, len(hold.units))
        self._check_stock(change, {section for section, _, _ in hold.units})

    def _committed(self, change: InventoryChange) -> None:
        hold = self._hold_in(change, "HELD")
        if hold is None:
            return
        hold.state = "SOLD"
        for section, unit, _ in hold.units:
            self.sections[section].units[unit] = SOLD
            self.sections[section].held -= 1
            self.sections[section].sold += 1
        buyer = self.buyers[change.buyer]
        buyer.held -= len(hold.units)
        buyer.owned += len(hold.units)
        self._check_stock(change, {section for section, _, _ in hold.units})

    def _returned(self, change: InventoryChange) -> None:
        hold = self._hold_in(change, "SOLD")
        if hold is None:
            return
        named = {(unit.section, unit.unit) for unit in change.units}
        going = [unit for unit in hold.units if unit[:2] in named and unit[:2] not in hold.returned]
        if len(going) != len(named):
            self._say("I1", change, f"hold {change.hold_id} returned units that it had not")
        hold.returned.update(unit[:2] for unit in going)
        if len(hold.returned) == len(hold.units):
            hold.state = "RETURNED"
        self._free(going, SOLD)
        self.buyers[change.buyer].owned -= len(going)
        self._check_stock(change, {section for section, _ in named})

    def _reacquired(self, change: InventoryChange) -> None:
        key = (change.buyer, change.hold_id)
        before = self.holds.get(key)
        gone = ("EXPIRED", "RELEASED", "RETURNED", "LOST")
        if before is not None and before.state not in gone:
            self._say("I1", change, f"hold {change.hold_id} was acquired again while it was {before.state}")
            return
        if before is not None and before.order_id not in ("", change.order_id):
            self._say("I7", change, f"hold {change.hold_id} went from order {before.order_id} to another")
        units = [(unit.section, unit.unit, unit.ticket_type) for unit in change.units]
        hold = self.holds[key] = Hold("SOLD", units, change.order_id, before.place if before else None)
        self.holds_of_order[change.order_id].add(change.hold_id)
        self._take(change, hold.units, SOLD)
        self.buyers[change.buyer].owned += len(hold.units)
        self._check_stock(change, {section for section, _, _ in hold.units})
        self._check_limit(change)

    def _lapsed(self, change: InventoryChange) -> None:
        promise = self.promises.get(change.buyer)
        if promise is None or not promise.live or promise.place != change.place:
            self._say(
                "I2", change, f"{change.buyer} lost a promise of place {change.place} that did not stand"
            )
            return
        if promise.left != change.quantity:
            self._say("I2", change, f"{change.buyer} lost {change.quantity} of {promise.left} promised")
        self.promised -= promise.left
        self.turns -= 1
        promise.left, promise.live = 0, False

    def _rebuilt(self, change: InventoryChange) -> None:
        if change.quantity <= self.epoch:
            self._say("I11", change, f"epoch {change.quantity} was begun after {self.epoch}")
        self.epoch = change.quantity

    def _blocked(self, change: InventoryChange) -> None:
        if change.block_id in self.blocks:
            self._say("I7", change, f"block {change.block_id} was made twice")
        self.blocks[change.block_id] = {(unit.section, unit.unit) for unit in change.units}
        self._take(change, [(unit.section, unit.unit, unit.ticket_type) for unit in change.units], BLOCKED)
        self._check_stock(change, {unit.section for unit in change.units})

    def _unblocked(self, change: InventoryChange) -> None:
        named = {(unit.section, unit.unit) for unit in change.units}
        if self.blocks.get(change.block_id) != named:
            self._say("I1", change, f"block {change.block_id} gave back units that it had not")
        # A block ends once: what it gave back it has no more.
        self.blocks[change.block_id] = set()
        self._free([(unit.section, unit.unit, unit.ticket_type) for unit in change.units], BLOCKED)
        self._check_stock(change, {unit.section for unit in change.units})

    def _hold_in(self, change: InventoryChange, state: str) -> Hold | None:
        act = pb.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_")
        hold = self.holds.get((change.buyer, change.hold_id))
        if hold is None or hold.state != state:
            found = "not there" if hold is None else hold.state
            self._say("I1", change, f"{act} of hold {change.hold_id} of {change.buyer}, which was {found}")
            return None
        if hold.order_id and change.order_id != hold.order_id:
            self._say("I7", change, f"{act} of hold {change.hold_id} by another order than its own")
        return hold

    def _take(self, change: InventoryChange, units: Iterable[tuple[str, int, str]], state: int) -> None:
        for name, unit, kind in units:
            section = self.sections[name]
            found = self._mark(change, name, unit, state)
            if found != FREE:
                self._count(section, found, -1)
            self._count(section, state, 1)
            if state != BLOCKED:
                section.used[kind] += 1

    def _mark(self, change: InventoryChange, name: str, unit: int, state: int) -> int:
        """Takes a unit that should be FREE to a state; answers the one that it was in."""
        section = self.sections[name]
        found = section.units.get(unit, FREE)
        if found != FREE:
            self._say("I1", change, f"unit {name}/{unit} was taken while it was {NAMES[found]}")
        if not 0 <= unit < section.capacity:
            self._say("I2", change, f"unit {name}/{unit} is beyond the capacity of {section.capacity}")
        section.units[unit] = state
        return found

    def _free(self, units: Iterable[tuple[str, int, str]], state: int) -> None:
        for name, unit, kind in units:
            section = self.sections[name]
            section.units.pop(unit, None)
            self._count(section, state, -1)
            if state != BLOCKED:
                section.used[kind] -= 1

    def _count(self, section: Section, state: int, step: int) -> None:
        if state == HELD:
            section.held += step
        elif state == SOLD:
            section.sold += step
        else:
            section.blocked += step

    def _end_claim(self, claim: Claim) -> None:
        self.buyers[claim.buyer].claimed -= claim.quantity
        for name, unit in claim.seats:
            self.sections[name].units.pop(unit, None)
        self._count_claim(claim.lines, -1)

    def _count_claim(self, lines: Iterable[tuple[str, str, int]], sign: int) -> None:
        for name, kind, quantity in lines:
            section = self.sections[name]
            section.claimed += sign * quantity
            section.used[kind] += sign * quantity

    def _spend(self, change: InventoryChange, place: int | None, quantity: int) -> None:
        """Takes from the buyer's promise, where the taking names its place."""
        if place is None:
            return
        promise = self.promises.get(change.buyer)
        if promise is None or not promise.live or promise.place != place or promise.left < quantity:
            self._say("I2", change, f"{change.buyer} took {quantity} at place {place} without such a promise")
            return
        promise.left -= quantity
        self.promised -= quantity

    def _restore(self, change: InventoryChange, place: int | None, quantity: int) -> None:
        if not change.restored:
            return
        promise = self.promises.get(change.buyer)
        if promise is None or not promise.live or promise.place != place or change.restored > quantity:
            self._say(
                "I2", change, f"{change.buyer} got {change.restored} back to a promise that did not stand"
            )
            return
        promise.left += change.restored
        self.promised += change.restored

    def _check_stock(self, change: InventoryChange, touched: Iterable[str]) -> None:
        for name in touched:
            section = self.sections[name]
            sellable = section.sellable
            self._sellable += sellable - self._sellable_of[name]
            self._sellable_of[name] = sellable
            if section.free < 0 or min(section.held, section.sold, section.blocked, section.claimed) < 0:
                counted = (
                    f"{section.held} held, {section.sold} sold, {section.claimed} claimed, "
                    f"{section.blocked} blocked of {section.capacity}"
                )
                self._say("I2", change, f"section {name} came to {counted}")
        if not 0 <= self.promised <= max(0, self._sellable):
            self._say("I2", change, f"{self.promised} promised where {self._sellable} are free to sell")

    def _check_limit(self, change: InventoryChange, more: int = 0) -> None:
        has = self.buyers[change.buyer].has + more
        if has > self.limit:
            self._say("I3", change, f"{change.buyer} came to {has} units, where {self.limit} is the limit")

    def _say(self, invariant: str, change: InventoryChange, sentence: str) -> None:
        self.wrong[invariant].append(f"inventory change {change.sequence}: {sentence}")


def _place(change: InventoryChange) -> int | None:
    return change.place if change.HasField("place") else None
