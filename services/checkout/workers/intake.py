"""Works through INTAKE: writes orders down, follows their claims, holds and pins their units."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from catraca.events.v1.events_pb2 import OrderIntake
from catraca.inventory.v1.inventory_pb2 import Result
from nats.js import JetStreamContext

from services.checkout import intake, messages, rules
from services.checkout.breaker import Breaker
from services.checkout.ledger import Ledger
from services.checkout.pacing import Pacer
from services.checkout.records import Change, Order
from services.checkout.saga import Saga, now_ms
from services.checkout.states import OrderState
from services.checkout.store import Stale, Store
from services.checkout.transitions import Steps
from services.kit import tracing
from services.kit.definitions import Definition, Definitions
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.streams import Again, Delivery, Poison, consume

log = get_logger(__name__)

STREAM = "INTAKE"
DURABLE = "checkout-intake"
UNLIMITED = 2**31
NO_BOUND = -1
UNKNOWN_SALE_S = 1.0

Outcome = Again | Poison | None


class IntakeSettings(Protocol):
    """What the worker reads of the settings."""

    @property
    def intake_batch(self) -> int: ...
    @property
    def unprocessable_tries(self) -> int: ...
    @property
    def breaker_failures(self) -> int: ...
    @property
    def breaker_pause_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of INTAKE that can be read."""

    sequence: int
    intake: OrderIntake
    traceparent: str


