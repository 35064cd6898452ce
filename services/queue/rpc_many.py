"""QueueService for BFFs: many buyers in one message, one run of the script for each, answers in order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from catraca.queue.v1 import queue_pb2, queue_pb2_grpc
from catraca.sale.v1.sale_pb2 import Sale
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from services.kit import metrics
from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.identity import Caller, buyer_key, caller, raw_buyer_for
from services.kit.keys import SymmetricKey
from services.queue import rules
from services.queue.challenges import CHARS as CHALLENGE_CHARS
from services.queue.challenges import Challenges
from services.queue.line import BUYERS_PER_RUN, Line, View
from services.queue.messages import fill_place
from services.queue.states import Joiner

Context = Any
A = TypeVar("A")
SaleOf = Callable[[str], Awaitable[Definition]]

ITEMS_PER_MESSAGE = 1000
SUBJECTS_PER_READ = 5000
# Some milliseconds of the event loop.
CHALLENGES_AT_ONCE = 25
METHOD = "/catraca.queue.v1.QueueService/{}"


class ManyMethods(queue_pb2_grpc.QueueServiceServicer):
    """The batch methods. An item that is refused does not stop the others."""

    def __init__(self, line: Line, sale_of: SaleOf, challenges: Challenges) -> None:
        """`sale_of` as for QueueServicer."""
        self._line = line
        self._sale_of = sale_of
        self._challenges = challenges

    async def _with_line(self, sale: str) -> Definition:
        """The definition of a sale that has a line. Raises INVALID_FIELD, SALE_NOT_FOUND, NO_LINE."""
        if not rules.is_label(sale):
            raise Refusal("INVALID_FIELD", field="sale", expected="a DNS label: a–z, 0–9 and hyphens")
        definition = await self._sale_of(sale)
        if not rules.has_line(definition.sale):
            raise Refusal("NO_LINE", sale=sale)
        return definition

    async def JoinMany(
        self, requests: AsyncIterator[queue_pb2.JoinManyRequest], context: Context
    ) -> AsyncIterator[queue_pb2.JoinManyResponse]:
        """Joins each message's buyers in one run, under one receipt."""
        who = _bff(context)
        async for request in requests:
            _check_count("items", len(request.items), ITEMS_PER_MESSAGE)
            sale = (await self._with_line(request.sale)).sale
            refusals = [codes_refusal(item) for item in request.items]
            batch = _Batch(who, sale, [item.subject for item in request.items], refusals)
            response = queue_pb2.JoinManyResponse()
            if batch.buyers:
                joiners = await self._joiners(sale, buyer_key(who.keys, sale), batch, request.items)
                joins = await self._line.join(request.sale, joiners)
                if joins.receipt is not None:
                    response.receipt.CopyFrom(joins.receipt)
                _fill_places("JoinMany", response.results, batch.merged(joins.views))
            else:
                _fill_places("JoinMany", response.results, batch.merged([]))
            yield response

    async def _joiners(
        self, sale: Sale, key: SymmetricKey, batch: "_Batch", items: Sequence[queue_pb2.JoinItem]
    ) -> list[Joiner]:
        """What the batch's buyers bring; between challenges others on this event loop have their turn."""
        joiners = []
        for buyer, item in zip(batch.buyers, batch.sound(items), strict=True):
            joiners.append(self._joiner(sale.sale, key, buyer, item))
            if item.challenge and len(joiners) % CHALLENGES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return joiners

    def _joiner(
        self, sale: str, key: SymmetricKey, buyer: bytes, item: queue_pb2.JoinRequest | queue_pb2.JoinItem
    ) -> Joiner:
        """A buyer, and what they bring that opens the line. What does not is as good as nothing."""
        code = challenge = b""
        if item.access_code:
            code = rules.access_code_id(key.secret, sale, item.access_code)
        if item.challenge:
            challenge = self._challenges.solved(sale, buyer, item.challenge) or b""
        return Joiner(buyer, code, challenge, item.turn_news)

    async def GetPlaces(
        self, request: queue_pb2.GetPlacesRequest, context: Context
    ) -> queue_pb2.GetPlacesResponse:
        """Reads the places of a BFF's buyers."""
        who = _bff(context)
        _check_count("subjects", len(request.subjects), SUBJECTS_PER_READ)
        sale = (await self._with_line(request.sale)).sale
        batch = _Batch(who, sale, request.subjects)
        views: list[View] = []
        for start in range(0, len(batch.buyers), BUYERS_PER_RUN):
            answers = await self._line.read(request.sale, batch.buyers[start : start + BUYERS_PER_RUN])
            views += answers.views
        response = queue_pb2.GetPlacesResponse()
        _fill_places("GetPlaces", response.results, batch.merged(views))
        return response

    async def EnterMany(
        self, requests: AsyncIterator[queue_pb2.EnterManyRequest], context: Context
    ) -> AsyncIterator[queue_pb2.EnterManyResponse]:
        """Enters each message's buyers."""
        who = _bff(context)
        async for request in requests:
            _check_count("subjects", len(request.subjects), ITEMS_PER_MESSAGE)
            sale = (await self._with_line(request.sale)).sale
            batch = _Batch(who, sale, request.subjects)
            found = await self._line.enter(request.sale, batch.buyers) if batch.buyers else []
            response = queue_pb2.EnterManyResponse()
            for admission in batch.merged(found):
                result = response.results.add()
                if isinstance(admission, Refusal):
                    result.refusal = admission.word
                else:
                    result.admission.CopyFrom(admission)
            _count_refused("EnterMany", [result.refusal for result in response.results])
            yield response


