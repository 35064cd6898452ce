"""Two ledgers behind checkout's port: one in memory that breaks at will, and inventory's own on Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1.sale_pb2 import Sale

from services.checkout.saga import now_ms
from services.inventory import rules, translate
from services.inventory.store import Store
from services.kit.errors import Refusal


class InventoryLedger:
    """Inventory's store in this process: its scripts on the real Redis, without gRPC in between."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def apply(self, sale: str, commands: Sequence[pb.Command]) -> list[pb.Result]:
        """Run commands in their order."""
        results = await self._store.submit_many(sale, [rules.command_of(command) for command in commands])
        answer = pb.ApplyResponse()
        for result in results:
            translate.fill_result(answer.results.add(), result)
        return list(answer.results)

    async def counts(self, sale: str) -> dict[str, int]:
        """Units by state."""
        counts = (await self._store.submit(sale, {"op": "ledger"}))["ledger"]["counts"]
        return {name: counts[name] for name in ("free", "held", "sold")}


@dataclass
class _Hold:
    buyer: str
    order_id: str
    units: list[pb.HeldUnit]
    ends_ms: int
    state: str = "HELD"

    def shown(self, hold_id: str) -> pb.Hold:
        state = pb.HoldState.Value(f"HOLD_STATE_{self.state}")
        return pb.Hold(hold_id=hold_id, state=state, units=self.units, order_id=self.order_id)


@dataclass
class _Claim:
    word: str
    items: list[Any]
    ends_ms: int
    state: str = "OPEN"


