"""Keeps one sale as its resource says: looks, asks what to do, does it, writes the status, sleeps."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from catraca.sale.v1.sale_pb2 import SALE_PHASE_CLOSED, SALE_PHASE_OPEN, SALE_PHASE_PAUSED, SalePhase

from catraca_operator import metrics
from catraca_operator.clock import Clock
from catraca_operator.fleet import Body
from catraca_operator.floors import Crowd, Wish, begins_ms, ends_ms
from catraca_operator.forecast import Forecast, PerReplica, Sample, forecast, thinned
from catraca_operator.reconcile import (
    Action,
    Actual,
    Boundary,
    Define,
    Limits,
    Pause,
    Plan,
    Stands,
    reconcile,
    stands_of,
    wish_of,
)
from catraca_operator.resources import AWAY, FINALIZER, Changed, Cluster, Gone, why
from catraca_operator.sales import Sales, Seen
from catraca_operator.spec import Desired, decode, time_text
from catraca_operator.status import Condition, News, Refused, Target, known, news
from services.kit.errors import Refusal
from services.kit.logs import get_logger
from services.kit.manifest import ManifestInvalid
from services.kit.tasks import raise_if_cancelled

log = get_logger("keeper")

# An action leads to another look and perhaps to another action; more in a row wait for the next time.
STEPS = 4
AFTER_FAILURE_S = (0.5, 1.0, 2.0, 5.0)
# After the cooldown it takes a while until the floors are seen to be down.
AFTERMATH_MS = 120_000
# What the services are asked for a boundary: often, but only around it.
BOUNDARY_POLL_S = 0.05
BOUNDARY_AHEAD_S = 0.2
BOUNDARY_PATIENCE_S = 30.0
BOUNDARY_MISSED_S = 1.0
# Refusals that say nothing about the sale: the operator's token is wrong, or a service is.
OF_THE_OPERATOR = frozenset({"TOKEN_INVALID", "TOKEN_EXPIRED", "ROLE_REQUIRED", "INTERNAL"})
REACHED: Mapping[str, frozenset["SalePhase.ValueType"]] = {
    "open": frozenset({SALE_PHASE_OPEN, SALE_PHASE_PAUSED}),
    "close": frozenset({SALE_PHASE_CLOSED}),
}


class Scaling(Protocol):
    """What a keeper needs of the scaler."""

    def wake(self) -> None: ...
    def targets(self) -> dict[str, Target]: ...
    def crowds(self, sale: str) -> dict[str, Crowd]: ...


class Keeper:
    """One TicketSale's loop: `seen` tells it of the resource, `wake` of anything else that changed."""

    def __init__(
        self,
        body: Body,
        *,
        cluster: Cluster,
        sales: Sales,
        scaling: Scaling,
        clock: Clock,
        limits: Limits,
        per_replica: PerReplica,
        turns: asyncio.Semaphore,
    ) -> None:
        """`turns` bounds how many keepers work at once."""
        self._cluster = cluster
        self._sales = sales
        self._scaling = scaling
        self._clock = clock
        self._limits = limits
        self._per_replica = per_replica
        self._turns = turns
        self._woken = asyncio.Event()
        self._body = body
        self._changed_at: float | None = time.monotonic()
        self._samples: tuple[Sample, ...] = ()
        self._forecast: Forecast | None = None
        self._stands: Stands | None = None
        """What the services hold, as they said last."""
        self._known: list[Condition] = []
        """What was known last of each condition."""
        self._failures = 0
        self._boundary: Boundary | None = None
        """The next, until it was looked at."""
        self.desired: Desired | None = None
        self._invalid: ManifestInvalid | None = None
        self._decode()

    # ---- what others tell it ----

    def seen(self, body: Body) -> None:
        """The resource as the watch has it now."""
        before = self._body["metadata"]
        self._body = body
        after = body["metadata"]
        if any(before.get(name) != after.get(name) for name in ("generation", "deletionTimestamp")):
            self._changed_at = time.monotonic()
            self._decode()
            self.wake()

    def wake(self) -> None:
        """Look again now."""
        self._woken.set()

    @property
    def uid(self) -> str:
        """Which resource it is: another one of the same name is another."""
        return str(self._body["metadata"]["uid"])

    @property
    def waits_for_replicas(self) -> bool:
        """Whether replicas that come or go now change what is said of the sale."""
        wish, now_ms = self.wish, self._clock.now_ms()
        return wish is not None and begins_ms(wish) <= now_ms < ends_ms(wish) + AFTERMATH_MS

    @property
    def wish(self) -> Wish | None:
        """What the sale wants of floors; None for a resource that cannot be read."""
        if self.desired is None:
            return None
        return wish_of(self.desired, self._forecast, self._body.get("status", {}), self._stands)

    def _decode(self) -> None:
        # Another definition may have moved it.
        self._boundary = None
        try:
            self.desired, self._invalid = decode(self._body), None
        except ManifestInvalid as invalid:
            # The API server judges by the same schema: this is a resource from before a change of it.
            self._invalid = invalid
            log.warning("resource_invalid", sale=self._body["metadata"]["name"], problem=str(invalid))

    # ---- the loop ----

    async def run(self, progressed: Callable[[float], None]) -> None:
        """Keep the sale until the resource is gone; `progressed(s)` says when, from now, it looks again."""
        while True:
            raise_if_cancelled()
            self._woken.clear()
            began = time.perf_counter()
            outcome = "done"
            try:
                async with self._turns:
                    # A turn may be long in coming where many want one; that is told by the wait for a change.
                    began = time.perf_counter()
                    plan = await self._reconcile()
                self._failures = 0
            except Gone:
                return
            except Changed:
                outcome, plan = "changed", None
                await self._read_again()
            except AWAY as error:
                outcome, plan = "failed", None
                log.warning("not_reconciled", sale=self._body["metadata"]["name"], problem=why(error))
            except Exception:
                outcome, plan = "failed", None
                log.exception("not_reconciled", sale=self._body["metadata"]["name"])
            metrics.RECONCILE.labels(outcome).observe(time.perf_counter() - began)
            if plan is not None and plan.released:
                return
            await self._pause(plan, progressed)

    async def _pause(self, plan: Plan | None, progressed: Callable[[float], None]) -> None:
        now_ms = self._clock.now_ms()
        if plan is None:
            wake_ms = now_ms + round(AFTER_FAILURE_S[min(self._failures, len(AFTER_FAILURE_S) - 1)] * 1000)
            self._failures += 1
        else:
            wake_ms = plan.wake_ms
            # One that passed while the plan was made was not looked at yet.
            if self._boundary is None or self._boundary.at_ms > now_ms:
                self._boundary = plan.boundary
        # Services pass it, and can be asked, also while Kubernetes is away.
        boundary = self._boundary
        is_near = boundary is not None and boundary.at_ms <= wake_ms
        if boundary is not None and is_near:
            wake_ms = boundary.at_ms
        pause_s = max(0.0, (wake_ms - now_ms) / 1000)
        progressed(pause_s)
        try:
            async with asyncio.timeout(max(0.0, pause_s - (BOUNDARY_AHEAD_S if is_near else 0.0))):
                await self._woken.wait()
        except TimeoutError:
            if boundary is not None and is_near:
                self._boundary = None
                progressed(BOUNDARY_PATIENCE_S)
                await self._measure(boundary)

    async def _read_again(self) -> None:
        try:
            self.seen(await self._cluster.read(self._body["metadata"]["name"]))
        except Exception as error:
            # The watch brings it too, a little later.
            log.info("not_read_again", sale=self._body["metadata"]["name"], problem=why(error))

    # ---- one reconciliation ----

    async def _reconcile(self) -> Plan:
        """Act until there is nothing to do, then write the status. Raises Changed, Gone."""
        if self.desired is None or self._invalid is not None:
            return await self._tell_invalid()
        if not self.desired.deleting and FINALIZER not in self._body["metadata"].get("finalizers", ()):
            self._body = await self._cluster.write_finalizer(self._body, kept=True)
        refused: Refused | None = None
        for step in range(STEPS):
            actual = await self._look(self.desired, refused)
            plan = reconcile(self.desired, actual, self._clock.now_ms(), self._limits)
            if plan.action is None or step == STEPS - 1:
                break
            refused = await self._act(plan.action)
        if plan.released:
            await self._release()
            return plan
        await self._write(plan.status)
        if self._changed_at is not None:
            metrics.WAIT.observe(time.monotonic() - self._changed_at)
            self._changed_at = None
        return plan

    async def _look(self, desired: Desired, refused: Refused | None) -> Actual:
        seen: Seen | None = None
        answered, silence = True, ""
        if refused is not None and refused.passing:
            answered, silence, refused = False, f"{refused.word}: {refused.message}", None
        try:
            seen = await self._sales.look(desired.name)
        except Refusal as refusal:
            answered, silence = False, f"{refusal.word}: {refusal.message}"
        else:
            self._stood(seen)
        if seen is not None and seen.standing is not None:
            self._foresee(desired, seen.standing.joined)
        return Actual(
            sale=seen.sale if seen else None,
            answered=answered,
            silence=silence,
            standing=seen.standing if seen else None,
            open_orders=seen.open_orders if seen else None,
            targets=self._scaling.targets(),
            crowds=self._scaling.crowds(desired.name),
            forecast=self._forecast,
            stood=self._stands,
            refused=refused,
            before=self._body.get("status", {}),
        )

    def _foresee(self, desired: Desired, joined: int) -> None:
        now_ms = self._clock.now_ms()
        schedule = self._stands.schedule if self._stands is not None else desired.schedule
        start = self._samples or (Sample(min(schedule.lobby_ms, now_ms), 0),)
        self._samples = thinned((*start, Sample(now_ms, joined)), now_ms)
        before = self._forecast
        self._forecast = forecast(
            self._samples, schedule.opens_ms, now_ms, desired.definition, self._per_replica
        )
        if before is None or self._forecast is None or before.replicas != self._forecast.replicas:
            self._scaling.wake()

    def _stood(self, seen: Seen | None) -> None:
        before, self._stands = self._stands, stands_of(seen.sale) if seen is not None else None
        if before != self._stands:
            self._scaling.wake()

    async def _act(self, action: Action) -> Refused | None:
        """Do it; the services' no, where they said one. What cannot be reached now is no answer."""
        name = self._body["metadata"]["name"]
        try:
            if isinstance(action, Define):
                await self._sales.define(name, action.spec)
            elif isinstance(action, Pause):
                await self._sales.pause(name, action.paused)
            else:
                await self._sales.archive(name)
        except Refusal as refusal:
            log.info("refused", sale=name, action=type(action).__name__, word=refusal.word)
            open_orders = refusal.metadata.get("open_orders")
            return Refused(
                refusal.word,
                refusal.message,
                refusal.metadata.get("path", ""),
                int(open_orders) if open_orders else None,
                passing=refusal.retry_after_s is not None or refusal.word in OF_THE_OPERATOR,
            )
        log.info("did", sale=name, action=type(action).__name__)
        return None

    async def _tell_invalid(self) -> Plan:
        """A resource that the schema of this operator does not take keeps the status it had, but for this."""
        before = self._body.get("status", {})
        problem = str(self._invalid)
        known = [each for each in before.get("conditions", ()) if each["type"] != "SpecValid"]
        was: Mapping[str, Any] = next(
            (each for each in before.get("conditions", ()) if each["type"] == "SpecValid"), {}
        )
        now_ms = self._clock.now_ms()
        condition = {
            "type": "SpecValid",
            "status": "False",
            "observedGeneration": self._body["metadata"]["generation"],
            "lastTransitionTime": was["lastTransitionTime"]
            if was.get("status") == "False"
            else time_text(now_ms),
            "reason": "DEFINITION_INVALID",
            "message": problem,
        }
        await self._write({**before, "conditions": [*known, condition]})
        return Plan(None, {}, now_ms + self._limits.idle_ms)

    async def _write(self, status: Mapping[str, Any]) -> None:
        """Write the status where it differs, and tell people what it says that is new."""
        before = self._body.get("status", {})
        if status == before:
            return
        self._known = known(self._known, before.get("conditions", ()))
        self._body = await self._cluster.write_status(self._body, status)
        for each in news(self._known, status["conditions"]):
            await self._tell(each)

    async def _tell(self, each: News) -> None:
        log.info("news", sale=self._body["metadata"]["name"], reason=each.reason, message=each.message)
        try:
            await self._cluster.post(self._body, each, self._clock.now_ms())
        except Exception as error:
            # The status says it too; a missed Event is no reason to do everything again.
            log.warning("event_not_posted", sale=self._body["metadata"]["name"], problem=why(error))

    async def _release(self) -> None:
        if FINALIZER in self._body["metadata"].get("finalizers", ()):
            await self._tell(News("Normal", "Released", "Nothing is under way; the resource may go."))
            await self._cluster.write_finalizer(self._body, kept=False)

    # ---- boundaries ----

    async def _measure(self, boundary: Boundary) -> None:
        """Ask the services until they say that they passed it, and how late that was by their own clock.

        Where they are asked for the first time long after it, nobody knows when they passed it.
        """
        name, was_awaited = self._body["metadata"]["name"], False
        until, desired = time.monotonic() + BOUNDARY_PATIENCE_S, self.desired
        # Another definition may have moved it.
        while time.monotonic() < until and self.desired is desired:
            try:
                phase, now_ms = await self._sales.phase(name)
            except Refusal as refusal:
                log.info("not_asked", sale=name, boundary=boundary.name, word=refusal.word)
            else:
                if phase in REACHED[boundary.name]:
                    late_s = max(0, now_ms - boundary.at_ms) / 1000
                    if was_awaited or late_s <= BOUNDARY_MISSED_S:
                        metrics.LATENESS.labels(boundary.name).observe(late_s)
                    log.info("boundary", sale=name, boundary=boundary.name, late_s=late_s, seen=was_awaited)
                    return
            was_awaited = True
            await asyncio.sleep(BOUNDARY_POLL_S)
