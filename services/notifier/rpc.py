"""gRPC in, domain out: opens streams, reads what a BFF adds and drops, and writes updates."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import grpc.aio
from catraca.events.v1 import events_pb2
from catraca.notifier.v1 import notifier_pb2, notifier_pb2_grpc
from catraca.sale.v1.sale_pb2 import Sale
from google.protobuf.message import DecodeError

from services.kit import tracing
from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.identity import Caller, buyer_for, buyer_of, caller
from services.kit.logs import get_logger
from services.kit.per_buyer import StreamsPerBuyer
from services.kit.tasks import stop
from services.notifier import metrics
from services.notifier.config import Settings
from services.notifier.rules import LOST_MARK, TURN_MARK, Batch, State, buyer_key
from services.notifier.streams import OpenStream, Streams, too_many
from services.notifier.workers.snapshots import SnapshotReader

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

log = get_logger(__name__)

SaleOf = Callable[[str], Awaitable[Definition]]
Context = grpc.aio.ServicerContext[object, object]


class NotifierServicer(notifier_pb2_grpc.NotifierServiceServicer):
    """Two ways to be told: a buyer's own orders, or those of many of a BFF's buyers."""

    def __init__(self, settings: Settings, streams: Streams, reader: SnapshotReader, sale_of: SaleOf) -> None:
        """`sale_of` answers a sale's definition and raises Refusal where there is none."""
        self._settings = settings
        self._streams = streams
        self._reader = reader
        self._sale_of = sale_of
        self._per_buyer = StreamsPerBuyer(settings.streams_per_buyer)

    async def Subscribe(
        self, request: notifier_pb2.SubscribeRequest, context: Context
    ) -> AsyncIterator[notifier_pb2.SubscribeResponse]:
        buyer = buyer_of(context)
        sale = await self._sale(request.sale)
        with self._per_buyer.one_more(buyer.person):
            stream = self._streams.open()
            try:
                self._streams.add(stream, buyer_key(sale.sale, buyer.id_in(sale)))
                async for batch in self._batches(stream, at_most=1):
                    yield _one_buyers(batch)
            finally:
                self._streams.close(stream)

    async def SubscribeMany(
        self, request_iterator: AsyncIterator[notifier_pb2.SubscribeManyRequest], context: Context
    ) -> AsyncIterator[notifier_pb2.SubscribeManyResponse]:
        bff = caller(context)
        bff.need("bff")
        stream = self._streams.open()
        reading = asyncio.create_task(self._read_requests(bff, stream, request_iterator))
        try:
            async for batch in self._batches(stream, at_most=self._settings.max_updates_per_message):
                yield _many_buyers(batch, stream.mailbox.subjects)
        finally:
            try:
                await stop(reading)
            finally:
                # Last, so that nothing is added to a stream that nobody will close again.
                self._streams.close(stream)

    async def _batches(self, stream: OpenStream, at_most: int) -> AsyncIterator[Batch | None]:
        """What to send, for ever; None for a heartbeat."""
        max_bytes = self._settings.max_message_payload_bytes
        while True:
            batch = stream.take(at_most, max_bytes)
            if stream.mailbox.wants_reading:
                self._reader.want(stream)
            if batch is not None:
                metrics.TOLD.inc(len(batch.states))
                began_ns = tracing.now_ns()
                yield batch
                # Asked for the next one: this one is written.
                tracing.record("notifier tell", (state.traceparent for state in batch.states), began_ns)
            elif not await stream.woken(self._settings.heartbeat_s):
                yield None

    async def _read_requests(
        self,
        bff: Caller,
        stream: OpenStream,
        requests: AsyncIterator[notifier_pb2.SubscribeManyRequest],
    ) -> None:
        """Adds and drops until the BFF has nothing more to say; what is wrong ends the stream."""
        try:
            async for request in requests:
                self._change(bff, stream, await self._sale(request.sale), request)
                stream.wake()
                # A client that sends without pause must not keep the other streams waiting.
                await asyncio.sleep(0)
        except Exception as error:
            stream.end(error)

    def _change(
        self, bff: Caller, stream: OpenStream, sale: Sale, request: notifier_pb2.SubscribeManyRequest
    ) -> None:
        for field, subjects in (("drop", request.drop), ("add", request.add)):
            if len(subjects) > self._settings.max_buyers_per_message:
                limit = self._settings.max_buyers_per_message
                raise Refusal(
                    "INVALID_FIELD", field=field, expected=f"at most {limit} subjects in one message"
                )
        for subject in request.drop:
            self._streams.drop(stream, buyer_key(sale.sale, buyer_for(bff, subject).id_in(sale)))
        for subject in request.add:
            self._streams.add(stream, buyer_key(sale.sale, buyer_for(bff, subject).id_in(sale)), subject)
        if len(stream.mailbox.subjects) > self._settings.max_buyers_per_stream:
            raise too_many("buyers_per_stream", self._settings.max_buyers_per_stream)

    async def _sale(self, sale: str) -> Sale:
        if not LABEL.fullmatch(sale):
            raise Refusal("INVALID_FIELD", field="sale", expected="a sale's id: a DNS label")
        return (await self._sale_of(sale)).sale


