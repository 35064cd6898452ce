"""QueueService for one buyer at a time: requests in, the line's answers out. See rpc_many for batches."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from catraca.queue.v1 import queue_pb2

from services.kit.buyers import to_raw
from services.kit.errors import Refusal
from services.kit.identity import buyer_of, caller
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


class QueueServicer(ManyMethods):
    """Translates; what happens is decided in line, rules and the scripts."""

    def __init__(
        self, settings: Settings, line: Line, unary: Unary, hubs: Hubs, store: LineStore, sale_of: SaleOf
    ) -> None:
        """`sale_of` answers a sale's definition and raises Refusal where there is none, or none any more."""
        super().__init__(line, sale_of)
        self._settings = settings
        self._unary = unary
        self._hubs = hubs
        self._store = store

    async def Join(self, request: queue_pb2.JoinRequest, context: Context) -> queue_pb2.JoinResponse:
        """Takes a place."""
        buyer = to_raw(buyer_of(context).id)
        refusal = codes_refusal(request)
        if refusal is not None:
            raise refusal
        await self._with_line(request.sale)
        seen = await self._unary.join(request.sale, buyer)
        response = queue_pb2.JoinResponse(receipt=seen.receipt)
        fill_place(response.place, seen.view)
        return response

    async def GetPlace(
        self, request: queue_pb2.GetPlaceRequest, context: Context
    ) -> queue_pb2.GetPlaceResponse:
        """Reads the caller's place."""
        buyer = to_raw(buyer_of(context).id)
        await self._with_line(request.sale)
        response = queue_pb2.GetPlaceResponse()
        fill_place(response.place, (await self._unary.read(request.sale, buyer)).view)
        return response

    async def Enter(self, request: queue_pb2.EnterRequest, context: Context) -> queue_pb2.EnterResponse:
        """Trades a turn for an admission."""
        buyer = to_raw(buyer_of(context).id)
        await self._with_line(request.sale)
        return queue_pb2.EnterResponse(admission=await self._unary.enter(request.sale, buyer))

    async def Leave(self, request: queue_pb2.LeaveRequest, context: Context) -> queue_pb2.LeaveResponse:
        """Gives the place up."""
        buyer = buyer_of(context)
        await self._with_line(request.sale)
        seen = await self._unary.leave(request.sale, to_raw(buyer.id))
        self._hubs.touch(request.sale, buyer.id)
        response = queue_pb2.LeaveResponse()
        fill_place(response.place, seen.view)
        return response

    async def GetDraw(self, request: queue_pb2.GetDrawRequest, context: Context) -> queue_pb2.GetDrawResponse:
        """Reads what is published of the draw."""
        caller(context).need("buyer", "bff", "organiser", "staff", "service")
        definition = await self._with_line(request.sale)
        facts = await self._store.facts(request.sale, definition.sale.draw_commitment)
        return queue_pb2.GetDrawResponse(draw=draw_message(facts))

    async def Watch(
        self, request: queue_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[queue_pb2.WatchResponse]:
        """Streams the caller's place."""
        buyer = buyer_of(context)
        await self._with_line(request.sale)
        async with self._hubs.watching(request.sale) as hub:
            seen = await self._unary.read(request.sale, to_raw(buyer.id))
            watcher = Watcher(buyer.id, seen.view.entry, seen.view.turn)
            hub.watchers.add(watcher, hub.standing)
            try:
                async for view, standing, beat in self._steps(hub, watcher):
                    response = queue_pb2.WatchResponse(heartbeat=beat, standing=standing_message(standing))
                    fill_place(response.place, view)
                    yield response
            finally:
                hub.watchers.remove(watcher)

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
        """Reads one place anew, for it may have been given up on another device. An outage ends no stream."""
        watcher.stale = False
        with contextlib.suppress(Refusal):
            seen = await self._unary.read(hub.sale, to_raw(watcher.buyer))
            hub.watchers.refresh(watcher, seen.view, hub.standing)

    async def WatchSale(
        self, request: queue_pb2.WatchSaleRequest, context: Context
    ) -> AsyncIterator[queue_pb2.WatchSaleResponse]:
        """Streams the sale's standing."""
        caller(context).need("buyer", "bff", "organiser", "staff", "service")
        await self._with_line(request.sale)
        async with self._hubs.watching(request.sale) as hub:
            beat = False
            while True:
                hub.check()
                standing = hub.standing
                stepped = hub.stepped
                yield queue_pb2.WatchSaleResponse(standing=standing_message(standing), heartbeat=beat)
                if standing.phase is Phase.CLOSED:
                    return
                await asyncio.sleep(self._settings.watch_sale_ms / 1000)
                beat = not await _happens(stepped, self._settings.heartbeat_s)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    """Waits for an event; False if it did not happen in time."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