@dataclass
class MemoryLedger:
    """A sale without a line, as inventory keeps it; its clock can be moved and its answers can fail."""

    sale: Sale
    skew_ms: int = 0
    fail: Callable[[pb.Command], Exception | None] = lambda _: None
    claims: dict[str, _Claim] = field(default_factory=dict)
    holds: dict[tuple[str, str], _Hold] = field(default_factory=dict)
    taken: dict[str, set[int]] = field(default_factory=dict)

    async def apply(self, sale: str, commands: Sequence[pb.Command]) -> list[pb.Result]:
        """Run commands in their order."""
        for command in commands:
            if (problem := self.fail(command)) is not None:
                raise problem
        return [self._run(command) for command in commands]

    async def counts(self, sale: str) -> dict[str, int]:
        """Units by state."""
        self._expire()
        of_state = {
            state: sum(len(hold.units) for hold in self.holds.values() if hold.state == state)
            for state in ("HELD", "SOLD")
        }
        capacity = sum(section.capacity for section in self.sale.spec.sections)
        used = sum(of_state.values())
        return {"free": capacity - used, "held": of_state["HELD"], "sold": of_state["SOLD"]}

    @property
    def now_ms(self) -> int:
        return now_ms() + self.skew_ms

    def _run(self, command: pb.Command) -> pb.Result:
        self._expire()
        name = command.WhichOneof("command")
        assert name is not None
        result = getattr(self, f"_{name}")(getattr(command, name))
        result.at_ms = self.now_ms
        return result

    def _expire(self) -> None:
        for claim in self.claims.values():
            if claim.state == "OPEN" and claim.ends_ms <= self.now_ms:
                claim.state = "EXPIRED"
        for hold in self.holds.values():
            if hold.state == "HELD" and hold.ends_ms <= self.now_ms:
                self._free(hold, "EXPIRED")

    def _left(self, section: str) -> int:
        capacity = next(each.capacity for each in self.sale.spec.sections if each.id == section)
        claimed = sum(
            item.quantity
            for claim in self.claims.values()
            if claim.word == "CLAIMED" and claim.state == "OPEN"
            for item in claim.items
            if item.section == section
        )
        return int(capacity - len(self.taken.get(section, ())) - claimed)

    def _claim(self, command: pb.ClaimCommand) -> pb.Result:
        if command.order_id not in self.claims:
            word = self._claim_word(command)
            ends_ms = self.now_ms + self.sale.spec.orders.queue_max.ToMilliseconds()
            self.claims[command.order_id] = _Claim(word, list(command.items), ends_ms)
            if command.hold_id and word == "CLAIMED":
                self.holds[command.buyer, command.hold_id].order_id = command.order_id
        return pb.Result(word=self.claims[command.order_id].word)

    def _claim_word(self, command: pb.ClaimCommand) -> str:
        if command.hold_id:
            hold = self.holds.get((command.buyer, command.hold_id))
            return "HOLD_NOT_FOUND" if hold is None else "HOLD_BOUND" if hold.order_id else "CLAIMED"
        known = {section.id for section in self.sale.spec.sections}
        if any(item.section not in known for item in command.items):
            return "SECTION_NOT_FOUND"
        if any(self._left(item.section) < item.quantity for item in command.items):
            return "SOLD_OUT"
        return "CLAIMED"

    def _hold(self, command: pb.HoldCommand) -> pb.Result:
        key = command.buyer, command.hold_id
        if key not in self.holds:
            claim = self.claims[command.order_id]
            if claim.word != "CLAIMED":
                return pb.Result(word=claim.word)
            if claim.state != "OPEN":
                return pb.Result(word="QUEUE_TIMEOUT" if claim.state == "EXPIRED" else "HOLD_RELEASED")
            claim.state = "SPENT"
            units = [unit for item in claim.items for unit in self._take(item)]
            ends_ms = self.now_ms + self.sale.spec.holds.duration.ToMilliseconds()
            self.holds[key] = _Hold(command.buyer, command.order_id, units, ends_ms)
        hold = self.holds[key]
        if hold.state != "HELD":
            return pb.Result(word="HOLD_EXPIRED" if hold.state == "EXPIRED" else "HOLD_RELEASED")
        return pb.Result(word="HELD", hold=hold.shown(command.hold_id))

    def _pin(self, command: pb.PinCommand) -> pb.Result:
        hold = self.holds[command.buyer, command.hold_id]
        if hold.state != "HELD":
            return pb.Result(word="HOLD_EXPIRED" if hold.state == "EXPIRED" else "HOLD_RELEASED")
        hold.ends_ms = max(hold.ends_ms, command.until_ms)
        return pb.Result(word="PINNED")

    def _commit(self, command: pb.CommitCommand) -> pb.Result:
        hold = self.holds[command.buyer, command.hold_id]
        if hold.state not in ("HELD", "SOLD"):
            return pb.Result(word="HOLD_EXPIRED" if hold.state == "EXPIRED" else "HOLD_RELEASED")
        hold.state = "SOLD"
        return pb.Result(word="COMMITTED")

    def _release(self, command: pb.ReleaseCommand) -> pb.Result:
        hold = self.holds.get((command.buyer, command.hold_id))
        if hold is None:
            claim = self.claims.get(command.order_id)
            if claim is None or claim.word != "CLAIMED":
                return pb.Result(word="HOLD_NOT_FOUND")
            claim.state = "RELEASED" if claim.state == "OPEN" else claim.state
            return pb.Result(word="RELEASED")
        if hold.order_id != command.order_id or hold.state in ("SOLD", "RETURNED"):
            return pb.Result(word="HOLD_BOUND")
        if hold.state == "HELD":
            self._free(hold, "RELEASED")
        return pb.Result(word="HOLD_EXPIRED" if hold.state == "EXPIRED" else "RELEASED")

    def _reacquire(self, command: pb.ReacquireCommand) -> pb.Result:
        hold = self.holds.get((command.buyer, command.hold_id))
        if hold is None or hold.state != "SOLD":
            if any(unit.unit in self.taken.get(unit.section, ()) for unit in command.units):
                return pb.Result(word="SECTION_SOLD_OUT")
            for unit in command.units:
                self.taken.setdefault(unit.section, set()).add(unit.unit)
            hold = _Hold(command.buyer, command.order_id, list(command.units), self.now_ms, "SOLD")
            self.holds[command.buyer, command.hold_id] = hold
        return pb.Result(word="REACQUIRED", hold=hold.shown(command.hold_id))

    def sell_out(self) -> None:
        """Somebody else takes all that is free now."""
        self._expire()
        for section in self.sale.spec.sections:
            self.taken[section.id] = set(range(section.capacity))

    def _return(self, command: pb.ReturnCommand) -> pb.Result:
        hold = self.holds.get((command.buyer, command.hold_id))
        if hold is None:
            return pb.Result(word="HOLD_NOT_FOUND")
        if hold.order_id != command.order_id or hold.state not in ("SOLD", "RETURNED"):
            return pb.Result(word="HOLD_BOUND")
        if hold.state == "SOLD":
            self._free(hold, "RETURNED")
        return pb.Result(word="RETURNED")

    def _take(self, item: pb.HoldItem) -> list[pb.HeldUnit]:
        section = next(each for each in self.sale.spec.sections if each.id == item.section)
        type = section.ticket_types[0]
        taken = self.taken.setdefault(item.section, set())
        free = [unit for unit in range(section.capacity) if unit not in taken][: item.quantity]
        taken.update(free)
        return [
            pb.HeldUnit(section=item.section, unit=unit, ticket_type=type.id, price=type.price)
            for unit in free
        ]

    def _free(self, hold: _Hold, state: str) -> None:
        hold.state = state
        for unit in hold.units:
            self.taken[unit.section].discard(unit.unit)


def down(_: pb.Command) -> Exception:
    """What a ledger answers that does not answer."""
    return Refusal("UNAVAILABLE")