def _one_buyers(batch: Batch | None) -> notifier_pb2.SubscribeResponse:
    if batch is None:
        return notifier_pb2.SubscribeResponse(heartbeat=True)
    response = notifier_pb2.SubscribeResponse(caught_up=batch.caught_up > 0)
    for told in _told(batch, {}):
        if isinstance(told, notifier_pb2.HoldLost):
            response.lost.CopyFrom(told)
        elif isinstance(told, notifier_pb2.TurnNews):
            response.turn.CopyFrom(told)
        else:
            response.update.CopyFrom(told)
    return response


def _many_buyers(batch: Batch | None, subjects: dict[str, str]) -> notifier_pb2.SubscribeManyResponse:
    if batch is None:
        return notifier_pb2.SubscribeManyResponse(heartbeat=True)
    response = notifier_pb2.SubscribeManyResponse(caught_up=batch.caught_up)
    for told in _told(batch, subjects):
        if isinstance(told, notifier_pb2.HoldLost):
            response.lost.append(told)
        elif isinstance(told, notifier_pb2.TurnNews):
            response.turns.append(told)
        else:
            response.updates.append(told)
    return response


Told = notifier_pb2.OrderUpdate | notifier_pb2.HoldLost | notifier_pb2.TurnNews


def _told(batch: Batch, subjects: dict[str, str]) -> Iterator[Told]:
    """What the states of a batch say to their buyers."""
    for state in batch.states:
        subject = subjects.get(state.key, "")
        try:
            if state.order_id.startswith(LOST_MARK):
                yield _lost(state, subject)
            elif state.order_id.startswith(TURN_MARK):
                yield _turn(state, subject)
            else:
                yield _update(state, subject)
        except DecodeError:
            # One message that cannot be read must not end the stream of everybody else.
            log.error("state_unreadable", of=state.order_id, version=state.version)


def _lost(state: State, subject: str) -> notifier_pb2.HoldLost:
    hold = events_pb2.HoldLost.FromString(state.payload)
    return notifier_pb2.HoldLost(
        hold_id=hold.hold_id,
        units=hold.units,
        restored=hold.restored,
        subject=subject,
        at_ms=hold.at_ms,
    )


def _turn(state: State, subject: str) -> notifier_pb2.TurnNews:
    news = events_pb2.TurnNews.FromString(state.payload)
    told = notifier_pb2.TurnNews(
        word=news.word,
        place=news.place,
        ahead=news.ahead,
        allowance=news.allowance,
        subject=subject,
        at_ms=news.at_ms,
    )
    if news.HasField("estimate"):
        told.estimate.CopyFrom(news.estimate)
    if news.turn_ends_at_ms:
        told.turn_ends_at.FromMilliseconds(news.turn_ends_at_ms)
    return told


def _update(state: State, subject: str) -> notifier_pb2.OrderUpdate:
    changed = events_pb2.OrderChanged.FromString(state.payload)
    return notifier_pb2.OrderUpdate(order=changed.order, subject=subject, decided_at_ms=changed.decided_at_ms)