class _Batch:
    """The buyers of one message: those that can be asked for, and the refusals of the others."""

    def __init__(
        self, who: Caller, sale: Sale, subjects: Sequence[str], refusals: Sequence[Refusal | None] = ()
    ) -> None:
        """`refusals` are what is wrong with an item beside its subject."""
        self.buyers: list[bytes] = []
        self._refused = {at: refusal for at, refusal in enumerate(refusals) if refusal is not None}
        self._size = len(subjects)
        key = buyer_key(who.keys, sale)
        for position, subject in enumerate(subjects):
            if position in self._refused:
                continue
            try:
                self.buyers.append(raw_buyer_for(who, subject, key))
            except Refusal as refusal:
                self._refused[position] = refusal

    def sound(self, items: Sequence[A]) -> Sequence[A]:
        """The items of `buyers`, of a message's."""
        if not self._refused:
            return items
        return [item for at, item in enumerate(items) if at not in self._refused]

    def merged(self, answers: Sequence[A]) -> Sequence[A | Refusal]:
        """The answers to `buyers`, with the refusals where they belong."""
        if not self._refused:
            return answers
        following = iter(answers)
        refused = self._refused
        return [refused[at] if at in refused else next(following) for at in range(self._size)]


def codes_refusal(item: queue_pb2.JoinRequest | queue_pb2.JoinItem) -> Refusal | None:
    """What is wrong with the codes that come with a join; None where nothing is."""
    for field, most in (("access_code", rules.CODE_CHARS), ("challenge", CHALLENGE_CHARS)):
        if not rules.is_code(getattr(item, field), most):
            expected = f"at most {most} printable characters"
            return Refusal("INVALID_FIELD", field=field, expected=expected)
    return None


def _bff(context: Context) -> Caller:
    who = caller(context)
    who.need("bff")
    return who


def _check_count(field: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise Refusal("INVALID_FIELD", field=field, expected=f"1 to {most}")


def _count_refused(method: str, refusals: Iterable[str]) -> None:
    metrics.count_item_refusals(METHOD.format(method), filter(None, refusals))


def _fill_places(
    method: str, results: "RepeatedCompositeFieldContainer[queue_pb2.PlaceResult]", views: Sequence[View]
) -> None:
    add = results.add
    refused: list[str] = []
    for view in views:
        result = add()
        if isinstance(view, Refusal):
            result.refusal = view.word
            refused.append(view.word)
        else:
            fill_place(result.place, view)
    _count_refused(method, refused)
