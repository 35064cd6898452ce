"""Leads orders on: each external effect follows a stored state that names it, so any process can go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from catraca.inventory.v1.inventory_pb2 import Result

from services.checkout import messages, metrics, rules
from services.checkout.breaker import Breaker
from services.checkout.ledger import Ledger
from services.checkout.providers.protocol import (
    Captured,
    Charge,
    Provider,
    ProviderUnavailable,
    SessionState,
    Voided,
)
from services.checkout.records import Change, Order
from services.checkout.rules import Step
from services.checkout.states import OrderState, PaymentState
from services.checkout.store import Stale, Store, UnitTaken
from services.checkout.tickets import codes_of
from services.checkout.transitions import Steps
from services.kit import tracing
from services.kit.definitions import Definitions
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.signing import SigningKeys

T = TypeVar("T")

log = get_logger(__name__)

# What COMMIT answers where the hold is gone, by its time or with its store: the units may still be free.
GONE = frozenset({"HOLD_NOT_FOUND", "HOLD_EXPIRED", "HOLD_RELEASED", "HOLD_LOST"})
PAID = (SessionState.AUTHORIZED, SessionState.CAPTURED)


def now_ms() -> int:
    """The wall clock, milliseconds since 1970."""
    return int(time.time() * 1000)


class SagaSettings(Protocol):
    """What the saga reads of the settings."""

    @property
    def orders_in_flight(self) -> int: ...
    @property
    def breaker_failures(self) -> int: ...
    @property
    def breaker_pause_s(self) -> float: ...


class Saga:
    """Takes an order as far as it goes now. Two that drive the same order disturb nothing: one finds its view
    stale and reads again, and every effect outside carries the order's own key."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        providers: Mapping[str, Provider],
        definitions: Definitions,
        keys: SigningKeys,
        steps: Steps,
        settings: SagaSettings,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._providers = providers
        self._definitions = definitions
        self._keys = keys
        self._steps = steps
        self._most = settings.orders_in_flight
        self._breakers = {
            name: Breaker(settings.breaker_failures, settings.breaker_pause_s) for name in providers
        }
        self._driven: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self._acts: Mapping[Step, Callable[[Order], Awaitable[Order]]] = {
            Step.OPEN_PAYMENT: self._open_payment,
            Step.SELL: self._sell,
            Step.CAPTURE: self._capture,
            Step.LOOK_UP: self._look_up,
            Step.EXPIRE: self._expire,
            Step.VOID: self._void,
            Step.REFUND: self._refund,
            Step.REACQUIRE: self._reacquire,
            Step.GIVE_BACK: self._give_back,
        }

    # ---- who is driven ----

    def start(self, order: Order) -> None:
        """Lead the order on in the background. What fails is taken up by the sweeper."""
        self._driven[order.order_id] = self._driven.get(order.order_id, 0) + 1
        metrics.IN_FLIGHT.set(len(self._driven))
        if len(self._driven) >= self._most:
            self._room.clear()
        task = asyncio.create_task(self._drive_quietly(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def nudge(self, order: Order) -> None:
        """As `start`, unless this process is leading the order on already."""
        if order.order_id not in self._driven:
            self.start(order)

    async def room(self) -> None:
        """Return when fewer orders are driven than this process takes on."""
        await self._room.wait()

    async def idle(self) -> None:
        """Return when nothing is driven."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def wait_s(self, provider: str) -> float:
        """How long to leave the provider alone."""
        breaker = self._breakers.get(provider)
        return breaker.wait_s() if breaker else 0.0

    def paused(self) -> list[tuple[str, float]]:
        """Every provider, and for how many seconds it is left alone."""
        return [(name, breaker.wait_s()) for name, breaker in self._breakers.items()]

    async def drive(self, order: Order) -> Order:
        """Lead the order on until it has to wait for somebody, or has come to rest.

        Raises ProviderUnavailable or Refusal where somebody did not answer; the order stands where it stood.
        """
        while True:
            step = rules.next_step(order, now_ms())
            act = self._acts.get(step)
            if act is None:
                return order
            following = await self._take(step, act, order)
            if following is order:
                return order
            order = following

    async def _take(self, step: Step, act: Callable[[Order], Awaitable[Order]], order: Order) -> Order:
        """One step: the order after it, or the same one where it has to wait."""
        began, outcome = time.perf_counter(), "failed"
        try:
            try:
                with tracing.inner(f"saga {step.name.lower()}"):
                    following = await act(order)
                outcome = "waits" if following is order else "moved"
            except Stale:
                outcome = "stale"
                following = await self._reload(order)
            return following
        finally:
            metrics.STEP.labels(step.name.lower(), outcome).observe(time.perf_counter() - began)

    async def cancel(self, order: Order) -> Order:
        """End the order on request, and give back in the background what it has. Raises ORDER_STATE."""
        while order.state not in (OrderState.CANCELLED, OrderState.VOIDING):
            if order.ended or order.state is OrderState.CAPTURING:
                raise Refusal("ORDER_STATE", state=order.state)
            try:
                order = await self._move(order, self._steps.cancelled(order, now_ms()))
            except Stale:
                order = await self._reload(order)
        self.nudge(order)
        return order

    async def _drive_quietly(self, order: Order) -> None:
        try:
            with tracing.continued("saga", order.traceparent):
                await self._drive_or_tell(order)
        finally:
            left = self._driven[order.order_id] - 1
            if left:
                self._driven[order.order_id] = left
            else:
                del self._driven[order.order_id]
                metrics.IN_FLIGHT.set(len(self._driven))
            if len(self._driven) < self._most:
                self._room.set()

    async def _drive_or_tell(self, order: Order) -> None:
        try:
            await self.drive(order)
        except Exception as problem:
            expected = isinstance(problem, ProviderUnavailable) or refusal_for(problem) is not None
            tell = log.info if expected else log.exception
            tell("order_waits", order=order.order_id, sale=order.sale, problem=str(problem))

    # ---- the steps ----

    async def _open_payment(self, order: Order) -> Order:
        """HELD → AWAITING_PAYMENT. The session's deadline lies a grace before the pin's."""
        provider = self._provider(self._definitions.get(order.sale).sale.spec.payment.provider)
        charge = Charge(order.order_id, order.sale, order.amount, order.currency, order.pay_until_ms)
        session = await self._ask(provider, "authorize", provider.authorize(charge))
        after = self._steps.awaiting(order, provider.name, session.session_id, session.url, now_ms())
        try:
            return await self._move(order, after)
        except Stale:
            following = await self._reload(order)
            if following.payment is None and following.ended:
                # Cancelled in between: nobody else knows of the session, so it is closed here.
                await self._ask(provider, "void", provider.void(order.order_id, session.session_id))
            return following

    async def _expire(self, order: Order) -> Order:
        """HELD → EXPIRED: no session could be opened before the deadline."""
        return await self._move(order, self._steps.unpaid(order, now_ms()))

    async def _look_up(self, order: Order) -> Order:
        """AWAITING_PAYMENT past its deadline → AUTHORIZED if the provider has the money, else the end."""
        provider, session_id = self._session(order)
        try:
            state = await self._ask(provider, "look_up", provider.look_up(session_id))
        except ProviderUnavailable:
            if now_ms() < order.pin_until_ms:
                raise
            # The units are no longer kept, whatever the provider will say.
            return await self._move(order, self._steps.unpaid(order, now_ms(), provider_knows=False))
        if state in PAID:
            return await self._move(order, self._steps.authorized(order, now_ms()))
        if state is SessionState.PROCESSING and now_ms() < order.pin_until_ms:
            return order
        return await self._move(order, self._steps.unpaid(order, now_ms()))

    async def _sell(self, order: Order) -> Order:
        """AUTHORIZED, or HELD free of charge → CAPTURING: COMMIT, then the tickets claim the units."""
        (result,) = await self._ledger.apply(order.sale, [messages.commit_command(order)])
        committed = result.word
        if committed in GONE:
            (result,) = await self._ledger.apply(order.sale, [messages.reacquire_command(order)])
        if result.word not in ("COMMITTED", "REACQUIRED"):
            log.warning("not_sold", order=order.order_id, sale=order.sale, word=committed, again=result.word)
            return await self._move(order, self._steps.unsold(order, committed, now_ms()))
        try:
            return await self._move(order, self._capturing(order, result))
        except UnitTaken:
            # The ledger sold a unit twice. It stays sold there: it belongs to the other order.
            log.error("unit_taken", order=order.order_id, sale=order.sale)
            return await self._move(order, self._steps.unsold(order, "SOLD_OUT", now_ms()))

    async def _reacquire(self, order: Order) -> Order:
        """EXPIRED, and paid late → CAPTURING if the units can be had again; else the money goes back."""
        (result,) = await self._ledger.apply(order.sale, [messages.reacquire_command(order)])
        if result.word == "REACQUIRED":
            try:
                return await self._move(order, self._capturing(order, result))
            except UnitTaken:
                log.error("unit_taken", order=order.order_id, sale=order.sale)
        log.info("paid_late", order=order.order_id, sale=order.sale, word=result.word)
        return await self._move(order, self._steps.paid_late(order, PaymentState.VOIDING, now_ms()))

    async def _capture(self, order: Order) -> Order:
        """CAPTURING → CONFIRMED with signed tickets, or PAYMENT_FAILED."""
        if order.payment is not None:
            provider, session_id = self._session(order)
            capture = provider.capture(order.order_id, session_id, order.payment.amount)
            if await self._ask(provider, "capture", capture) is Captured.REFUSED:
                return await self._move(order, self._steps.capture_refused(order, now_ms()))
        at_ms = now_ms()
        codes = codes_of(order, self._keys.signing, at_ms)
        return await self._move(order, self._steps.confirmed(order, codes, at_ms))

    async def _void(self, order: Order) -> Order:
        """VOIDING → the order's end; or, after the end, the payment's own VOIDING → VOIDED."""
        provider, session_id = self._session(order)
        answer = await self._ask(provider, "void", provider.void(order.order_id, session_id))
        left = PaymentState.VOIDED if answer is Voided.VOIDED else PaymentState.REFUNDING
        if order.state is OrderState.VOIDING:
            return await self._move(order, self._steps.voided(order, left, now_ms()))
        if left is PaymentState.REFUNDING:
            return await self._move(order, self._steps.paid_late(order, left, now_ms()))
        return await self._move(order, self._steps.settled(order, left))

    async def _refund(self, order: Order) -> Order:
        """After the end: REFUNDING → REFUNDED, in full."""
        provider, session_id = self._session(order)
        amount = order.payment.amount if order.payment else 0
        await self._ask(provider, "refund", provider.refund(order.order_id, session_id, amount))
        return await self._move(order, self._steps.settled(order, PaymentState.REFUNDED))

    async def _give_back(self, order: Order) -> Order:
        """After the end: the ledger takes the units back, whether they are claimed, held or sold already."""
        # Run together, one of the two fits whatever was there; both refusing means that nothing is.
        commands = [messages.release_command(order), messages.return_command(order)]
        await self._ledger.apply(order.sale, commands)
        return await self._move(order, self._steps.returned(order))

    # ---- helpers ----

    def _capturing(self, order: Order, sold: Result) -> Order:
        # Where their hold was gone, the units may be others than it had.
        return self._steps.capturing(order, now_ms(), units=messages.units_of(sold.hold))

    async def _move(self, before: Order, after: Order) -> Order:
        return await self._store.advance(Change(before, after))

    async def _reload(self, order: Order) -> Order:
        found = await self._store.load_one(order.order_id)
        if found is None:
            raise LookupError(f"order {order.order_id} is gone")
        return found

    def _provider(self, name: str) -> Provider:
        provider = self._providers.get(name)
        if provider is None:
            raise ProviderUnavailable(f"there is no provider {name!r} here")
        return provider

    def _session(self, order: Order) -> tuple[Provider, str]:
        if order.payment is None:
            raise ValueError(f"order {order.order_id} has no payment")
        return self._provider(order.payment.provider), order.payment.session_id

    async def _ask(self, provider: Provider, name: str, call: Coroutine[Any, Any, T]) -> T:
        """Await a provider's answer and remember whether one came; one that keeps failing is not called."""
        breaker = self._breakers[provider.name]
        if breaker.wait_s():
            call.close()
            raise ProviderUnavailable(f"{provider.name} is left alone for a moment")
        began, outcome = time.perf_counter(), "failed"
        try:
            with tracing.inner(f"{provider.name} {name}", tracing.SpanKind.CLIENT):
                answer = await call
            outcome = "answered"
        except ProviderUnavailable:
            breaker.failed()
            outcome = "unavailable"
            raise
        finally:
            taken_s = time.perf_counter() - began
            metrics.PROVIDER.labels(provider.name, name, outcome).observe(taken_s)
        breaker.succeeded()
        return answer
