"""Redis is killed, or emptied, amid a sale: nothing that was answered is forgotten."""

import asyncio
import gzip
import io
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
import pytest
from catraca.checkout.v1 import checkout_pb2 as api
from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2
from redis.asyncio import Redis
from rich.console import Console

from local.audit.load import Sources
from local.audit.report import Verdict, audit
from local.client import Buyer, Connection, Organiser, Targets, answered, item
from local.rush.run import rush
from local.rush.settings import RushSettings
from local.rush.upheaval import Upheaval
from local.stack import Stack
from services.inventory.seat_map import state_of
from services.kit.errors import Refusal
from services.kit.streams import read_all
from services.queue.events import act_of, last_published, subject_of
from services.queue.store import keys_of
from tests.fault.history import History, judge
from tests.fault.test_checkout_killed import buy
from tests.patience import PATIENCE_S, patiently
from tests.plans import hall, seated_section

BUYERS = 24
HOLDERS = 8
ROUNDS = 12
STAGE = 5
HOLD_S = 120
SETTLES_S = 30
HELD = pb.HOLD_STATE_HELD


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two replicas of inventory and of the queue, so that each finds what the other did."""
    settings = {"CATRACA_RESUME_S": "1", "CATRACA_RELAY_STALE_S": "0.5", "CATRACA_TAKEOVER_S": "3"}
    folder = tmp_path_factory.mktemp("lost")
    async with Stack(folder, replicas={"inventory": 2, "queue": 2}, settings=settings) as running:
        yield running


def sale_of() -> sale_pb2.SaleSpec:
    """A sale without a line: a floor for everybody, and a stage that is fought for."""
    spec = sale_pb2.SaleSpec(title="A test", currency="BRL")
    for name, capacity in (("floor", BUYERS), ("stage", STAGE)):
        section = spec.sections.add(id=name, capacity=capacity)
        section.ticket_types.add(id="full", price=1500)
    spec.window.opens_at.FromSeconds(int(time.time()) - 10)
    spec.window.closes_at.FromSeconds(int(time.time()) + 3600)
    spec.line.kind = sale_pb2.LINE_KIND_NONE
    spec.limits.holds_per_turn = 100
    spec.holds.duration.FromSeconds(HOLD_S)
    return spec


class Holder:
    """Takes a unit of the stage and gives it back, again and again, and notes every answer."""

    def __init__(self, buyer: Buyer, name: str, history: History) -> None:
        self._buyer = buyer
        self._name = name
        self._history = history

    async def run(self) -> None:
        for number in range(ROUNDS):
            hold_id = f"hold-{number:04}"
            if await self._ask("hold", hold_id, self._hold):
                await asyncio.sleep(0.05)
                await self._ask("show", hold_id, self._show)
                await self._ask("release", hold_id, self._buyer.release)
            await asyncio.sleep(0.1)

    async def _ask(self, op: str, hold_id: str, ask: Callable[[str], Awaitable[pb.Hold]]) -> bool:
        """Whether it is held after the call."""
        call = self._history.begin(self._name, op, hold_id)
        try:
            hold = await patiently(lambda: ask(hold_id))
        except Refusal as refusal:
            words = {
                "SECTION_SOLD_OUT": "SOLD_OUT",
                "SOLD_OUT": "SOLD_OUT",
                "HOLD_NOT_FOUND": "NOT_FOUND",
            }
            assert refusal.word in words, refusal
            self._history.end(call, words[refusal.word])
            return False
        word = pb.HoldState.Name(hold.state).removeprefix("HOLD_STATE_")
        self._history.end(call, word, (unit.unit for unit in hold.units))
        return bool(hold.state == HELD)

    async def _hold(self, hold_id: str) -> pb.Hold:
        return await self._buyer.hold(hold_id, [item("stage", 1)])

    async def _show(self, hold_id: str) -> pb.Hold:
        request = pb.GetHoldRequest(sale=self._buyer.sale, hold_id=hold_id)
        call = self._buyer.at.inventory.GetHold(request, metadata=self._buyer.metadata, timeout=5)
        hold: pb.Hold = (await answered(call)).hold
        return hold


async def kill(stack: Stack, sale: str) -> None:
    """kill -9, and the same data again."""
    stack.kill9("redis")
    await stack.restart("redis")


async def empty(stack: Stack, sale: str) -> None:
    """All that inventory had is gone at once, as by FLUSHALL of a Redis of its own."""
    redis = Redis.from_url(stack.running.redis_url, protocol=2)
    try:
        await redis.delete(*[key async for key in redis.scan_iter(match=f"i:{{{sale}}}:*", count=1000)])
    finally:
        await redis.aclose()


async def kill_relays(stack: Stack, sale: str) -> None:
    """Whoever publishes dies; the other replica goes on, and the first one when it is back."""
    stack.kill9("inventory", 0)
    await asyncio.sleep(0.5)
    await stack.restart_replica("inventory", 0)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("acts", "loses"),
    [
        pytest.param([kill, kill_relays, kill], False, id="killed"),
        pytest.param([empty, kill_relays, empty], True, id="emptied"),
    ],
)
async def test_what_was_answered_holds(
    acts: list[Callable[[Stack, str], Awaitable[None]]], loses: bool, stack: Stack
) -> None:
    minter, history = stack.running.minter(), History()
    lost: list[tuple[float, float]] = []
    async with Connection(Targets(**stack.running.targets)) as connection:
        organiser = Organiser(connection, minter.mint("org", roles=["organiser", "service"]))
        sale, spec = f"lost-{secrets.token_hex(4)}", sale_of()
        # The test before may have ended with a kill.
        await patiently(lambda: organiser.define(sale, spec))

        def buyer(name: str) -> Buyer:
            return Buyer(connection, sale, minter.mint(name))

        buying = [
            asyncio.create_task(buy(buyer(f"buyer-{number}"), "click-0001")) for number in range(BUYERS)
        ]
        names = [f"holder-{number}" for number in range(HOLDERS)]
        holding = [asyncio.create_task(Holder(buyer(name), name, history).run()) for name in names]
        for act in acts:
            await asyncio.sleep(0.7)
            began = time.monotonic()
            await act(stack, sale)
            if act is empty:
                lost.append((began, time.monotonic()))
        orders = await asyncio.gather(*buying)
        await asyncio.gather(*holding)
        # What was lost, and what was given back, is free again.
        counts = (await patiently(lambda: organiser.ledger(sale))).counts
        verdict = await settled_audit(stack, sale)

    assert judge(history, capacity=STAGE, lost=lost) == []
    assert {call.word for call in history.calls} >= {"HELD", "RELEASED", "SOLD_OUT"}
    assert {api.OrderState.Name(order.state) for order in orders} == {"ORDER_STATE_CONFIRMED"}
    assert (counts.free, counts.held, counts.sold) == (STAGE, 0, BUYERS)
    assert verdict.ok, verdict.to_json()
    assert ("REBUILT" in await acts_of(stack, sale)) == loses


async def settled_audit(stack: Stack, sale: str) -> Verdict:
    """The audit's verdict, once the last changes are published; what is wrong for long stays wrong."""
    sources, deadline = Sources.of(stack.running), time.monotonic() + SETTLES_S
    while True:
        verdict = await audit(sources, sale, settled=True)
        if verdict.ok or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(0.3)


