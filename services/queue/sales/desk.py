"""The organiser's desk: defines, pauses and archives sales, each step safe to repeat after a crash."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, SALE_PHASE_CLOSED, Sale, SaleCounts, SaleSpec

from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.logs import get_logger
from services.kit.manifest import ManifestInvalid, check_size, manifest_of, spec_of
from services.kit.plans.compiled import Plan
from services.kit.plans.document import PlanInvalid, read_plan
from services.kit.plans.mapping import problems
from services.queue.sales import rules
from services.queue.sales.neighbours import Inventory, Orders
from services.queue.sales.store import Conflict, DrawStore, SaleStore

log = get_logger("sales")

# Someone else's change in between is rare; several in a row are somebody's loop.
TRIES = 5
PROBLEMS_TOLD = 20
# A refusal travels in trailers, which have room for 8 kB; what is wrong may be quoted in it.
PROBLEM_CHARS = 200
TOLD_CHARS = 1000


class Known(Protocol):
    """What the desk needs of `services.kit.definitions.Definitions`."""

    async def latest(self, sale: str) -> Definition:
        """The definition as the bucket has it now. Raises Refusal SALE_NOT_FOUND."""

    def get(self, sale: str) -> Definition:
        """The definition as it is known here. Raises Refusal SALE_NOT_FOUND."""

    def standing(self) -> list[str]:
        """The ids of the known sales that are not archived, in order."""

    def archived(self) -> list[str]:
        """Those of the archived ones, in order."""


class Plans(Protocol):
    """What the desk needs of `services.kit.plans.store.PlanStore`."""

    async def find(self, digest: str) -> Plan | None:
        """A plan by its digest, or None."""

    async def put(self, plan: Plan) -> bool:
        """Stores a plan. False where it was stored before."""


class Desk:
    """Every change of a definition goes through here."""

    def __init__(
        self,
        known: Known,
        store: SaleStore,
        draws: DrawStore,
        inventory: Inventory,
        orders: Orders,
        plans: Plans,
        *,
        load_queue: Callable[[str, int], Awaitable[None]],
        drop_queue: Callable[[str], Awaitable[None]],
        now_ms: Callable[[], Awaitable[int]],
        buyer_key_id: Callable[[], str],
        offered: rules.Offered,
    ) -> None:
        """`load_queue(sale, revision)` returns once the line's store holds the revision; `drop_queue(sale)`
        frees its keys; `now_ms()` is the store's clock, the only one that decides phases; `buyer_key_id()` is
        the key that a new sale's buyers are hashed with; `offered` is what the settings make possible.
        """
        self._known = known
        self._store = store
        self._draws = draws
        self._inventory = inventory
        self._orders = orders
        self._plans = plans
        self._load_queue = load_queue
        self._drop_queue = drop_queue
        self._now_ms = now_ms
        self._buyer_key_id = buyer_key_id
        self._offered = offered

    async def define(
        self, sale_id: str, spec: SaleSpec, revision: int, *, dry_run: bool = False
    ) -> tuple[Sale, bool]:
        """The sale under this spec, and whether that changed it. Raises Refusal.

        The definition is stored first and loaded after; a crash in between is healed by defining again, which
        always loads.
        """
        spec = await self._seated(_judged(sale_id, spec))
        for _ in range(TRIES):
            now_ms = await self._now_ms()
            before = await self._latest(sale_id)
            after = self._merged(sale_id, before, spec, now_ms)
            changed = before is None or after.spec != before.sale.spec
            if changed:
                _admit(before, after, revision, now_ms, self._offered)
            if changed and not dry_run:
                try:
                    after = await self._write(after, before.revision if before else 0)
                except Conflict:
                    continue
            elif before is not None:
                after.revision = before.revision
            if not dry_run:
                await self._load(sale_id, after.revision)
            after.phase = rules.phase(after, now_ms)
            return after, changed
        raise Refusal("OVERLOADED", sale=sale_id)

    async def push_plan(self, document: bytes, *, dry_run: bool) -> tuple[Plan, bool]:
        """The plan of a document, and whether it was stored now. Raises Refusal PLAN_INVALID."""
        try:
            # It takes a second for a large house, and others are served meanwhile.
            plan = await asyncio.to_thread(read_plan, document)
        except PlanInvalid as invalid:
            wrong = [(problem.path, problem.problem) for problem in invalid.problems]
            raise _invalid(wrong, "PLAN_INVALID") from None
        stored = not dry_run and await self._plans.put(plan)
        log.info("plan_pushed", digest=plan.digest, stored=stored)
        return plan, stored

    async def _seated(self, spec: SaleSpec) -> SaleSpec:
        """The spec with what the plan says. Raises Refusal DEFINITION_INVALID where they do not fit."""
        if not spec.HasField("seating_plan"):
            return spec
        plan = await self._plans.find(spec.seating_plan.digest)
        if plan is None:
            raise _invalid([("spec.seatingPlan.digest", "no plan with this digest is stored")])
        wrong = await asyncio.to_thread(problems, spec, plan)
        if wrong:
            raise _invalid([(each.path, each.problem) for each in wrong])
        return rules.seated(spec, plan)

    async def pause(self, sale_id: str, paused: bool) -> Sale:
        """The sale, calling stopped or resumed. Raises Refusal WRONG_PHASE, SALE_ARCHIVED."""
        for _ in range(TRIES):
            now_ms = await self._now_ms()
            before = await self._known.latest(sale_id)
            phase = rules.phase(before.sale, now_ms)
            if phase == SALE_PHASE_ARCHIVED:
                raise Refusal("SALE_ARCHIVED", sale=sale_id)
            if phase == SALE_PHASE_CLOSED:
                raise Refusal("WRONG_PHASE", phase="CLOSED", needs="OPEN")
            after = _copy(before)
            if before.sale.spec.paused != paused:
                after.spec.paused = paused
                try:
                    after = await self._write(after, before.revision)
                except Conflict:
                    continue
            await self._load(sale_id, after.revision)
            after.phase = rules.phase(after, now_ms)
            return after
        raise Refusal("OVERLOADED", sale=sale_id)

    async def archive(self, sale_id: str) -> Sale:
        """Frees a closed and settled sale's keys, then says so. Raises Refusal SALE_NOT_SETTLED, WRONG_PHASE.

        In this order, because services let go of an archived sale: what they have yet to publish would stay
        behind. Archiving again frees what a crash left.
        """
        for _ in range(TRIES):
            before = await self._known.latest(sale_id)
            phase = rules.phase(before.sale, await self._now_ms())
            if phase not in (SALE_PHASE_CLOSED, SALE_PHASE_ARCHIVED):
                raise Refusal("WRONG_PHASE", phase=rules.phase_word(phase), needs="CLOSED")
            if phase == SALE_PHASE_CLOSED:
                open_orders = await self._orders.open_orders(sale_id)
                if open_orders:
                    raise Refusal("SALE_NOT_SETTLED", open_orders=open_orders)
            await self._inventory.drop(sale_id)
            await self._drop_queue(sale_id)
            after = _copy(before)
            if phase == SALE_PHASE_CLOSED:
                after.phase = SALE_PHASE_ARCHIVED
                try:
                    after = await self._write(after, before.revision)
                except Conflict:
                    continue
            return after
        raise Refusal("OVERLOADED", sale=sale_id)

    async def get(self, sale_id: str) -> tuple[Sale, int]:
        """One sale with phase and counts, and the time of the store's clock, in ms, that the phase goes by.

        Without counts where inventory cannot say.
        """
        try:
            sale = _copy(self._known.get(sale_id))
        except Refusal:
            # It may have been defined a moment ago, by another replica.
            sale = _copy(await self._known.latest(sale_id))
        counts, now_ms = await asyncio.gather(self._counts(sale), self._now_ms())
        if counts is not None:
            sale.counts.CopyFrom(counts)
        sale.phase = rules.phase(sale, now_ms)
        return sale, now_ms

    async def list(self, after: str, size: int, *, archived: bool) -> tuple[list[Sale], str]:
        """Up to `size` sales behind the id `after`, and the id to go on behind; empty at the end."""
        now_ms = await self._now_ms()
        known = sorted([*self._known.standing(), *(self._known.archived() if archived else ())])
        found = [sale for sale in known if sale > after]
        page = [rules.without_sections(_copy(self._known.get(sale))) for sale in found[:size]]
        for sale in page:
            sale.phase = rules.phase(sale, now_ms)
        return page, page[-1].sale if len(found) > size else ""

    async def _latest(self, sale_id: str) -> Definition | None:
        try:
            return await self._known.latest(sale_id)
        except Refusal as refusal:
            if refusal.word != "SALE_NOT_FOUND":
                raise
            return None

    def _merged(self, sale_id: str, before: Definition | None, spec: SaleSpec, now_ms: int) -> Sale:
        if before is None:
            return rules.created(sale_id, spec, now_ms, self._buyer_key_id())
        if before.archived:
            raise Refusal("SALE_ARCHIVED", sale=sale_id)
        return rules.changed(before.sale, spec)

    async def _counts(self, sale: Sale) -> SaleCounts | None:
        return None if sale.phase == SALE_PHASE_ARCHIVED else await self._inventory.counts(sale.sale)

    async def _write(self, sale: Sale, revision: int) -> Sale:
        """The sale as it was stored. A draw is committed to with the first revision that has a line."""
        if rules.has_draw(sale.spec):
            sale.draw_commitment = await self._draws.commitment(sale.sale)
        sale.revision = await self._store.write(sale, revision)
        # Whoever asks here next reads what was written.
        await self._known.latest(sale.sale)
        log.info("sale_defined", sale=sale.sale, revision=sale.revision, paused=sale.spec.paused)
        return sale

    async def _load(self, sale_id: str, revision: int) -> None:
        await asyncio.gather(self._load_queue(sale_id, revision), self._inventory.load(sale_id, revision))


def _judged(sale_id: str, spec: SaleSpec) -> SaleSpec:
    """The spec with the schema's defaults. Raises Refusal DEFINITION_INVALID."""
    try:
        check_size(sale_id, spec)
        return spec_of(manifest_of(sale_id, spec))[1]
    except ManifestInvalid as invalid:
        raise _invalid([(problem.path, problem.problem) for problem in invalid.problems]) from None


