"""The one port to Postgres: takes orders, moves them, reads them, and keeps the outbox."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
from catraca.checkout.v1.checkout_pb2 import OrderUnits

from services.checkout import metrics, rows
from services.checkout.messages import Announcement, announcement
from services.checkout.records import Buyer, Change, Order
from services.checkout.states import TERMINAL, OrderState
from services.kit.batcher import Batcher
from services.kit.sql import Queries, migrate, missing_migrations

SQL = Path(__file__).with_name("sql")
MIGRATIONS = SQL / "migrations"
LOCK_ID = 0x0CA7_2ACA
LIVE_UNIT_INDEX = "tickets_live_unit"
BATCH = 256
ROWS_READ = 1000


class NotMoved(Exception):
    """A change was not written, nor anything that belongs to it."""


class Stale(NotMoved):
    """The order is not any more what the change started from."""


class UnitTaken(NotMoved):
    """A live ticket of another order has one of the units (I1)."""


class Collision(NotMoved):
    """The webhook's event or the session is known under another order."""


Outcome = Order | NotMoved


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A state of an order that waits for publication, or the last published one before it."""

    announcement: Announcement
    published: bool
    stream_sequence: int | None


class Store:
    """Orders in Postgres. Every method is one statement, and so all or nothing.

    Raises what the database raises where it does not answer: the table of refusals knows it as UNAVAILABLE.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self._pool = pool
        self._queries = Queries.load(SQL)
        self._advances = Batcher(self._advance, BATCH, name="checkout_advances")
        self._loads = Batcher(self._load, BATCH, name="checkout_loads")
        self._announced: Callable[[list[Announcement]], None] = lambda _: None

    def on_announced(self, callback: Callable[[list[Announcement]], None]) -> None:
        """Call with what a statement just wrote into the outbox."""
        self._announced = callback

    async def migrate(self) -> None:
        """Bring the schema up to date; replicas that start together wait for each other."""
        await migrate(self._pool, MIGRATIONS, LOCK_ID)

    async def missing_migrations(self) -> list[str]:
        """What the schema lacks, where somebody else brings it up to date."""
        return await missing_migrations(self._pool, MIGRATIONS)

    # ---- writing ----

    async def insert(self, arrivals: Sequence[tuple[Order, Buyer]]) -> set[str]:
        """Write orders that are new here as ACCEPTED and return their ids; those that are known stay."""
        once = {order.order_id: (order, buyer) for order, buyer in arrivals}
        announced = [announcement(order) for order, _ in once.values()]
        arrays = rows.inserted(list(once.values()), announced)
        new = {row["order_id"] for row in await self._pool.fetch(self._queries.insert_orders, *arrays)}
        metrics.count_new(order for order, _ in once.values() if order.order_id in new)
        self._announced([each for each in announced if each.order_id in new])
        return new

    async def advance(self, change: Change) -> Order:
        """Write one change and return the order after it. Raises NotMoved."""
        outcome = await self._advances.submit(change)
        if isinstance(outcome, Order):
            return outcome
        raise outcome

    async def advance_many(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write changes of different orders: for each the order after it, or why it was not written."""
        return await self._advances.submit_many(list(changes))

    async def due(self, now_ms: int, retry_ms: int, longest_ms: int, limit: int) -> list[str]:
        """The orders whose time has come; each visit puts the next one further off."""
        taken = await self._pool.fetch(self._queries.due_orders, now_ms, retry_ms, longest_ms, limit)
        return [row["order_id"] for row in taken]

    async def _advance(self, changes: list[Change]) -> list[Outcome]:
        # Two callers with the same order in one batch: the first has it, the other's view is stale then.
        first: dict[str, Change] = {}
        for change in changes:
            first.setdefault(change.after.order_id, change)
        try:
            moved = await self._write(list(first.values()))
        except asyncpg.IntegrityConstraintViolationError as violation:
            if len(first) == 1:
                return [_refused(violation), *(Stale() for _ in changes[1:])]
            # One of them breaks an index: each alone, so that it breaks nobody else's.
            return [(await self._advance([change]))[0] for change in changes]
        return [
            replace(change.after, revision=change.before.revision + 1)
            if change is first[change.after.order_id] and change.after.order_id in moved
            else Stale()
            for change in changes
        ]

    async def _write(self, changes: list[Change]) -> set[str]:
        changes = sorted(changes, key=lambda change: change.after.order_id)
        announced = [announcement(change.after) for change in changes if change.published]
        arrays = rows.advanced(changes, announced)
        moved = {row["order_id"] for row in await self._pool.fetch(self._queries.advance_orders, *arrays)}
        metrics.count_moves(change for change in changes if change.after.order_id in moved)
        self._announced([each for each in announced if each.order_id in moved])
        return moved

    # ---- reading ----

    async def load(self, order_ids: Sequence[str]) -> dict[str, Order]:
        """Orders by id; those that are not known are left out."""
        if not order_ids:
            return {}
        found = await self._pool.fetch(self._queries.orders_by_id, list(order_ids))
        return {row["order_id"]: rows.order_of(row) for row in found}

    async def load_one(self, order_id: str) -> Order | None:
        """One order, if it is known. Calls that come together share a statement."""
        return await self._loads.submit(order_id)

    async def _load(self, order_ids: list[str]) -> list[Order | None]:
        found = await self.load(order_ids)
        return [found.get(order_id) for order_id in order_ids]

    async def page_of_buyer(self, buyer: str, sale: str, before: tuple[int, str], limit: int) -> list[Order]:
        """A buyer's orders of a sale, newest first, after the one with this accepted_at_ms and id."""
        page = await self._pool.fetch(self._queries.orders_of_buyer, buyer, sale, *before, limit)
        found = await self.load([row["order_id"] for row in page])
        return [found[row["order_id"]] for row in page]

    async def id_in(self, sale: str, namespace: str, subject: str) -> str | None:
        """The buyer id under which a subject has orders of a sale, if it has any."""
        found: str | None = await self._pool.fetchval(self._queries.id_in_sale, sale, namespace, subject)
        return found

    async def count(self, sale: str) -> tuple[dict[OrderState, int], int]:
        """How many orders a sale has by state, and how many ended ones still owe something."""
        counted = await self._pool.fetch(self._queries.count_orders, sale)
        by_state = {OrderState(row["state"]): row["orders"] for row in counted}
        unsettled = sum(row["unsettled"] for row in counted if OrderState(row["state"]) in TERMINAL)
        return by_state, unsettled

    async def overview(self, sales: Sequence[str]) -> tuple[dict[tuple[str, OrderState], int], int]:
        """How many orders these sales have by (sale, state), and how many states wait for publication."""
        counted = await self._pool.fetch(self._queries.count_orders_of_sales, list(sales))
        by_state = {(row["sale"], OrderState(row["state"])): row["orders"] for row in counted}
        return by_state, await self._pool.fetchval(self._queries.count_unpublished)

    async def units_of_sale(self, sale: str) -> AsyncIterator[OrderUnits]:
        """What every order of a sale has to do with its units, all of them as at one moment."""
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            cursor = connection.cursor(self._queries.units_of_sale, sale, prefetch=ROWS_READ)
            async for row in cursor:
                yield rows.units_message(row)

    async def webhook_seen(self, provider: str, event_id: str) -> bool:
        """Whether an event of the provider's has had its effect."""
        return bool(await self._pool.fetchval(self._queries.webhook_seen, provider, event_id))

    # ---- the pace of sales ----

    async def give_slots(
        self, sale: str, sequences: Sequence[int], interval_us: int, longest_us: int
    ) -> dict[int, int]:
        """Give a slot to each place in INTAKE that has none; for every one the microseconds until its slot.

        New slots are so far apart, and none is further off than the longest wait.
        """
        given = await self._pool.fetch(
            self._queries.give_slots, sale, list(sequences), interval_us, longest_us
        )
        return {row["sequence"]: row["wait_us"] for row in given}

    async def drop_slots(self, sale: str, sequences: Sequence[int]) -> None:
        """Forget the slots of orders that were taken on."""
        await self._pool.execute(self._queries.drop_slots, sale, list(sequences))

    async def drop_left_slots(self, archived: Sequence[str], past_us: int) -> None:
        """Forget the slots and the pace of archived sales, and every slot that is past for so long."""
        await self._pool.execute(self._queries.drop_left_slots, list(archived), past_us)

    # ---- the outbox ----

    async def stale_announcements(self, decided_until_ms: int, limit: int) -> list[str]:
        """Orders with states decided until then that are not published yet."""
        found = await self._pool.fetch(self._queries.stale_rows, decided_until_ms, limit)
        return [row["order_id"] for row in found]

    async def outbox_of(self, order_ids: Sequence[str]) -> dict[str, list[OutboxRow]]:
        """What is unpublished of these orders in order of version, after the last published one."""
        by_order: dict[str, list[OutboxRow]] = {order_id: [] for order_id in order_ids}
        for row in await self._pool.fetch(self._queries.rows_of, list(order_ids)):
            announced = Announcement(
                row["order_id"],
                row["version"],
                row["subject"],
                row["decided_at_ms"],
                row["payload"],
                row["traceparent"],
            )
            by_order[row["order_id"]].append(OutboxRow(announced, row["published"], row["stream_sequence"]))
        return by_order

    async def mark_published(self, marks: Sequence[tuple[str, int, int | None]]) -> None:
        """Note (order, version, stream sequence) as published."""
        await self._pool.execute(self._queries.mark_published, *rows.columns(marks, 3))


def _refused(violation: asyncpg.IntegrityConstraintViolationError) -> NotMoved:
    return UnitTaken() if violation.constraint_name == LIVE_UNIT_INDEX else Collision(str(violation))
