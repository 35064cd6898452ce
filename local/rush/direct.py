"""Buyers with a token of their own, who use the unary calls and streams that a browser uses."""

import asyncio

import grpc
from catraca.queue.v1 import queue_pb2 as queue

from local import client
from local.client import Connection
from local.issuer.tokens import Minter
from local.rush.answers import stood, view
from local.rush.buyer import Buyer
from local.rush.intent import Do, Stage
from local.rush.record import Ask
from local.rush.simulation import Simulation
from local.rush.unary import ask
from services.kit.errors import Refusal

REOPEN_PAUSE_S = 0.3
OVER = frozenset({queue.PLACE_STATE_LAPSED, queue.PLACE_STATE_LEFT, queue.PLACE_STATE_FINISHED})


class Direct:
    """All direct buyers, over a handful of connections."""

    def __init__(self, simulation: Simulation, connections: list[Connection], minter: Minter) -> None:
        self._simulation = simulation
        buyers = simulation.buyers[: simulation.settings.direct]
        self._clients = [
            client.Buyer(
                connections[buyer.number % len(connections)],
                simulation.plan.sale,
                minter.mint(f"{simulation.plan.sale}-{buyer.number}"),
            )
            for buyer in buyers
        ]
        self._watching: set[int] = set()
        self._following: dict[int, asyncio.Task[None]] = {}
        self._broken_off: set[int] = set()

    def caller(self, buyer: Buyer) -> client.Buyer:
        """The calls of one of them."""
        return self._clients[buyer.number]

    def send(self, do: Do) -> None:
        """One call for one ask."""
        if do.ask is Ask.ORDER:
            self._follow(do.buyer)
        self._simulation.tasks.create_task(self._send(do))

    async def _send(self, do: Do) -> None:
        buyer = do.buyer
        answer = await ask(self._clients[buyer.number], do)
        self._simulation.answered(do, answer)
        if buyer.stage is Stage.WAITING and buyer.number not in self._watching:
            self._watching.add(buyer.number)
            self._simulation.tasks.create_task(self._watch(buyer))
        if do.ask is Ask.ORDER and buyer.person.reconnects and buyer.number not in self._broken_off:
            self._broken_off.add(buyer.number)
            self._following.pop(buyer.number).cancel()
            self._simulation.measures.reconnects += 1
            self._simulation.tasks.create_task(self._come_back(buyer))

    async def _watch(self, buyer: Buyer) -> None:
        """Stand in line until called, or gone."""
        while buyer.stage is Stage.WAITING:
            try:
                async for message in self._clients[buyer.number].watch():
                    self._watched(buyer, message)
            except (grpc.aio.AioRpcError, Refusal):
                self._simulation.measures.reconnects += 1
            await asyncio.sleep(REOPEN_PAUSE_S)
        self._watching.discard(buyer.number)

    def _watched(self, buyer: Buyer, message: queue.WatchResponse) -> None:
        if message.heartbeat or buyer.stage is not Stage.WAITING:
            return
        if message.place.index == buyer.index:
            buyer.stands(stood(message.place).place)
            if message.place.state == queue.PLACE_STATE_CALLED:
                self._simulation.is_called(buyer)
        if message.standing.availability == queue.AVAILABILITY_SOLD_OUT:
            self._simulation.stands(message.standing)
            buyer.is_told_sold_out(self._simulation.sold_out_at)

    def _follow(self, buyer: Buyer) -> None:
        if buyer.number not in self._following:
            self._following[buyer.number] = self._simulation.tasks.create_task(self._updates(buyer))

    async def _come_back(self, buyer: Buyer) -> None:
        await asyncio.sleep(REOPEN_PAUSE_S)
        self._follow(buyer)

    async def _updates(self, buyer: Buyer) -> None:
        """Hear of the buyer's orders for ever; a stream that ends is opened again."""
        while True:
            told: dict[str, int] = {}
            try:
                async for message in self._clients[buyer.number].subscribe():
                    if message.HasField("update"):
                        order = message.update.order
                        if order.version <= told.get(order.order_id, -1):
                            buyer.is_told_twice(order.order_id, order.version)
                        told[order.order_id] = order.version
                        self._simulation.is_told(buyer, view(order, message.update.decided_at_ms))
            except (grpc.aio.AioRpcError, Refusal):
                self._simulation.measures.reconnects += 1
            await asyncio.sleep(REOPEN_PAUSE_S)