def _invalid(wrong: Sequence[tuple[str, str]], word: str = "DEFINITION_INVALID") -> Refusal:
    told = [f"{path}: {_short(problem, PROBLEM_CHARS)}" for path, problem in wrong[:PROBLEMS_TOLD]]
    path, problem = wrong[0]
    return Refusal(
        word,
        _short("; ".join(told), TOLD_CHARS),
        path=path,
        problem=_short(problem, PROBLEM_CHARS),
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _admit(
    before: Definition | None, after: Sale, revision: int, now_ms: int, offered: rules.Offered
) -> None:
    """Raises Refusal unless this change may be made, now and from this revision."""
    stands = before.revision if before else 0
    if revision not in (0, stands):
        raise Refusal("REVISION_CONFLICT", revision=stands)
    not_offered = rules.not_offered(after.spec, offered)
    if not_offered:
        raise _invalid([(each.path, each.problem) for each in not_offered])
    if before is None:
        wrong = rules.wrong_at_creation(after.spec, now_ms)
        if wrong:
            raise _invalid([(each.path, each.problem) for each in wrong])
        return
    fixed = rules.fixed(before.sale, after.spec, now_ms)
    if fixed:
        told = "; ".join(f"{each.path} is fixed since the {each.since}" for each in fixed[:PROBLEMS_TOLD])
        raise Refusal("DEFINITION_FIXED", told, path=fixed[0].path, fixed_since=fixed[0].since)


def _copy(definition: Definition) -> Sale:
    copy = Sale()
    copy.CopyFrom(definition.sale)
    return copy