class IntakeWorker:
    """Takes orders on in batches. A message may come again at any point: the row says how far it is."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        saga: Saga,
        definitions: Definitions,
        steps: Steps,
        settings: IntakeSettings,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._saga = saga
        self._definitions = definitions
        self._steps = steps
        self._settings = settings
        self._pacer = Pacer(store)
        self._breaker = Breaker(settings.breaker_failures, settings.breaker_pause_s)
        self._strikes: dict[int, int] = {}

    async def run(self, js: JetStreamContext) -> None:
        """Work until cancelled."""
        await consume(
            js,
            STREAM,
            DURABLE,
            self.handle,
            batch=self._settings.intake_batch,
            max_tries=UNLIMITED,
            # The orders of a paced sale wait by the thousand and must not stop those of the others.
            max_pending=NO_BOUND,
        )

    async def handle(self, deliveries: list[Delivery]) -> list[Outcome]:
        """What became of each message: done, to come again later, or poison."""
        await self._saga.room()
        outcomes: list[Outcome] = [None] * len(deliveries)
        by_sale: dict[str, list[tuple[int, Arrival]]] = {}
        for index, delivery in enumerate(deliveries):
            arrival = _arrival(delivery)
            if arrival is None:
                outcomes[index] = Poison("not an order, or not of its subject")
            else:
                by_sale.setdefault(arrival.intake.sale, []).append((index, arrival))
        await asyncio.gather(*(self._of_sale(sale, each, outcomes) for sale, each in by_sale.items()))
        return outcomes

    # ---- one sale's share of a batch ----

    async def _of_sale(
        self, sale: str, arrivals: Sequence[tuple[int, Arrival]], outcomes: list[Outcome]
    ) -> None:
        try:
            definition = self._definitions.get(sale)
        except Refusal:
            for index, _ in arrivals:
                outcomes[index] = Again("the sale is not known here yet", UNKNOWN_SALE_S)
            return
        try:
            waits = await self._waits_s(definition, [arrival for _, arrival in arrivals])
        except Exception as problem:
            again = self._unanswered(problem)
            if again is None:
                # A defect: it must not stop the other sales' orders, and nobody's order is rejected for it.
                log.exception("pace_failed", sale=sale)
            for index, _ in arrivals:
                outcomes[index] = again or Again(repr(problem))
            return
        taken = []
        for index, arrival in arrivals:
            wait_s = waits[arrival.sequence]
            if wait_s > 0:
                outcomes[index] = Again("its turn comes later", wait_s)
            else:
                taken.append((index, arrival))
        if taken:
            done = await self._take_on(definition, [arrival for _, arrival in taken])
            for (index, _), outcome in zip(taken, done, strict=True):
                outcomes[index] = outcome
            await self._forget_slots(definition, [each.sequence for _, each in taken], done)

    async def _waits_s(self, definition: Definition, arrivals: Sequence[Arrival]) -> dict[int, float]:
        """How long these orders have to wait: for a part that does not answer, or for their sale's pace."""
        spec = definition.sale.spec
        longest_s = spec.orders.queue_max.ToMilliseconds() / 1000
        pause_s = max(self._breaker.wait_s(), self._saga.wait_s(spec.payment.provider))
        now_s = now_ms() / 1000
        paused = {
            arrival.sequence: pause_s
            for arrival in arrivals
            if pause_s and now_s - arrival.intake.accepted_at_ms / 1000 < longest_s
        }
        ready = [arrival.sequence for arrival in arrivals if arrival.sequence not in paused]
        return {**paused, **await self._pacer.waits_s(definition, ready)}

    async def _forget_slots(
        self, definition: Definition, sequences: Sequence[int], outcomes: Sequence[Outcome]
    ) -> None:
        """An order that comes again keeps its slot."""
        done = [
            sequence
            for sequence, outcome in zip(sequences, outcomes, strict=True)
            if not isinstance(outcome, Again)
        ]
        try:
            await self._pacer.taken_on(definition, done)
        except Exception as problem:
            # The orders are written down: what is left of their slots is the sweeper's.
            log.warning("slots_left", sale=definition.sale.sale, problem=repr(problem))

    async def _take_on(self, definition: Definition, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Lead a batch on; where that fails for a reason of its own, each order alone."""
        try:
            origins = [tracing.origin_of(arrival.traceparent) for arrival in arrivals]
            with tracing.together("INTAKE process", origins, most=len(origins)):
                outcomes = await self._lead(definition, arrivals)
        except Exception as problem:
            again = self._unanswered(problem)
            if again is not None:
                return [again] * len(arrivals)
            if len(arrivals) > 1:
                return [(await self._take_on(definition, [arrival]))[0] for arrival in arrivals]
            log.exception("order_failed", order=arrivals[0].intake.order_id, sale=definition.sale.sale)
            return [await self._strike(definition, arrivals[0], problem)]
        self._breaker.succeeded()
        for arrival in arrivals:
            self._strikes.pop(arrival.sequence, None)
        return outcomes

    def _unanswered(self, problem: Exception) -> Again | None:
        """What to do where a store or inventory is down, no fault of the orders; None for a defect."""
        refusal = refusal_for(problem)
        if refusal is None or refusal.word == "INTERNAL":
            return None
        self._breaker.failed()
        return Again(str(problem), refusal.retry_after_s)

    async def _lead(self, definition: Definition, taken: Sequence[Arrival]) -> list[Outcome]:
        """From INTAKE to HELD or REJECTED; the saga goes on from there."""
        currency = definition.sale.spec.currency
        intakes = [each.intake for each in taken]
        asked = {
            each.intake.order_id: messages.order_of(each.intake, currency, each.traceparent) for each in taken
        }
        arrivals = [(asked[each.order_id], messages.buyer_of(each)) for each in intakes]
        new = await self._store.insert(arrivals)
        known = await self._store.load([order_id for order_id in asked if order_id not in new])
        orders = {**asked, **known}
        waiting = [order for order in orders.values() if order.state is OrderState.ACCEPTED]
        for order in known.values():
            if order.state is OrderState.HELD:
                self._saga.nudge(order)
        await self._forget_claims([order for order in known.values() if order.state is OrderState.CANCELLED])
        stale = await self._hold(definition, waiting)
        return [Again("it changed meanwhile", 0.1) if each.order_id in stale else None for each in intakes]

    async def _hold(self, definition: Definition, orders: Sequence[Order]) -> set[str]:
        """CLAIM (the stored answer), HOLD and PIN, then one statement. Returns what somebody else moved."""
        if not orders:
            return set()
        sale = definition.sale.sale
        makers = (messages.claim_command, messages.hold_command)
        try:
            results = await self._ledger.apply(sale, [make(order) for order in orders for make in makers])
        except Refusal as refusal:
            if refusal.word != "SALE_ARCHIVED":
                raise
            return await self._write([self._rejected(order, refusal.word) for order in orders])
        refused: list[tuple[Order, str]] = []
        held: list[tuple[Order, Result]] = []
        waiting = set()
        for order, claim, hold in zip(orders, results[::2], results[1::2], strict=True):
            if claim.word == "NOT_CALLED_YET" and not _is_late(order, definition):
                # Its call was lost with the ledger's store, and is made again.
                waiting.add(order.order_id)
            elif claim.word == "NOT_CALLED_YET":
                refused.append((order, "QUEUE_TIMEOUT"))
            elif claim.word != "CLAIMED":
                refused.append((order, claim.word))
            elif hold.word != "HELD":
                refused.append((order, hold.word))
            else:
                held.append((order, hold))
        changes = [self._rejected(order, word) for order, word in refused]
        return waiting | await self._write([*changes, *await self._pin(definition, held)])

    async def _pin(self, definition: Definition, held: Sequence[tuple[Order, Result]]) -> list[Change]:
        """PIN what is held until its payment is over, and only then let it be HELD."""
        pinned = [_pinned(self._steps, definition, order, hold) for order, hold in held]
        commands = [messages.pin_command(order, order.pin_until_ms) for order in pinned]
        answers = await self._ledger.apply(definition.sale.sale, commands)
        return [
            Change(before, after) if answer.word == "PINNED" else self._rejected(before, answer.word)
            for (before, _), after, answer in zip(held, pinned, answers, strict=True)
        ]

    def _rejected(self, order: Order, word: str) -> Change:
        return Change(order, self._steps.rejected(order, word, now_ms()))

    async def _write(self, changes: Sequence[Change]) -> set[str]:
        stale = set()
        for change, outcome in zip(changes, await self._store.advance_many(changes), strict=True):
            if isinstance(outcome, Order):
                if outcome.state is OrderState.HELD:
                    self._saga.start(outcome)
            elif isinstance(outcome, Stale):
                stale.add(change.before.order_id)
            else:
                raise outcome
        return stale

    async def _forget_claims(self, orders: Sequence[Order]) -> None:
        """Orders that were cancelled before a worker saw them. The claim is taken and given back, so that a
        CLAIM which is still on its way finds its answer stored and takes nothing."""
        by_sale: dict[str, list[Order]] = {}
        for order in orders:
            by_sale.setdefault(order.sale, []).append(order)
        for sale, cancelled in by_sale.items():
            makers = (messages.claim_command, messages.release_command)
            await self._ledger.apply(sale, [make(order) for order in cancelled for make in makers])

    # ---- what cannot be worked through ----

    async def _strike(self, definition: Definition, arrival: Arrival, problem: Exception) -> Outcome:
        strikes = self._strikes.get(arrival.sequence, 0) + 1
        self._strikes[arrival.sequence] = strikes
        if strikes < self._settings.unprocessable_tries:
            return Again(repr(problem))
        del self._strikes[arrival.sequence]
        await self._reject_unprocessable(definition, arrival.intake)
        return Poison(repr(problem))

    async def _reject_unprocessable(self, definition: Definition, asked: OrderIntake) -> None:
        try:
            order = messages.order_of(asked, definition.sale.spec.currency)
            await self._store.insert([(order, messages.buyer_of(asked))])
            found = await self._store.load_one(order.order_id)
            if found is not None and found.state is OrderState.ACCEPTED:
                after = self._steps.rejected(found, "ORDER_UNPROCESSABLE", now_ms())
                await self._store.advance(Change(found, after))
        except Exception:
            # Not even the row can be written; the dead letter has all there is.
            log.exception("order_lost_to_dead_letters", order=asked.order_id, sale=asked.sale)


def _arrival(delivery: Delivery) -> Arrival | None:
    asked = intake.read(delivery.message.data)
    if asked is None:
        return None
    if delivery.message.subject != rules.intake_subject(asked.sale, asked.buyer, asked.order_id):
        return None
    return Arrival(delivery.message.seq, asked, delivery.message.headers.get(tracing.HEADER, ""))


def _is_late(order: Order, definition: Definition) -> bool:
    """Whether the order's time in the queue is over."""
    longest_ms = definition.sale.spec.orders.queue_max.ToMilliseconds()
    return bool(now_ms() - order.accepted_at_ms >= longest_ms)


def _pinned(steps: Steps, definition: Definition, order: Order, hold: Result) -> Order:
    """The order once its units are held and pinned: paid within the window by the ledger's clock."""
    payment = definition.sale.spec.payment
    pay_until_ms = hold.at_ms + payment.window.ToMilliseconds()
    return steps.held(
        order,
        messages.units_of(hold.hold),
        held_at_ms=hold.at_ms,
        pay_until_ms=pay_until_ms,
        pin_until_ms=pay_until_ms + payment.grace.ToMilliseconds(),
        now_ms=now_ms(),
    )
