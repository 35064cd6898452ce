"""The ledger's rules once more, as plainly as they can be said: what the script is compared with.

Units are counted and only seats are numbered, everything is found by looking at everything, and time is an
argument.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.integration.inventory.model_seats import Reserved, Seating, Taken, Unit, apart, side_by_side

Lines = list[tuple[str, str, int]]
Answer = dict[str, Any]


@dataclass
class Promise:
    place: int
    allowance: int
    left: int
    ends: int
    state: str = "PROMISED"
    ended: int = 0
    holds: int = 0


@dataclass
class Claim:
    buyer: str
    asked: object
    word: str
    detail: Answer | None = None
    state: str = "OPEN"
    place: int | None = None
    lines: Lines = field(default_factory=list)
    seats: list[Unit] = field(default_factory=list)
    ends: int = 0
    hold_id: str | None = None

    @property
    def quantity(self) -> int:
        return sum(quantity for _, _, quantity in self.lines)


@dataclass
class Hold:
    buyer: str
    hold_id: str
    asked: object
    lines: Lines
    seats: list[Unit]
    ends: int
    place: int | None
    order_id: str | None = None
    state: str = "HELD"
    pinned: bool = False
    waiting: bool = False

    @property
    def quantity(self) -> int:
        return sum(quantity for _, _, quantity in self.lines)


@dataclass
class Block:
    asked: object
    quantities: dict[str, int]
    seats: list[Unit]
    state: str = "BLOCKED"


def asked_for(items: Any) -> str:
    """The same for the same items, in whatever order their fields were written."""
    return repr([sorted(item.items()) for item in items])


class Model:
    """One sale. Moments are milliseconds since the sale's start."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.define(definition)
        self.now = 0
        self.watermark = 0
        self.promises: dict[str, Promise] = {}
        self.claims: dict[str, Claim] = {}
        self.holds: dict[tuple[str, str], Hold] = {}
        self.made: dict[str, tuple[int, int]] = {}
        self.blocks: dict[str, Block] = {}

    def define(self, definition: dict[str, Any]) -> None:
        self.definition = definition
        self.sections = {each["id"]: each for each in definition["sections"]}
        self.seatings = {
            each["id"]: Seating(each["layout"]) for each in definition["sections"] if "layout" in each
        }

    # ---- what is counted ----

    def open_claims(self) -> list[Claim]:
        return [claim for claim in self.claims.values() if claim.state == "OPEN" and claim.word == "CLAIMED"]

    def held(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.state == "HELD"]

    def sold(self) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.state == "SOLD"]

    def live(self) -> list[Promise]:
        return [promise for promise in self.promises.values() if promise.state == "PROMISED"]

    def taken(self, section: str, kind: str | None = None) -> int:
        lines = [line for each in (*self.open_claims(), *self.held(), *self.sold()) for line in each.lines]
        return sum(q for s, k, q in lines if s == section and kind in (None, k))

    def blocked(self, section: str) -> int:
        return sum(b.quantities.get(section, 0) for b in self.blocks.values() if b.state == "BLOCKED")

    def free(self, section: str) -> int:
        return int(self.sections[section]["capacity"]) - self.taken(section) - self.blocked(section)

    def occupied(self, section: str) -> dict[int, int]:
        """The seats that are not free, with the state that the map has of them."""
        found: dict[int, int] = {}
        kept = [*self.open_claims(), *self.held()]
        blocks = [block for block in self.blocks.values() if block.state == "BLOCKED"]
        for state, those in ((1, kept), (2, self.sold()), (3, blocks)):
            found |= {unit: state for each in those for s, unit in each.seats if s == section}
        return found

    def released(self) -> bool:
        return "release_ms" in self.definition and self.now >= self.definition["release_ms"]

    def reserved_free(self, section: str, use: str | None = None) -> int:
        """Free accessible and companion seats."""
        seating = self.seatings.get(section)
        if seating is None:
            return 0
        uses = (use,) if use else ("ACCESSIBLE", "COMPANION")
        taken = self.occupied(section)
        return sum(seating.use_of(unit) in uses for unit in seating.units() if unit not in taken)

    def kept_back(self, section: str) -> int:
        """Units that those who hold accessible or companion seats may have back instead."""
        if not self.definition["line"] or self.released() or section not in self.seatings:
            return 0
        seating, taken = self.seatings[section], self.occupied(section)
        return sum(seating.use_of(unit) != "ORDINARY" for unit, state in taken.items() if state == 1)

    def left_of_type(self, section: str, kind: str) -> int:
        definition = self.sections[section]
        quota = next(each["quota"] for each in definition["types"] if each["id"] == kind)
        free = self.free(section)
        return min(free, quota - self.taken(section, kind)) if quota else free

    def left(self, section: str, use: str | None = None) -> int:
        if use:
            return self.reserved_free(section, use)
        definition = self.sections[section]
        free = self.free(section) - (0 if self.released() else self.reserved_free(section))
        if any(each["quota"] == 0 for each in definition["types"]):
            return free
        by_quota = sum(each["quota"] - self.taken(section, each["id"]) for each in definition["types"])
        return min(free, by_quota)

    def promised(self) -> int:
        return sum(promise.left for promise in self.live())

    def unpromised(self) -> int:
        return sum(self.left(each) - self.kept_back(each) for each in self.sections) - self.promised()

    def has(self, buyer: str) -> int:
        everything = (*self.open_claims(), *self.held(), *self.sold())
        return sum(each.quantity for each in everything if each.buyer == buyer)

    def under_way(self, buyer: str) -> int:
        return sum(each.quantity for each in (*self.open_claims(), *self.held()) if each.buyer == buyer)

    # ---- time ----

    def pass_time(self, now: int) -> None:
        """Ends what is due by `now`, the earliest first."""
        self.now = max(self.now, now)
        while True:
            due: list[tuple[int, int, Any]] = []
            due += [
                (claim.ends, 0, order) for order, claim in self.claims.items() if claim in self.open_claims()
            ]
            due += [(hold.ends, 1, hold) for hold in self.held()]
            due += [(p.ends, 2, buyer) for buyer, p in self.promises.items() if p.state == "PROMISED"]
            due = [each for each in due if each[0] <= self.now]
            if not due:
                return
            _, kind, what = min(due, key=lambda each: each[:2])
            if kind == 0:
                self.end_claim(self.claims[what], "EXPIRED")
            elif kind == 1:
                self.end_hold(what, "EXPIRED")
            else:
                self.lapse_promise(what, "LAPSED")

    def lapse_promise(self, buyer: str, state: str) -> None:
        promise = self.promises[buyer]
        promise.left, promise.state = 0, state
        promise.ended = min(self.now, promise.ends)

    def restore(self, buyer: str, place: int | None, quantity: int) -> None:
        promise = self.promises.get(buyer)
        if promise and promise.state == "PROMISED" and promise.place == place:
            promise.left += quantity
        self.finish(buyer)

    def finish(self, buyer: str) -> None:
        promise = self.promises.get(buyer)
        if promise and promise.state == "PROMISED" and promise.left + self.under_way(buyer) == 0:
            self.lapse_promise(buyer, "FINISHED")

    def end_claim(self, claim: Claim, state: str) -> None:
        claim.state = state
        self.restore(claim.buyer, claim.place, claim.quantity)

    def end_hold(self, hold: Hold, state: str) -> None:
        hold.state = state
        self.restore(hold.buyer, hold.place, hold.quantity)

    # ---- what stands against taking ----

    def phase(self) -> str:
        definition = self.definition
        if self.now >= definition["closes_ms"]:
            return "CLOSED"
        if self.now >= definition["opens_ms"]:
            return "PAUSED" if definition["paused"] else "OPEN"
        return "LOBBY" if self.now >= definition["lobby_opens_ms"] else "SCHEDULED"

    def taking(self, command: Answer) -> str | tuple[Lines, list[Unit], Promise | None]:
        """A refusal's word, or the lines, their seats, and the promise that they spend."""
        if self.phase() not in ("OPEN", "PAUSED"):
            return "WRONG_PHASE"
        lines: Lines = []
        for item in command["items"]:
            section = self.sections.get(item["section"])
            if section is None:
                return "SECTION_NOT_FOUND"
            kinds = [kind["id"] for kind in section["types"]]
            kind = item.get("ticket_type", kinds[0])
            if kind not in kinds:
                return "TICKET_TYPE_NOT_FOUND"
            lines.append((item["section"], kind, item["quantity"]))
        quantity = sum(each for _, _, each in lines)
        promise = None
        if self.definition["line"]:
            promise = self.promises.get(command["buyer"])
            if command.get("place") is not None and command["place"] >= self.watermark:
                return "NOT_CALLED_YET"
            if promise is None or command.get("place") is None:
                return "ADMISSION_REQUIRED"
            if promise.place != command["place"] or promise.state != "PROMISED":
                return "TURN_EXPIRED"
        if self.has(command["buyer"]) + quantity > self.definition["limit"]:
            return "LIMIT_REACHED"
        if promise and quantity > promise.left:
            return "ALLOWANCE_EXCEEDED"
        for_anyone = sum(item["quantity"] for item in command["items"] if "use" not in item)
        if not promise and for_anyone and for_anyone > self.unpromised():
            return "SOLD_OUT"
        seats = self.seats_of(command["items"], lines)
        if isinstance(seats, str):
            return seats
        if self.too_many_holds(command["buyer"], promise):
            return "HOLD_LIMIT"
        return lines, seats, promise

    def seats_of(self, items: list[Answer], lines: Lines) -> str | list[Unit]:
        """The seats of all lines, one line after the other; or a refusal's word."""
        chosen: list[Unit] = []
        anchors: dict[str, int] = {}
        for place, item in enumerate(items):
            section, use = item["section"], item.get("use")
            seating = self.seatings.get(section)
            taken: set[int] = set()
            if seating:
                taken = {*self.occupied(section), *(unit for s, unit in chosen if s == section)}
                try:
                    seating.check_named(item, taken, released=self.released())
                except (Taken, Reserved) as refusal:
                    return refusal.word
            if self.counts_refuse(items, lines, place):
                return "SECTION_SOLD_OUT"
            if seating is None:
                continue
            units = item.get("units") or self.best(seating, item, taken, anchors.get(section))
            if units is None:
                return "NOT_ADJACENT"
            if use == "ACCESSIBLE":
                anchors.setdefault(section, seating.block_of(units[0]))
            chosen += [(section, unit) for unit in units]
        return chosen

    def best(self, seating: Seating, item: Answer, taken: set[int], anchor: int | None) -> list[int] | None:
        use, count, together = item.get("use"), item["quantity"], item.get("together", False)
        ranges = seating.ranges(use, released=self.released())
        beside = anchor if use == "COMPANION" else None
        if beside is not None:
            near = seating.nearby(ranges, beside, count, taken)
            if near and len(near) == count:
                return near
        if together or beside is None:
            found = side_by_side(seating, ranges, count, taken)
            if found:
                return found
        return None if together else apart(seating, ranges, count, taken, beside)

    def counts_refuse(self, items: list[Answer], lines: Lines, place: int) -> bool:
        section, kind, _ = lines[place]
        use = items[place].get("use")
        so_far = list(zip(items, lines, strict=True))[: place + 1]
        for_use = sum(q for item, (s, _, q) in so_far if s == section and item.get("use") == use)
        of_type = sum(q for _, (s, k, q) in so_far if (s, k) == (section, kind))
        return for_use > self.left(section, use) or of_type > self.left_of_type(section, kind)

    def too_many_holds(self, buyer: str, promise: Promise | None) -> bool:
        most = self.definition["holds_per_turn"]
        if promise:
            return bool(promise.holds >= most)
        made, until = self.made.get(buyer, (0, 0))
        return bool(self.now < until and made >= most)

    def count_hold(self, buyer: str, promise: Promise | None) -> None:
        if promise:
            promise.holds += 1
            return
        made, until = self.made.get(buyer, (0, 0))
        self.made[buyer] = (
            (made + 1, until) if self.now < until else (1, self.now + self.definition["hold_ms"])
        )

    # ---- commands ----

    def apply(self, command: Answer) -> Answer:
        """The word, and what the script must say with it."""
        return dict(getattr(self, command["op"] + "_")(command))

    def call_(self, command: Answer) -> Answer:
        if not self.definition["line"]:
            return {"word": "NO_LINE"}
        if self.phase() == "PAUSED":
            return {"word": "PAUSED"}
        if self.phase() != "OPEN":
            return {"word": "WRONG_PHASE"}
        if command["from"] != self.watermark:
            return {"word": "NOT_WATERMARK"}
        granted = 0
        for number, callee in enumerate(command["callees"], 1):
            most = self.definition["concurrency"]
            if self.unpromised() <= 0 or (most and len(self.live()) >= most):
                break
            buyer = callee["buyer"]
            if buyer in self.promises and self.promises[buyer].state == "PROMISED":
                self.lapse_promise(buyer, "LAPSED")
            below_limit = self.definition["limit"] - self.has(buyer)
            allowance = max(0, min(callee.get("want", below_limit), below_limit, self.unpromised()))
            ends = min(self.now + self.definition["turn_ms"], self.definition["closes_ms"])
            promise = Promise(callee["place"], allowance, allowance, ends)
            if allowance == 0:
                promise.state, promise.ended = "FINISHED", self.now
            self.promises[buyer] = promise
            granted += allowance > 0
            last = number == len(command["callees"])
            self.watermark = command["to"] if last else callee["place"] + 1
        if not command["callees"]:
            self.watermark = command["to"]
        return {"word": "CALLED", "granted": granted}

    def claim_(self, command: Answer) -> Answer:
        asked = command.get("hold_id") or asked_for(command.get("items", ()))
        stored = self.claims.get(command["order_id"])
        if stored is None:
            stored = self.new_claim(command, asked)
            if stored.word == "NOT_CALLED_YET":
                return {"word": stored.word}
            self.claims[command["order_id"]] = stored
        elif stored.buyer != command["buyer"] or stored.asked != asked:
            return {"word": "IDEMPOTENCY_KEY_REUSED"}
        hold = self.holds.get((stored.buyer, stored.hold_id)) if stored.hold_id else None
        return {"word": stored.word} | (self.shown(hold) if hold else {})

    def new_claim(self, command: Answer, asked: object) -> Claim:
        claim = Claim(command["buyer"], asked, "CLAIMED", ends=self.now + self.definition["queue_max_ms"])
        if "hold_id" in command:
            hold = self.holds.get((command["buyer"], command["hold_id"]))
            claim.word = self.bind_refusal(hold) or "CLAIMED"
            if hold and claim.word == "CLAIMED":
                hold.order_id, hold.waiting = command["order_id"], True
                hold.ends = max(hold.ends, claim.ends)
                claim.state, claim.hold_id = "BOUND", command["hold_id"]
            return claim
        taking = self.taking(command)
        if isinstance(taking, str):
            claim.word = taking
            return claim
        claim.lines, claim.seats, promise = taking
        self.count_hold(command["buyer"], promise)
        if promise:
            promise.left -= claim.quantity
            claim.place = promise.place
        return claim

    def bind_refusal(self, hold: Hold | None) -> str | None:
        if self.phase() not in ("OPEN", "PAUSED"):
            return "WRONG_PHASE"
        if hold is None:
            return "HOLD_NOT_FOUND"
        ended = {"EXPIRED": "HOLD_EXPIRED", "RELEASED": "HOLD_RELEASED", "RETURNED": "HOLD_RELEASED"}
        if hold.state in ended:
            return ended[hold.state]
        return "HOLD_BOUND" if hold.order_id or hold.state != "HELD" else None

    def hold_(self, command: Answer) -> Answer:
        key = (command["buyer"], command["hold_id"])
        if key in self.holds:
            return self.hold_again(self.holds[key], command)
        if "order_id" in command:
            return self.hold_for_order(command)
        taking = self.taking(command)
        if isinstance(taking, str):
            return {"word": taking}
        lines, seats, promise = taking
        self.count_hold(command["buyer"], promise)
        ends = self.now + self.definition["hold_ms"]
        hold = Hold(*key, asked_for(command["items"]), lines, seats, ends, None)
        if promise:
            promise.left -= hold.quantity
            hold.place = promise.place
        self.holds[key] = hold
        return {"word": "HELD"} | self.shown(hold)

    def hold_again(self, hold: Hold, command: Answer) -> Answer:
        if "order_id" in command:
            if hold.order_id != command["order_id"]:
                return {"word": "IDEMPOTENCY_KEY_REUSED"}
            if hold.state == "EXPIRED" and hold.waiting:
                return {"word": "QUEUE_TIMEOUT"}
        elif hold.asked != asked_for(command["items"]):
            return {"word": "IDEMPOTENCY_KEY_REUSED"}
        if hold.state == "EXPIRED":
            return {"word": "HOLD_EXPIRED"}
        if hold.state in ("RELEASED", "RETURNED"):
            return {"word": "HOLD_RELEASED"}
        if "order_id" in command:
            hold.waiting = False
        return {"word": "HELD"} | self.shown(hold)

    def hold_for_order(self, command: Answer) -> Answer:
        claim = self.claims.get(command["order_id"])
        if claim is None or claim.buyer != command["buyer"]:
            return {"word": "HOLD_NOT_FOUND"}
        if claim.word != "CLAIMED":
            return {"word": claim.word}
        if claim.state != "OPEN":
            words = {"EXPIRED": "QUEUE_TIMEOUT", "RELEASED": "HOLD_RELEASED"}
            return {"word": words.get(claim.state, "IDEMPOTENCY_KEY_REUSED")}
        claim.state = "SPENT"
        ends = max(claim.ends, self.now + self.definition["hold_ms"])
        key = (command["buyer"], command["hold_id"])
        hold = Hold(*key, claim.asked, claim.lines, claim.seats, ends, claim.place, command["order_id"])
        self.holds[key] = hold
        return {"word": "HELD"} | self.shown(hold)

    def own_hold(self, command: Answer) -> Hold | str:
        hold = self.holds.get((command["buyer"], command["hold_id"]))
        if hold is None or hold.order_id is None:
            return "HOLD_NOT_FOUND"
        return hold if hold.order_id == command["order_id"] else "HOLD_BOUND"

    def pin_(self, command: Answer) -> Answer:
        hold = self.own_hold(command)
        if isinstance(hold, str):
            return {"word": hold}
        if hold.state in ("EXPIRED", "RELEASED"):
            return {"word": f"HOLD_{hold.state}"}
        if hold.state == "RETURNED":
            return {"word": "HOLD_RELEASED"}
        if hold.state == "SOLD" and not hold.pinned:
            return {"word": "HOLD_BOUND"}
        if hold.state == "HELD":
            hold.pinned, hold.waiting = True, False
            hold.ends = max(hold.ends, command["until_ms"])
        return {"word": "PINNED"} | self.shown(hold)

    def release_(self, command: Answer) -> Answer:
        hold = self.holds.get((command["buyer"], command["hold_id"]))
        if hold is None:
            return self.release_claim(command)
        if hold.state == "EXPIRED":
            return {"word": "HOLD_EXPIRED"}
        if hold.state != "RELEASED":
            if hold.state != "HELD" or hold.order_id != command.get("order_id"):
                return {"word": "HOLD_BOUND"}
            self.end_hold(hold, "RELEASED")
        return {"word": "RELEASED"} | self.shown(hold)

    def release_claim(self, command: Answer) -> Answer:
        claim = self.claims.get(command.get("order_id", ""))
        if claim is None or claim.buyer != command["buyer"] or claim.word != "CLAIMED":
            return {"word": "HOLD_NOT_FOUND"}
        if claim.state == "OPEN":
            self.end_claim(claim, "RELEASED")
        words = {"EXPIRED": "HOLD_EXPIRED", "RELEASED": "RELEASED"}
        return {"word": words.get(claim.state, "HOLD_NOT_FOUND")}

    def commit_(self, command: Answer) -> Answer:
        hold = self.own_hold(command)
        if isinstance(hold, str):
            return {"word": hold}
        if hold.state not in ("HELD", "SOLD"):
            return {"word": "HOLD_EXPIRED" if hold.state == "EXPIRED" else "HOLD_RELEASED"}
        if hold.state == "HELD":
            hold.state = "SOLD"
            self.finish(hold.buyer)
        return {"word": "COMMITTED"} | self.shown(hold)

    def return_(self, command: Answer) -> Answer:
        hold = self.own_hold(command)
        if isinstance(hold, str):
            return {"word": hold}
        if hold.state not in ("SOLD", "RETURNED"):
            return {"word": "HOLD_BOUND"}
        hold.state = "RETURNED"
        return {"word": "RETURNED"} | self.shown(hold)

    def block_(self, command: Answer) -> Answer:
        known = self.blocks.get(command["block_id"])
        if known:
            same = known.asked == asked_for(command["items"])
            return {"word": "BLOCKED" if same else "IDEMPOTENCY_KEY_REUSED"}
        block = Block(asked_for(command["items"]), {}, [])
        self.blocks[command["block_id"]] = block
        for item in command["items"]:
            refusal = self.block_item(block, item)
            if refusal:
                del self.blocks[command["block_id"]]
                return {"word": refusal}
        return {"word": "BLOCKED"}

    def block_item(self, block: Block, item: Answer) -> str | None:
        """Adds an item to a block, if nothing is below nothing then and what is promised is there."""
        section, units = item["section"], item.get("units", ())
        if section not in self.sections:
            return "SECTION_NOT_FOUND"
        if any(unit in self.occupied(section) for unit in units):
            return "UNITS_IN_USE"
        block.quantities[section] = block.quantities.get(section, 0) + item["quantity"]
        block.seats += [(section, unit) for unit in units]
        return "UNITS_IN_USE" if self.free(section) < 0 or self.unpromised() < 0 else None

    def unblock_(self, command: Answer) -> Answer:
        block = self.blocks.get(command["block_id"])
        if block is None:
            return {"word": "BLOCK_NOT_FOUND"}
        block.state = "UNBLOCKED"
        return {"word": "UNBLOCKED"}

    def lapse_(self, command: Answer) -> Answer:
        promise = self.promises.get(command["buyer"])
        if promise and promise.state == "PROMISED" and promise.place == command["place"]:
            self.lapse_promise(command["buyer"], "LAPSED")
        return {"word": "LAPSED"}

    def look_(self, command: Answer) -> Answer:
        promise = self.promises.get(command["buyer"])
        if promise is None or promise.place < command["place"]:
            return {"word": "NOT_CALLED"}
        if promise.place > command["place"]:
            return {"word": "LAPSED"}
        return {"word": promise.state, "left": promise.left, "allowance": promise.allowance}

    @staticmethod
    def shown(hold: Hold) -> Answer:
        """What an answer says of a hold."""
        lines = sorted((s, k) for s, k, quantity in hold.lines for _ in range(quantity))
        seats = sorted(hold.seats)
        return {
            **{"state": hold.state, "units": lines, "order_id": hold.order_id, "ends": hold.ends},
            "seats": seats,
        }
