"""QueueService for one buyer at a time: requests in, the line's answers out. See rpc_many for batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from catraca.queue.v1 import queue_pb2

from services.kit.buyers import to_raw, to_text
from services.kit.errors import Refusal
from services.kit.identity import Buyer, buyer_key, buyer_of, caller
from services.kit.per_buyer import StreamsPerBuyer
from services.kit.signing import SigningKeys
from services.queue.challenges import Challenges
from services.queue.config import Settings
from services.queue.line import Line
from services.queue.messages import draw_message, fill_place, standing_message
from services.queue.rpc_many import ManyMethods, SaleOf, codes_refusal
from services.queue.states import OVER, Phase, PlaceView, Standing
from services.queue.store import LineStore
from services.queue.unary import Unary
from services.queue.watchers import Watcher
from services.queue.workers.standing import Hub, Hubs

Context = Any

# Of one message to whom calls are told; at ten bytes a call it stays far below what gRPC takes.
CALLS_PER_MESSAGE = 10_000
FEW = frozenset({"bff", "organiser", "staff", "service"})


class QueueServicer(ManyMethods):
    """Translates; what happens is decided in line, rules and the scripts."""

    def __init__(
        self,
        settings: Settings,
        line: Line,
        unary: Unary,
        hubs: Hubs,
        store: LineStore,
        sale_of: SaleOf,
        receipt_keys: SigningKeys | None,
        challenges: Challenges,
    ) -> None:
        """`sale_of` answers a sale's definition and raises Refusal where there is none, or none any more.

        Without `receipt_keys` there are no receipts.
        """
        super().__init__(line, sale_of, challenges)
        self._settings = settings
        self._unary = unary
        self._hubs = hubs
        self._store = store
        self._streams = StreamsPerBuyer(settings.streams_per_buyer)
        self._receipt_keys = receipt_keys

    async def Join(self, request: queue_pb2.JoinRequest, context: Context) -> queue_pb2.JoinResponse:
        """Takes a place."""
        who = buyer_of(context)
        refusal = codes_refusal(request)
        if refusal is not None:
            raise refusal
        # Each reading of a message's field makes it anew.
        name = request.sale
        sale = (await self._with_line(name)).sale
        key = buyer_key(who.keys, sale)
        joiner = self._joiner(name, key, who.raw_with(key), request)
        try:
            seen = await self._unary.join(name, joiner)
        except Refusal as outside:
            if outside.word == "CHALLENGE_REQUIRED":
                outside.metadata["challenge"] = self._challenges.make(name, joiner.buyer)[0]
            raise
        response = queue_pb2.JoinResponse(receipt=seen.receipt)
        fill_place(response.place, seen.view)
        return response

    async def GetChallenge(
        self, request: queue_pb2.GetChallengeRequest, context: Context
    ) -> queue_pb2.GetChallengeResponse:
        """Makes a challenge for the caller."""
        who = buyer_of(context)
        sale = (await self._with_line(request.sale)).sale
        response = queue_pb2.GetChallengeResponse()
        if sale.spec.line.challenge_required:
            response.challenge, expires_at = self._challenges.make(sale.sale, who.raw_in(sale))
            response.expires_at.FromSeconds(expires_at)
        return response

    async def GetPlace(
        self, request: queue_pb2.GetPlaceRequest, context: Context
    ) -> queue_pb2.GetPlaceResponse:
        """Reads the caller's place."""
        who = buyer_of(context)
        buyer = who.raw_in((await self._with_line(request.sale)).sale)
        response = queue_pb2.GetPlaceResponse()
        fill_place(response.place, (await self._unary.read(request.sale, buyer)).view)
        return response

    async def Enter(self, request: queue_pb2.EnterRequest, context: Context) -> queue_pb2.EnterResponse:
        """Trades a turn for an admission."""
        who = buyer_of(context)
        buyer = who.raw_in((await self._with_line(request.sale)).sale)
        return queue_pb2.EnterResponse(admission=await self._unary.enter(request.sale, buyer))

    async def Leave(self, request: queue_pb2.LeaveRequest, context: Context) -> queue_pb2.LeaveResponse:
        """Gives the place up."""
        who = buyer_of(context)
        buyer = who.raw_in((await self._with_line(request.sale)).sale)
        seen = await self._unary.leave(request.sale, buyer)
        self._hubs.touch(request.sale, to_text(buyer))
        response = queue_pb2.LeaveResponse()
        fill_place(response.place, seen.view)
        return response

    async def GetDraw(self, request: queue_pb2.GetDrawRequest, context: Context) -> queue_pb2.GetDrawResponse:
        """Reads what is published of the draw."""
        caller(context).need("buyer", "bff", "organiser", "staff", "service")
        definition = await self._with_line(request.sale)
        facts = await self._store.facts(request.sale, definition.sale.draw_commitment)
        draw = draw_message(facts, definition.sale.spec.line.beacon)
        if facts.seed and facts.cohort is not None:
            last = await self._line.last(request.sale, facts.cohort)
            if last is not None:
                draw.last.CopyFrom(last)
        return queue_pb2.GetDrawResponse(draw=draw)

    async def GetReceipt(
        self, request: queue_pb2.GetReceiptRequest, context: Context
    ) -> queue_pb2.GetReceiptResponse:
        """Reads the caller's receipt anew, with the path to the draw's root."""
        who = buyer_of(context)
        buyer = who.raw_in((await self._with_line(request.sale)).sale)
        seen = await self._unary.read(request.sale, buyer)
        receipt, proof = await self._line.receipt(request.sale, buyer, seen.view.entry, seen.standing)
        return queue_pb2.GetReceiptResponse(receipt=receipt, proof=proof)

    async def GetReceiptKeys(
        self, request: queue_pb2.GetReceiptKeysRequest, context: Context
    ) -> queue_pb2.GetReceiptKeysResponse:
        """Reads the public keys that receipts verify with."""
        published = self._receipt_keys.published() if self._receipt_keys is not None else []
        return queue_pb2.GetReceiptKeysResponse(keys=published)

    async def Watch(
        self, request: queue_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[queue_pb2.WatchResponse]:
        """Streams the caller's place."""
        who = buyer_of(context)
        buyer = who.raw_in((await self._with_line(request.sale)).sale)
        async with self._watching(request.sale, who) as hub:
            seen = await self._unary.read(request.sale, buyer)
            watcher = Watcher(to_text(buyer), seen.view.entry, seen.view.turn)
            hub.watchers.add(watcher, hub.standing)
            try:
                async for view, standing, beat in self._steps(hub, watcher):
                    response = queue_pb2.WatchResponse(heartbeat=beat, standing=standing_message(standing))
                    fill_place(response.place, view)
                    yield response
            finally:
                hub.watchers.remove(watcher)

    @contextlib.asynccontextmanager
    async def _watching(self, sale: str, buyer: Buyer) -> AsyncIterator[Hub]:
        """The sale's hub for one more stream of a buyer. Raises STREAM_LIMIT."""
        with self._streams.one_more(buyer.person):
            async with self._hubs.watching(sale) as hub:
                yield hub

    async def _steps(self, hub: Hub, watcher: Watcher) -> AsyncIterator[tuple[PlaceView, Standing, bool]]:
        """What a watcher is to be told, until its place or the sale is over."""
        told: tuple[object, ...] = ()
        while True:
            try:
                async with asyncio.timeout(self._settings.heartbeat_s):
                    await watcher.news.wait()
            except TimeoutError:
                watcher.stale = True
            hub.check()
            watcher.news.clear()
            if watcher.stale:
                await self._refresh(hub, watcher)
            standing = hub.standing
            view = watcher.view(standing)
            now = (view, standing.phase, standing.availability)
            yield view, standing, now == told
            if view.state in OVER or standing.phase is Phase.CLOSED:
                return
            told = now

    async def _refresh(self, hub: Hub, watcher: Watcher) -> None:
        """Reads one place anew, for it may have been given up on another device. An outage ends no stream.

        Raises NOT_IN_LINE for who has lost it with the line's store.
        """
        watcher.stale = False
        try:
            seen = await self._unary.read(hub.sale, to_raw(watcher.buyer))
        except Refusal as refusal:
            if refusal.word == "NOT_IN_LINE":
                raise
            return
        hub.watchers.refresh(watcher, seen.view, hub.standing)

    async def WatchSale(
        self, request: queue_pb2.WatchSaleRequest, context: Context
    ) -> AsyncIterator[queue_pb2.WatchSaleResponse]:
        """Streams the sale's standing."""
        who = caller(context)
        who.need("buyer", *FEW)
        calls = None
        if request.HasField("calls_from"):
            who.need(*FEW)
            calls = _Calls(self._line, request.sale, request.calls_from)
        await self._with_line(request.sale)
        # Who has no more than a buyer's token is one of many; the others are few, and watch for many.
        if who.roles.isdisjoint(FEW):
            watching = self._watching(request.sale, buyer_of(context))
        else:
            watching = self._hubs.watching(request.sale)
        async with watching as hub:
            beat = False
            while True:
                hub.check()
                standing = hub.standing
                stepped = hub.stepped
                response = queue_pb2.WatchSaleResponse(standing=standing_message(standing), heartbeat=beat)
                more = calls is not None and calls.go_on(response, standing)
                yield response
                if more:
                    beat = False
                    continue
                if standing.phase is Phase.CLOSED:
                    return
                await asyncio.sleep(self._settings.watch_sale_ms / 1000)
                beat = not await _happens(stepped, self._settings.heartbeat_s)


class _Calls:
    """The calls of a sale as one stream tells them: each once, in the order of places."""

    def __init__(self, line: Line, sale: str, start: int) -> None:
        """`start` is the first place to tell. Raises INVALID_FIELD for a negative one."""
        if start < 0:
            raise Refusal("INVALID_FIELD", field="calls_from", expected="at least 0")
        self._line = line
        self._sale = sale
        self._next = start

    def go_on(self, response: queue_pb2.WatchSaleResponse, standing: Standing) -> bool:
        """Puts the next calls into a message; True if there are more than it takes."""
        indexes = self._line.called(self._sale, standing, self._next, CALLS_PER_MESSAGE)
        if indexes:
            response.calls.first_place = self._next
            response.calls.indexes.extend(indexes)
            self._next += len(indexes)
        return self._next < standing.serving


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    """Waits for an event; False if it did not happen in time."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