async def acts_of(stack: Stack, sale: str) -> list[str]:
    """The acts of all published changes, in their order."""
    client = await nats.connect(stack.running.nats_url)
    try:
        found: list[str] = []
        async for message in read_all(client.jetstream(), "INVENTORY", f"catraca.inventory.{sale}.units"):
            for change in events_pb2.InventoryBatch.FromString(message.data).changes:
                found.append(events_pb2.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_"))
        return found
    finally:
        await client.close()


async def seat_states(connection: Connection, organiser: Organiser, sale: str) -> list[int]:
    """The state of each seat of the floor."""
    request = pb.WatchAvailabilityRequest(sale=sale)
    stream = connection.inventory.WatchAvailability(request, metadata=organiser.metadata)
    message = await stream.read()
    stream.cancel()
    (floor,) = message.map.sections
    return [state_of(floor.states, unit) for unit in range(floor.counts.capacity)]


async def waiting_order(buyer: Buyer) -> api.Order:
    """An order that holds its seat and is not paid yet."""
    placed = await buyer.order("click-0001", [item("floor", 1)])
    async with asyncio.timeout(PATIENCE_S):
        while placed.state != api.ORDER_STATE_AWAITING_PAYMENT:
            await asyncio.sleep(0.05)
            placed = await buyer.get_order(placed.order_id)
    return placed


@pytest.mark.timeout(120)
async def test_a_seated_sale_is_filled_again(stack: Stack) -> None:
    """Seats that are sold, held, claimed and blocked are again when their store was emptied."""
    minter, sale = stack.running.minter(), f"seats-{secrets.token_hex(4)}"
    plan = hall("oooooo", "oooooo")
    async with Connection(Targets(**stack.running.targets)) as connection:
        organiser = Organiser(connection, minter.mint("org", roles=["organiser", "service"]))
        document = sale_pb2.PushPlanRequest(document=gzip.compress(json.dumps(plan).encode()))
        pushed = await patiently(lambda: connection.sales.PushPlan(document, metadata=organiser.metadata))
        spec = sale_of()
        del spec.sections[:]
        spec.sections.append(seated_section("floor", "Hall"))
        spec.seating_plan.digest = pushed.plan.digest
        await patiently(lambda: organiser.define(sale, spec))
        buyers = [Buyer(connection, sale, minter.mint(f"buyer-{number}")) for number in range(4)]
        sold = await asyncio.gather(*(buy(buyer, "click-0001") for buyer in buyers[:3]))
        await waiting_order(buyers[3])
        mine = await Buyer(connection, sale, minter.mint("holder")).hold("hold-0001", [item("floor", 1)])
        blocked = pb.BlockItem(section="floor", quantity=2, seats=["B5", "B6"])
        block = pb.BlockCommand(block_id="block-0001", items=[blocked])
        claim = pb.ClaimCommand(order_id="a" * 26, buyer="b" * 26, items=[item("floor", 2)])
        made = await connection.ledger.Apply(
            pb.ApplyRequest(sale=sale, commands=[pb.Command(block=block), pb.Command(claim=claim)]),
            metadata=organiser.metadata,
        )
        before = await seat_states(connection, organiser, sale)
        async with asyncio.timeout(PATIENCE_S):
            while (await acts_of(stack, sale))[-2:] != ["BLOCKED", "CLAIMED"]:
                await asyncio.sleep(0.05)

        await empty(stack, sale)
        counts = (await patiently(lambda: organiser.ledger(sale))).counts
        after = await patiently(lambda: seat_states(connection, organiser, sale))
        late = await buy(buyers[3], "click-0001")
        verdict = await settled_audit(stack, sale)

    assert [result.word for result in made.results] == ["BLOCKED", "CLAIMED"]
    assert {order.state for order in (*sold, late)} == {api.ORDER_STATE_CONFIRMED}
    assert sorted(before) == [0] * 3 + [1] * 4 + [2] * 3 + [3] * 2
    lost = {unit.unit for unit in mine.units}
    assert after == [0 if unit in lost else state for unit, state in enumerate(before)]
    assert (counts.free, counts.held, counts.sold, counts.blocked) == (4, 1, 3, 2)
    assert verdict.ok, verdict.to_json()
    assert {"REBUILT", "LOST"} <= set(await acts_of(stack, sale))


LINE = RushSettings(
    buyers=160,
    tickets=60,
    direct=30,
    bffs=2,
    lobby_s=2.5,
    late_s=2.0,
    # Slow, so that the line is lost while many wait; it goes on as fast as it can when all is back.
    rate=2.0,
    turn_s=5.0,
    think_s=0.4,
    payment_window_s=5.0,
    grace_s=1.0,
    timeout_s=90.0,
)
EMPTY_LINE = """
if redis.call('HGET', KEYS[1], 'sequence') ~= ARGV[1] then return 0 end
redis.call('UNLINK', unpack(KEYS))
return 1
"""


async def empty_line(stack: Stack) -> str:
    """All that the queue had of the rush's sale is gone at once, when all of it is published."""
    redis = Redis.from_url(stack.running.redis_url, protocol=2)
    client = await nats.connect(stack.running.nats_url)
    try:
        (meta,) = [key async for key in redis.scan_iter(match="q:{rush-*}:meta", count=1000)]
        sale = str(meta.decode().split("{")[1].split("}")[0])
        async with asyncio.timeout(PATIENCE_S):
            while True:
                published = await last_published(client.jetstream(), sale)
                if await redis.eval(EMPTY_LINE, len(keys_of(sale)), *keys_of(sale), published):
                    return sale
    finally:
        await client.close()
        await redis.aclose()


class LineLost(Upheaval):
    """The line is lost in the lobby, and again when `act` says so."""

    async def run(self, stack: Stack, opens_at: float) -> None:
        await asyncio.sleep(max(0.0, opens_at - 1.0 - time.time()))
        await empty_line(stack)
        await super().run(stack, opens_at)


@pytest.mark.timeout(180)
async def test_a_line_that_is_lost_again_and_again_is_the_same_line(stack: Stack) -> None:
    """Same places, same draw, same calls, in what every buyer was told; and the audit draws it again."""
    sales: list[str] = []

    async def act(stack: Stack, _: Callable[[str, int], None]) -> None:
        for _ in range(2):
            sales.append(await empty_line(stack))
            await asyncio.sleep(1.0)
        # And once it comes back with the same data.
        await kill(stack, sales[0])

    lost = LineLost("loss of the line", act, unnoticed=False)
    report = await rush(LINE, Console(file=io.StringIO()), stack, upheaval=lost)

    assert report["failures"] == [], (report["verdict"]["examples"], report["upheaval"])
    assert report["tickets"]["sold"] == report["units_confirmed"] == LINE.tickets
    client = await nats.connect(stack.running.nats_url)
    try:
        acts = [
            act_of(change)
            async for message in read_all(client.jetstream(), "QUEUE", subject_of(sales[0]))
            for change in events_pb2.QueueBatch.FromString(message.data).changes
        ]
    finally:
        await client.close()
    assert acts.count("REBUILT") >= 3 and acts.count("DRAWN") == acts.count("FROZEN") == 1
