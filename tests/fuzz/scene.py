"""What bad input is tried on: sales in every phase in which nothing moves by itself, people at every step."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale

from local.client import Buyer, Connection, Metadata, Organiser, Targets, bearer, item
from local.discovery import RunningStack
from services.kit.buyers import buyer_id
from services.kit.identity import BUYER_METADATA
from services.kit.keys import load_ring

DAY_S = 86_400
PATIENCE_S = 30.0
CLOSES_IN_S = 5.0
"""Long enough for a busy machine to take the definition in."""
NAMESPACE = "shop"

OPEN = "fuzz-open"
"""With a line; everyone in it was called and has a day."""
FULL = "fuzz-full"
"""With a line whose first took all there was to promise: the second waits."""
LOBBY = "fuzz-lobby"
SCHEDULED = "fuzz-scheduled"
CLOSED = "fuzz-closed"
FREE = "fuzz-free"
"""Without a line; one section costs nothing."""
ARCHIVED = "fuzz-archived"
LEDGER = "fuzz-ledger"
"""Without a line; only the services' own commands are tried on it, so no invariant holds there."""
SPARE = "fuzz-spare"
"""What organisers try to change."""
SALES = (OPEN, FULL, LOBBY, SCHEDULED, CLOSED, FREE, ARCHIVED, SPARE)
NEW = ("fuzz-new-1", "fuzz-new-2")
"""What organisers try to define."""

LONG_AGO_ID = "abcdefghijklmnopqrstuvwxyz"
"""A well-formed id of a buyer or an order that is nobody's."""


def spec(
    now: float,
    *,
    opens_in_s: float = 0.0,
    closes_in_s: float = 30 * DAY_S,
    lobby_in_s: float | None = None,
    line: bool = True,
    capacity: int = 200,
    turn_s: int = DAY_S,
) -> sale.SaleSpec:
    """A sale in which nothing ends within a day."""
    made = sale.SaleSpec(title="Fuzz", currency="BRL", limits=sale.Limits(per_buyer=4, holds_per_turn=1000))
    made.sections.add(id="floor", capacity=capacity, ticket_types=[sale.TicketType(id="full", price=1500)])
    made.sections.add(id="gratis", capacity=capacity, ticket_types=[sale.TicketType(id="full", price=0)])
    made.window.opens_at.FromSeconds(int(now + opens_in_s))
    made.window.closes_at.FromMilliseconds(int((now + closes_in_s) * 1000))
    if lobby_in_s is not None:
        made.window.lobby_opens_at.FromSeconds(int(now + lobby_in_s))
    made.line.kind = sale.LINE_KIND_DRAW if line else sale.LINE_KIND_NONE
    made.line.turn_duration.FromSeconds(turn_s)
    made.holds.duration.FromSeconds(DAY_S)
    made.payment.window.FromSeconds(3 * DAY_S)
    made.orders.queue_max.FromSeconds(DAY_S)
    return made


@dataclass
class Scene:
    """The sales are there; `names` are values that only a running stack knows, by what stands for them."""

    running: RunningStack
    now: float
    """When it was set, seconds since 1970: what definitions count from."""
    names: Mapping[str, str]
    callers: Mapping[str, Metadata]
    """What a call carries, by who makes it."""
    subjects: Sequence[str]
    """Of the shop's own buyers."""

    def real(self, value: str) -> str:
        """What a name stands for; any other text is itself."""
        return self.names.get(value, value)


async def prepare(running: RunningStack) -> Scene:
    """Defines the sales and leads the people to where they stand."""
    async with Connection(Targets(**running.targets)) as connection:
        return await _Setting(running, connection).scene()


