"""Single calls gathered into batches: many buyers at once cost one run of the script, and one signature."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from catraca.queue.v1 import queue_pb2

from services.kit.batcher import Batcher, PerKey
from services.kit.errors import Refusal
from services.queue.line import BUYERS_PER_RUN, Line, View
from services.queue.states import Joiner, PlaceView, Standing

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Seen:
    """One buyer's place, the standing it is true at, and for a join the receipt it shares."""

    view: PlaceView
    standing: Standing
    receipt: queue_pb2.Receipt | None = None


Place = Seen | Refusal
Admission = queue_pb2.Admission | Refusal


class Unary:
    """The line for one buyer at a time. Each method raises the buyer's own Refusal."""

    def __init__(self, line: Line, joins_per_run: int) -> None:
        """`joins_per_run` bounds the receipt that the joins of a run share."""
        self._line = line
        self._joins = _per_sale("queue_joins", self._run_joins, joins_per_run)
        self._reads = _per_sale("queue_reads", self._run_reads, BUYERS_PER_RUN)
        self._leaves = _per_sale("queue_leaves", self._run_leaves, BUYERS_PER_RUN)
        self._enters = _per_sale("queue_enters", line.enter, BUYERS_PER_RUN)

    async def join(self, sale: str, joiner: Joiner) -> Seen:
        """Takes a place. The sale must exist, as for every method here."""
        return _sound(await self._joins[sale].submit(joiner))

    async def read(self, sale: str, buyer: bytes) -> Seen:
        """Reads a place."""
        return _sound(await self._reads[sale].submit(buyer))

    async def leave(self, sale: str, buyer: bytes) -> Seen:
        """Gives a place up."""
        return _sound(await self._leaves[sale].submit(buyer))

    async def enter(self, sale: str, buyer: bytes) -> queue_pb2.Admission:
        """Trades a running turn for an admission."""
        admission = await self._enters[sale].submit(buyer)
        if isinstance(admission, Refusal):
            raise admission
        return admission

    def forget(self, sale: str) -> None:
        """Lets go of what is kept for an archived sale."""
        for batchers in (self._reads, self._leaves):
            batchers.drop(sale)
        self._joins.drop(sale)
        self._enters.drop(sale)

    async def _run_joins(self, sale: str, joiners: list[Joiner]) -> list[Place]:
        joins = await self._line.join(sale, joiners)
        return _seen(joins.views, joins.standing, joins.receipt)

    async def _run_reads(self, sale: str, buyers: list[bytes]) -> list[Place]:
        answers = await self._line.read(sale, buyers)
        return _seen(answers.views, answers.standing)

    async def _run_leaves(self, sale: str, buyers: list[bytes]) -> list[Place]:
        answers = await self._line.leave(sale, buyers)
        return _seen(answers.views, answers.standing)


def _per_sale(
    name: str, run: Callable[[str, list[T]], Awaitable[list[R]]], max_items: int
) -> PerKey[str, Batcher[T, R]]:
    def batcher(sale: str) -> Batcher[T, R]:
        async def batch(items: list[T]) -> list[R]:
            return await run(sale, items)

        return Batcher(batch, max_items=max_items, name=name)

    return PerKey(batcher)


def _seen(views: list[View], standing: Standing, receipt: queue_pb2.Receipt | None = None) -> list[Place]:
    return [view if isinstance(view, Refusal) else Seen(view, standing, receipt) for view in views]


def _sound(place: Place) -> Seen:
    if isinstance(place, Refusal):
        raise place
    return place
