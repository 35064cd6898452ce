"""A backend for frontends: speaks for thousands of buyers over one connection and batches what they ask."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

import grpc
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue

from local import client
from local.client import Connection, bearer
from local.rush.answers import admission_answer, order_answer, place_answer, stood, view, wanted
from local.rush.buyer import Buyer
from local.rush.intent import Do, Stage
from local.rush.pump import Pump
from local.rush.record import Answer, Ask, Probe
from local.rush.simulation import Simulation
from local.rush.unary import ask

OrderStream = grpc.aio.StreamStreamCall[notifier.SubscribeManyRequest, notifier.SubscribeManyResponse]

NAMESPACE = "crowd"
JOINS, ENTRIES, ORDERS, PLACES, SUBJECTS = 1_000, 500, 250, 2_000, 1_000
UNARY_AT_ONCE = 128
PAUSE_S = 0.2


def subject(number: int) -> str:
    """The buyer's subject within the BFF's namespace."""
    return f"buyer-{number}"


class Bff:
    """One BFF with its streams. By the indexes of its buyers' joins it hears whose turn has come."""

    def __init__(self, simulation: Simulation, connection: Connection, token: str) -> None:
        self._simulation = simulation
        self._at = connection
        self._sale = simulation.plan.sale
        self._token = token
        self._metadata = bearer(token)
        self._placeless: deque[Buyer] = deque()
        self._by_index: dict[int, Buyer] = {}
        # The place of each index that was called: a join's answer may come after the call.
        self._called: dict[int, int] = {}
        self._served = 0
        self._drawn = asyncio.Event()
        self._unary = asyncio.Semaphore(UNARY_AT_ONCE)
        # Thousands may leave at once, or try what must be refused: nobody's money waits behind them.
        self._unhurried = asyncio.Semaphore(UNARY_AT_ONCE // 4)
        self.updates = Updates(simulation, connection, self._metadata)
        self._joins = self._join_pump()
        self._entries = self._entry_pump()
        self._orders = self._order_pump()

    def start(self) -> None:
        """Run all its streams."""
        tasks = self._simulation.tasks
        for work in (
            self._joins.run(),
            self._entries.run(),
            self._orders.run(),
            self.updates.run(),
            self._watch(),
            self._learn_places(),
        ):
            tasks.create_task(work)

    def send(self, do: Do) -> None:
        """Put it into the next batch; what has no batch goes by itself."""
        match do.ask:
            case Ask.JOIN:
                self._joins.put(do)
            case Ask.ENTER:
                self._entries.put(do)
            case Ask.ORDER:
                self.updates.follow(do.buyer)
                self._orders.put(do)
            case _:
                self._simulation.tasks.create_task(self._send_alone(do))

    async def _send_alone(self, do: Do) -> None:
        buyer = client.Buyer(self._at, self._sale, self._token, subject=subject(do.buyer.number))
        unhurried = do.ask is Ask.LEAVE or do.probe is not Probe.NONE
        async with self._unhurried if unhurried else self._unary:
            answer = await ask(buyer, do)
        self._simulation.answered(do, answer)

    # ---- batches ----

    def _join_pump(self) -> Pump[queue.JoinManyRequest, queue.JoinManyResponse]:
        def build(does: Sequence[Do]) -> queue.JoinManyRequest:
            items = [queue.JoinItem(subject=subject(do.buyer.number)) for do in does]
            return queue.JoinManyRequest(sale=self._sale, items=items)

        def answered(do: Do, answer: Answer) -> None:
            self._simulation.answered(do, answer)
            self._stands(do.buyer)

        return Pump(
            lambda: self._at.queue.JoinMany(metadata=self._metadata),
            build,
            lambda response: [place_answer(result) for result in response.results],
            answered,
            JOINS,
            self._repeated,
        )

    def _entry_pump(self) -> Pump[queue.EnterManyRequest, queue.EnterManyResponse]:
        def build(does: Sequence[Do]) -> queue.EnterManyRequest:
            return queue.EnterManyRequest(sale=self._sale, subjects=[subject(do.buyer.number) for do in does])

        return Pump(
            lambda: self._at.queue.EnterMany(metadata=self._metadata),
            build,
            lambda response: [admission_answer(result) for result in response.results],
            self._simulation.answered,
            ENTRIES,
            self._repeated,
        )

    def _order_pump(self) -> Pump[checkout.PlaceOrdersRequest, checkout.PlaceOrdersResponse]:
        def build(does: Sequence[Do]) -> checkout.PlaceOrdersRequest:
            return checkout.PlaceOrdersRequest(sale=self._sale, items=[_order_item(do) for do in does])

        return Pump(
            lambda: self._at.orders.PlaceOrders(metadata=self._metadata),
            build,
            lambda response: [order_answer(result) for result in response.results],
            self._simulation.answered,
            ORDERS,
            self._repeated,
        )

    def _repeated(self, asks: int) -> None:
        self._simulation.measures.repeats += asks

    # ---- the line ----

    def _stands(self, buyer: Buyer) -> None:
        """Note a buyer who stands in line, or was called before the join was answered."""
        if buyer.stage is not Stage.WAITING:
            return
        self._by_index[buyer.index] = buyer
        if buyer.index in self._called:
            self._call(buyer)
        elif buyer.place < 0:
            self._placeless.append(buyer)

    def _call(self, buyer: Buyer) -> None:
        buyer.stands(self._called[buyer.index])
        self._simulation.is_called(buyer)

    async def _watch(self) -> None:
        """Follow the line: one stream for all buyers."""
        while True:
            request = queue.WatchSaleRequest(sale=self._sale, calls_from=self._served)
            stream = self._at.queue.WatchSale(request, metadata=self._metadata)
            try:
                async for message in stream:
                    if not message.heartbeat:
                        self._told(message)
            except grpc.aio.AioRpcError:
                self._simulation.measures.reconnects += 1
            await asyncio.sleep(PAUSE_S)

    def _told(self, message: queue.WatchSaleResponse) -> None:
        """What everybody is told, and who was called."""
        standing = message.standing
        self._simulation.stands(standing)
        if standing.drawn:
            self._drawn.set()
        for place, index in enumerate(message.calls.indexes, message.calls.first_place):
            self._called[index] = place
            self._served = place + 1
            buyer = self._by_index.get(index)
            # Who came back after leaving has another index by now.
            if buyer is not None and buyer.index == index:
                self._call(buyer)
        if standing.availability == queue.AVAILABILITY_SOLD_OUT:
            for buyer in self._by_index.values():
                buyer.is_told_sold_out(self._simulation.sold_out_at)

    async def _learn_places(self) -> None:
        """Ask for the places of all who joined before the draw, to hold the calls against them."""
        await self._drawn.wait()
        while True:
            buyers = [self._placeless.popleft() for _ in range(min(PLACES, len(self._placeless)))]
            asked = [buyer for buyer in buyers if buyer.stage is Stage.WAITING and buyer.place < 0]
            if not asked:
                await asyncio.sleep(PAUSE_S)
                continue
            request = queue.GetPlacesRequest(
                sale=self._sale, subjects=[subject(buyer.number) for buyer in asked]
            )
            try:
                response = await self._at.queue.GetPlaces(
                    request, metadata=self._metadata, timeout=client.DEADLINE_S
                )
            except grpc.aio.AioRpcError:
                self._placeless.extend(asked)
                await asyncio.sleep(PAUSE_S)
                continue
            for buyer, result in zip(asked, response.results, strict=True):
                if not result.refusal and stood(result.place).number == buyer.index:
                    buyer.stands(stood(result.place).place)


def _order_item(do: Do) -> checkout.PlaceOrderItem:
    assert do.attempt is not None
    return checkout.PlaceOrderItem(
        subject=subject(do.buyer.number),
        idempotency_key=do.attempt.key,
        items=[] if do.hold_id else wanted(do.items),
        hold_id=do.hold_id,
        admission=do.admission,
    )


class Updates:
    """One stream with the orders of many buyers, who come and go while it runs."""

    def __init__(self, simulation: Simulation, connection: Connection, metadata: client.Metadata) -> None:
        self._simulation = simulation
        self._at = connection
        self._metadata = metadata
        self._sale = simulation.plan.sale
        self._followed: dict[int, Buyer] = {}
        self._new: list[int] = []
        self._over: list[int] = []
        self._wake = asyncio.Event()
        self._stream: OrderStream | None = None

    def follow(self, buyer: Buyer) -> None:
        """From now on, tell what becomes of this buyer's orders."""
        if buyer.number not in self._followed:
            self._followed[buyer.number] = buyer
            self._new.append(buyer.number)
            self._wake.set()

    def break_off(self) -> None:
        """Lose the connection, as a BFF that is restarted does."""
        if self._stream is not None:
            self._stream.cancel()

    async def run(self) -> None:
        """Follow for ever; a stream that ends is opened again for all buyers."""
        while True:
            self._new, self._over = list(self._followed), []
            self._wake.set()
            self._stream = self._at.notifier.SubscribeMany(metadata=self._metadata)
            writing = asyncio.create_task(self._write(self._stream))
            told: dict[str, int] = {}
            try:
                async for response in self._stream:
                    for update in response.updates:
                        self._tell(update, told)
            except (grpc.aio.AioRpcError, asyncio.CancelledError):
                if _is_being_cancelled():
                    raise
            finally:
                writing.cancel()
            self._simulation.measures.reconnects += 1
            await asyncio.sleep(PAUSE_S)

    async def _write(self, stream: "OrderStream") -> None:
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                new, self._new, over, self._over = self._new, [], self._over, []
                for some in _slices([subject(number) for number in new], SUBJECTS):
                    await stream.write(notifier.SubscribeManyRequest(sale=self._sale, add=some))
                for some in _slices([subject(number) for number in over], SUBJECTS):
                    await stream.write(notifier.SubscribeManyRequest(sale=self._sale, drop=some))
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
            return

    def _tell(self, update: notifier.OrderUpdate, told: dict[str, int]) -> None:
        number = int(update.subject.removeprefix("buyer-"))
        buyer = self._followed.get(number)
        if buyer is None:
            # It was dropped while this was on its way.
            return
        order = update.order
        if order.version <= told.get(order.order_id, -1):
            buyer.is_told_twice(order.order_id, order.version)
        told[order.order_id] = order.version
        self._simulation.is_told(buyer, view(order, update.decided_at_ms))
        if buyer.is_done():
            del self._followed[number]
            self._over.append(number)
            self._wake.set()


def _is_being_cancelled() -> bool:
    """Whether this task is to end, rather than the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _slices(values: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