class _Setting:
    def __init__(self, running: RunningStack, at: Connection) -> None:
        self.running = running
        self.at = at
        self.minter = running.minter()
        self.now = time.time()
        self.names: dict[str, str] = {}
        self.organiser = Organiser(at, self.minter.mint("org", roles=["organiser", "service"], ttl_s=DAY_S))

    async def scene(self) -> Scene:
        await self._define()
        for person in ("alice", "bob"):
            await self._line_up(person)
            await self._buy(person)
        await self._shop()
        await asyncio.sleep(max(0.0, self.now + CLOSES_IN_S + 0.2 - time.time()))
        await self.organiser.at.sales.Archive(
            sale.ArchiveRequest(sale=ARCHIVED), metadata=self.organiser.metadata
        )
        return Scene(self.running, self.now, self.names, self._callers(), ("customer-1", "customer-2"))

    async def _define(self) -> None:
        closing = {"opens_in_s": -1.0, "closes_in_s": CLOSES_IN_S, "line": False}
        specs = {
            CLOSED: spec(self.now, **closing),
            ARCHIVED: spec(self.now, **closing),
            OPEN: spec(self.now),
            FULL: spec(self.now, capacity=2),
            LOBBY: spec(self.now, opens_in_s=DAY_S),
            SCHEDULED: spec(self.now, lobby_in_s=DAY_S, opens_in_s=2 * DAY_S),
            FREE: spec(self.now, line=False),
            LEDGER: spec(self.now, line=False),
            SPARE: spec(self.now, lobby_in_s=DAY_S, opens_in_s=2 * DAY_S),
        }
        for name, each in specs.items():
            await self.organiser.define(name, each)

    def _buyer(self, name: str, person: str) -> Buyer:
        return Buyer(self.at, name, self.minter.mint(person, ttl_s=DAY_S))

    async def _line_up(self, person: str) -> None:
        await self._buyer(LOBBY, person).join()
        for name in (OPEN, FULL):
            buyer = self._buyer(name, person)
            await buyer.join()
            if name == FULL and person == "bob":
                continue
            async with asyncio.timeout(PATIENCE_S):
                async for message in buyer.watch():
                    if message.place.state == queue.PLACE_STATE_CALLED:
                        break
            self.names[f"@{person}.admission.{name}"] = (await buyer.enter()).token

    async def _buy(self, person: str) -> None:
        """A hold, one that was released, and an order in each state that lasts."""
        buyer = self._buyer(FREE, person)
        await buyer.hold(f"{person}-held", [item("floor", 1)])
        await buyer.hold(f"{person}-gone", [item("floor", 1)])
        await buyer.release(f"{person}-gone")
        for key, section, state in (
            ("waiting", "floor", checkout.ORDER_STATE_AWAITING_PAYMENT),
            ("confirmed", "gratis", checkout.ORDER_STATE_CONFIRMED),
        ):
            order = await buyer.order(f"{person}-{key}", [item(section, 1)])
            await self._told(buyer, order.order_id, state)
            self.names[f"@{person}.order.{key}"] = order.order_id
        key = load_ring(Path(self.running.keys["buyer_hash"]), "buyer_hash_key_file").newest
        self.names[f"@{person}.id"] = buyer_id(key, "public", person)

    async def _told(self, buyer: Buyer, order_id: str, state: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async for message in buyer.subscribe():
                if (message.update.order.order_id, message.update.order.state) == (order_id, state):
                    return

    async def _shop(self) -> None:
        token = self.minter.mint("shop-bff", roles=["bff"], namespace=NAMESPACE, ttl_s=DAY_S)
        for subject in ("customer-1", "customer-2"):
            for name in (OPEN, LOBBY):
                await Buyer(self.at, name, token, subject=subject).join()
        ours = Buyer(self.at, OPEN, token, subject="customer-1")
        async with asyncio.timeout(PATIENCE_S):
            async for message in ours.watch():
                if message.place.state == queue.PLACE_STATE_CALLED:
                    break
        self.names["@shop.admission"] = (await ours.enter()).token

    def _callers(self) -> dict[str, Metadata]:
        def token(subject: str, **claims: Any) -> str:
            return self.minter.mint(subject, **{"ttl_s": DAY_S, **claims})

        shop = token("shop-bff", roles=["bff"], namespace=NAMESPACE)
        alice = token("alice")
        return {
            "nobody": (),
            "alice": bearer(alice),
            "bob": bearer(token("bob")),
            "newcomer": bearer(token("newcomer")),
            "alice as bob": bearer(alice, buyer="bob"),
            "shop": bearer(shop),
            "shop for customer-1": bearer(shop, buyer="customer-1"),
            "shop for nobody": (*bearer(shop), (BUYER_METADATA, "")),
            "shop for a space": bearer(shop, buyer="customer 1>*{}.\u0020"),
            "organiser": bearer(token("org-of-nothing", roles=["organiser"])),
            "staff": bearer(token("usher", roles=["staff"])),
            "service": bearer(token("some-service", roles=["service"])),
            "roleless": bearer(token("roleless", roles=[])),
            "unheard-of": bearer(token("alice", roles=["emperor"])),
            "expired": bearer(token("alice", ttl_s=-60)),
            "forged": bearer(_forged(alice)),
            "garbage": bearer("garbage"),
            "basic": (("authorization", "Basic YWxpY2U6eA=="),),
            "traced": (
                *bearer(alice),
                ("traceparent", "00-zz-%-01"),
                ("tracestate", "=,=;"),
                ("baggage", "a=%"),
            ),
        }


def _forged(token: str) -> str:
    """The same with one character changed in the middle of its signature."""
    middle = (token.rfind(".") + len(token)) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


def one(quantity: int = 1, section: str = "floor") -> inventory.HoldItem:
    """One item."""
    return inventory.HoldItem(section=section, quantity=quantity)
