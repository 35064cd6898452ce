"""One simulated buyer: a state machine without I/O or clock, told what happened, saying what it does next."""

from local.rush.intent import Do, Stage, World
from local.rush.people import Buy, Line, Pay, Person, Trick
from local.rush.record import (
    Admitted,
    Answer,
    Ask,
    Attempt,
    Done,
    Placed,
    Probe,
    Refusal,
    Refused,
    Stood,
    Tried,
    View,
)
from local.rush.shop import Item, by_stock, by_taste, count

# After the end of a turn or a payment window the buyer waits this long before it tests whether it is over.
SURELY_OVER_S = 0.4
# A refusal that says "elsewhere" is followed by another choice, this often at most.
CHOICES = 24
# What may be told of an order that EXPIRED, once its money has come after all.
GOES_ON = frozenset({"CAPTURING", "CONFIRMED", "PAYMENT_FAILED"})


class Buyer:
    """The intentions of one person, what it did and what it was told."""

    __slots__ = (
        "admission",
        "asked_at",
        "attempts",
        "called_at",
        "choices",
        "contradictions",
        "index",
        "joined_at",
        "left",
        "number",
        "person",
        "place",
        "refusals",
        "sold_out_at",
        "stage",
        "tried",
        "turn_ends",
        "turns",
    )

    def __init__(self, number: int, person: Person) -> None:
        self.number = number
        self.person = person
        self.stage = Stage.AWAY
        self.index = -1
        self.place = -1
        self.asked_at = 0.0
        self.joined_at = 0.0
        self.called_at = 0.0
        self.sold_out_at = 0.0
        self.admission = ""
        self.turn_ends = 0.0
        self.turns = 0
        self.left = 0
        self.choices = 0
        self.attempts: list[Attempt] = []
        self.refusals: list[Refusal] = []
        self.tried: list[Tried] = []
        self.contradictions: list[str] = []

    # ---- joining and waiting ----

    def arrives(self, now: float) -> list[Do]:
        """The buyer opens the page."""
        return [Do(now, Ask.JOIN, self)]

    def still_means(self, do: Do) -> bool:
        """Whether something planned a while ago makes sense now that its time has come."""
        return do.only_while is None or do.only_while is self.stage

    def begins(self, do: Do, now: float) -> None:
        """The ask is on its way."""
        do.sent_at = now
        if do.ask is Ask.JOIN and not self.asked_at:
            self.asked_at = now
        if do.ask is Ask.LEAVE and self.stage is Stage.WAITING:
            self.stage = Stage.LEAVING
        if do.attempt and do.ask is Ask.ORDER and not do.attempt.sent_at:
            do.attempt.sent_at = now

    def _joined(self, answer: Stood, world: World, now: float) -> list[Do]:
        first = self.index < 0
        # Who left the lobby and came back while it froze may find the end of the line instead.
        may_move = self.stage is Stage.LAPSED or (self.stage is Stage.LEAVING and now >= world.opens_at)
        if not first and not may_move and answer.number != self.index:
            self.contradictions.append(f"I8 joined again: index {self.index} became {answer.number}")
        if self.stage is Stage.LAPSED and answer.number <= self.index:
            self.contradictions.append(f"I8 joined after a lapse: index {answer.number} is not at the end")
        if self.stage in (Stage.AWAY, Stage.LAPSED, Stage.LEAVING):
            self.stage = Stage.WAITING
            self.joined_at = now
        if self.index != answer.number:
            self.index, self.place = answer.number, -1
        self.stands(answer.place)
        return self._after_joining(world, now) if first else []

    def _after_joining(self, world: World, now: float) -> list[Do]:
        after = self.person.patience * 3
        does: list[Do] = []
        in_lobby = now < world.opens_at - 1.5
        match self.person.line:
            case Line.LEAVES_LOBBY if in_lobby:
                does.append(Do(now + 0.2, Ask.LEAVE, self, Stage.WAITING))
            case Line.LEAVES_LINE:
                does.append(Do(max(now, world.opens_at) + after, Ask.LEAVE, self, Stage.WAITING))
            case Line.JOINS_TWICE:
                does.append(Do(now + after, Ask.JOIN, self, Stage.WAITING))
            case _:
                pass
        match self.person.trick:
            case Trick.BEFORE_OPENING if in_lobby:
                does.append(self._try_hold(now + 0.1, Probe.BEFORE_OPENING, world, ""))
            case Trick.NO_ADMISSION:
                at = max(now, world.opens_at) + 0.5 + after
                does.append(self._try_hold(at, Probe.NO_ADMISSION, world, "", Stage.WAITING))
            case Trick.FOREIGN:
                # Whoever sends it fills in the admission of somebody else.
                at = max(now, world.opens_at) + 2 + after
                does.append(self._try_hold(at, Probe.FOREIGN, world, "", Stage.WAITING))
            case _:
                pass
        return does

    def stands(self, place: int | None) -> None:
        """The place became known, or is told again."""
        if place is None:
            return
        if self.place not in (-1, place):
            self.contradictions.append(f"I8 place {self.place} became {place}")
        self.place = place

    def is_called(self, world: World, now: float) -> list[Do]:
        """`serving` passed the buyer's place."""
        if self.stage is not Stage.WAITING:
            return []
        self.stage = Stage.CALLED
        self.called_at = now
        if self.sold_out_at:
            self.contradictions.append("I9 told that everything is sold, then called")
        if self.person.line is Line.LAPSES_UNSEEN and self.turns == 0:
            self.turns = 1
            over = now + world.turn_s + SURELY_OVER_S
            if self.person.again:
                self.stage = Stage.LAPSED
                return [Do(over, Ask.JOIN, self)]
            late = Do(over, Ask.ENTER, self)
            late.probe = Probe.CAME_TOO_LATE
            return [late]
        return [Do(now + self._thinks(world) / 2, Ask.ENTER, self)]

    def is_told_sold_out(self, now: float) -> None:
        """There is nothing left to wait for."""
        if self.stage is Stage.WAITING and not self.sold_out_at:
            self.sold_out_at = now

    # ---- choosing ----

    def _thinks(self, world: World) -> float:
        return world.think_s * (0.05 + 0.95 * self.person.patience)

    def _admitted(self, answer: Admitted, world: World, now: float) -> list[Do]:
        if self.place not in (-1, answer.place):
            self.contradictions.append(f"I8 admitted for place {answer.place}, stood at {self.place}")
        self.stage = Stage.ADMITTED
        self.admission, self.turn_ends, self.left = answer.token, answer.turn_ends, answer.allowance
        self.turns += 1
        if answer.allowance < 1:
            self.contradictions.append("I9 admitted with an allowance of nothing")
            return []
        if self.person.line is Line.LAPSES_ADMITTED and self.turns == 1:
            return [self._try_hold(self.turn_ends + SURELY_OVER_S, Probe.EXPIRED, world, self.admission)]
        if self.person.trick is Trick.FORGED:
            return [self._try_hold(now + 0.1, Probe.FORGED, world, tampered_with(self.admission))]
        return self._shops(world, now)

    def _shops(self, world: World, now: float) -> list[Do]:
        quantity = min(self.person.wants, self.left)
        items = by_taste(world.offers, self.person.taste, quantity)
        if self.person.buy in (Buy.HOLDS_FIRST, Buy.HOLDS_RELEASES):
            return [self._hold(now + self._thinks(world), items)]
        return self._orders(now + self._thinks(world), world, items)

    def _hold(self, at: float, items: list[Item]) -> Do:
        do = Do(at, Ask.HOLD, self)
        self.choices += 1
        do.hold_id = f"hold-{self.number}-{self.choices}"
        do.items, do.admission = items, self.admission
        self.left -= count(items)
        return do

    def _try_hold(
        self, at: float, probe: Probe, world: World, admission: str, only_while: Stage | None = None
    ) -> Do:
        do = Do(at, Ask.HOLD, self, only_while)
        do.hold_id = f"trick-{self.number}-{probe.value}"
        do.items, do.admission, do.probe = by_taste(world.offers, self.person.taste, 1), admission, probe
        return do

    def _orders(self, at: float, world: World, items: list[Item], hold_id: str = "") -> list[Do]:
        self.choices += 1
        attempt = Attempt(f"{world.run}-{self.number}-{self.choices}", items)
        self.attempts.append(attempt)
        if not hold_id:
            self.left -= attempt.quantity
        click = Do(at, Ask.ORDER, self)
        click.attempt, click.items, click.hold_id, click.admission = attempt, items, hold_id, self.admission
        if self.person.buy is not Buy.CLICKS_TWICE:
            return [click]
        again = Do(at, Ask.ORDER, self)
        again.attempt, again.items, again.hold_id, again.admission = attempt, items, hold_id, self.admission
        return [click, again]

    # ---- answers ----

    def is_answered(self, do: Do, answer: Answer, world: World, now: float) -> list[Do]:
        """What was asked has been answered. Refusals to wait and try again never come here."""
        if do.probe is not Probe.NONE:
            return self._tested(do, answer, world, now)
        if isinstance(answer, Refused):
            return self._refused(do, answer, world, now)
        match do.ask, answer:
            case Ask.JOIN, Stood():
                return self._joined(answer, world, now)
            case Ask.LEAVE, Stood():
                return self._left(world, now)
            case Ask.ENTER, Admitted():
                return self._admitted(answer, world, now)
            case Ask.HOLD, Done():
                return self._held(do, world, now)
            case Ask.RELEASE, Done():
                self.left += count(do.items)
                return self._orders(now + self._thinks(world), world, do.items)
            case Ask.ORDER, Placed():
                return self._placed(do, answer, world, now)
            case Ask.PAY, Done():
                return self._paid(do, answer, now)
            case _:
                return []

    def _left(self, world: World, now: float) -> list[Do]:
        was_waiting = self.stage is Stage.LEAVING
        if was_waiting and self.person.line is Line.LEAVES_LOBBY and now < world.opens_at - 1.0:
            return [Do(now, Ask.JOIN, self)]
        self.stage = Stage.GONE
        return []

    def _held(self, do: Do, world: World, now: float) -> list[Do]:
        at = now + self._thinks(world)
        if self.person.buy is Buy.HOLDS_FIRST:
            return self._orders(at, world, do.items, hold_id=do.hold_id)
        release = Do(at, Ask.RELEASE, self)
        release.hold_id, release.items = do.hold_id, do.items
        return [release]

    def _placed(self, do: Do, answer: Placed, world: World, now: float) -> list[Do]:
        attempt = do.attempt
        assert attempt is not None
        if attempt.answer:
            self._compare(attempt, answer.order_id)
            return []
        attempt.answer = answer.order_id
        if attempt.order_id not in ("", answer.order_id):
            self.contradictions.append(f"I7 {attempt.key}: stream and answer name two orders")
        attempt.order_id = answer.order_id
        if self.person.buy is Buy.CHANGES_BODY:
            return [self._other_body(attempt, do, now), *self._after_order(world, now)]
        return self._after_order(world, now)

    def _other_body(self, attempt: Attempt, do: Do, now: float) -> Do:
        other = Do(now + 0.1, Ask.ORDER, self)
        section, ticket_type, count = attempt.items[0]
        other.attempt, other.items, other.admission = (
            attempt,
            [(section, ticket_type, count + 1)],
            do.admission,
        )
        other.probe = Probe.OTHER_BODY
        return other

    def _after_order(self, world: World, now: float) -> list[Do]:
        time_left = now + world.think_s < self.turn_ends
        if self.person.buy is Buy.ORDERS_TWICE and len(self.attempts) == 1 and self.left > 0 and time_left:
            return self._orders(
                now + self._thinks(world), world, by_taste(world.offers, self.person.taste, 1)
            )
        if self.left > 0 and not self.person.walks_away:
            return [Do(now + 0.3, Ask.LEAVE, self, Stage.ADMITTED)]
        return []

    def _compare(self, attempt: Attempt, answer: str) -> None:
        if attempt.answer != answer:
            self.contradictions.append(f"I7 {attempt.key}: answered {attempt.answer}, then {answer}")

    def _refused(self, do: Do, answer: Refused, world: World, now: float) -> list[Do]:
        if do.attempt and do.ask is Ask.ORDER:
            if do.attempt.answer:
                self._compare(do.attempt, answer.word)
                return []
            do.attempt.answer = answer.word
        spends = do.ask is Ask.HOLD or (do.ask is Ask.ORDER and not do.hold_id)
        quantity = count(do.items)
        expected = self.left + (quantity if spends else 0)
        self.refusals.append(
            Refusal(do.ask, answer.word, do.sent_at, now, quantity, expected, self.turn_ends)
        )
        if spends:
            self.left += quantity
        if do.ask is Ask.LEAVE:
            self.stage = Stage.GONE
        if spends and answer.word in ("SECTION_SOLD_OUT", "NOT_ADJACENT"):
            return self._chooses_elsewhere(do, answer, world, now)
        return []

    def _chooses_elsewhere(self, do: Do, answer: Refused, world: World, now: float) -> list[Do]:
        if self.choices >= CHOICES or now >= self.turn_ends:
            return []
        world.stock.update(answer.left)
        first = int(self.person.taste * len(world.offers)) + self.choices
        items = by_stock(world.offers, world.stock, count(do.items), first)
        at = now + 0.1 + 0.4 * self.person.patience
        if do.ask is Ask.HOLD:
            return [self._hold(at, items)]
        return self._orders(at, world, items)

    def _tested(self, do: Do, answer: Answer, world: World, now: float) -> list[Do]:
        self.tried.append(Tried(do.probe, answer.word if isinstance(answer, Refused) else ""))
        if do.probe is Probe.FORGED:
            return self._shops(world, now)
        if do.probe is Probe.EXPIRED and do.ask is Ask.HOLD:
            order = self._orders(now, world, do.items)[0]
            order.probe = Probe.EXPIRED
            self.attempts.pop()
            return [order]
        if do.probe is Probe.EXPIRED and self.person.again:
            self.stage = Stage.LAPSED
            return [Do(now, Ask.JOIN, self)]
        return []

    # ---- orders and payments ----

    def is_told(self, view: View, now: float) -> list[Do]:
        """The stream told the state of an order."""
        attempt = next((one for one in self.attempts if one.key == view.key), None)
        if attempt is None:
            if not any(tried.probe is Probe.EXPIRED for tried in self.tried):
                self.contradictions.append(f"I7 told of an order nobody placed: {view.key}")
            return []
        if attempt.order_id not in ("", view.order_id):
            self.contradictions.append(f"I7 {attempt.key}: two orders")
        # The stream may be faster than the answer to the order itself.
        attempt.order_id = attempt.order_id or view.order_id
        # A payment that came late may still have bought what was free.
        goes_on = attempt.state == "EXPIRED" and view.state in GOES_ON
        if view.version < attempt.version or (attempt.ended and view.state != attempt.state and not goes_on):
            self.contradictions.append(f"I12 {attempt.key}: {view.state} told after {attempt.state}")
            return []
        attempt.state, attempt.version, attempt.reason = view.state, view.version, view.reason
        attempt.first_told_at = attempt.first_told_at or now
        attempt.units, attempt.amount = view.units, view.amount
        if attempt.ended:
            attempt.ended_at = attempt.ended_at or now
            return []
        if view.url and not attempt.url:
            attempt.url, attempt.pay_until = view.url, view.pay_until
            return self._pays(attempt, now)
        return []

    def is_done(self) -> bool:
        """The buyer has gone, and has heard of the end of everything it ordered."""
        return self.stage is Stage.GONE and all(attempt.ended for attempt in self.attempts)

    def is_told_twice(self, order_id: str, version: int) -> None:
        """One stream told the same state again."""
        self.contradictions.append(f"I12 order {order_id}: version {version} told twice on one stream")

    def _pays(self, attempt: Attempt, now: float) -> list[Do]:
        do = Do(now, Ask.PAY, self)
        do.attempt, do.card = attempt, "approve"
        match self.person.pay:
            case Pay.PAYS:
                attempt.prompt = True
            case Pay.DECLINED_ONCE | Pay.DECLINED:
                do.card = "decline"
            case Pay.PAYS_LATE:
                do.at = attempt.pay_until + SURELY_OVER_S
            case Pay.CANCELS:
                do.ask = Ask.CANCEL
            case _:
                return []
        return [do]

    def _paid(self, do: Do, answer: Done, now: float) -> list[Do]:
        attempt = do.attempt
        assert attempt is not None
        attempt.provider_said = answer.said
        attempt.cards += 1
        if self.person.pay is Pay.DECLINED_ONCE and attempt.cards == 1:
            again = Do(now + 0.2, Ask.PAY, self)
            again.attempt, again.card = attempt, "approve"
            return [again]
        return []


def tampered_with(admission: str) -> str:
    """The same admission with one character changed in the middle."""
    middle = len(admission) // 2
    other = "A" if admission[middle] != "A" else "B"
    return admission[:middle] + other + admission[middle + 1 :]
