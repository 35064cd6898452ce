"""Collects what the live view shows: the sale's counts and orders, the crowd, the latest events."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import nats
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.sale.v1 import sale_pb2 as sale
from nats.aio.msg import Msg

from local.client import Organiser
from local.demo.events import lines
from services.kit.errors import Refusal
from services.kit.rights import AUDITOR
from services.kit.streams import inbox_of

POLL_S = 1.0
KEPT_MESSAGES = 40
SUBJECTS = "catraca.>"


@dataclass
class Picture:
    """The sale as last seen."""

    sale: str
    opens_at: float = 0.0
    phase: str = "SCHEDULED"
    counts: dict[str, int] = field(default_factory=dict)
    orders: dict[str, int] = field(default_factory=dict)
    crowd: dict[str, Any] = field(default_factory=dict)
    """What the crowd told last."""
    conclusion: list[str] = field(default_factory=list)
    """What came out in the end."""
    messages: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=KEPT_MESSAGES))

    def events(self, count: int) -> list[str]:
        """The latest events, newest last. They are only decoded for being shown."""
        found: list[str] = []
        for subject, payload in reversed(self.messages):
            found[:0] = lines(subject, payload)
            if len(found) >= count:
                break
        return found[-count:]


async def look(picture: Picture, organiser: Organiser) -> None:
    """Ask for the sale's counts and orders until cancelled. What cannot be asked stays as it was."""
    while True:
        with suppress(grpc.aio.AioRpcError, Refusal):
            ledger = await organiser.ledger(picture.sale)
            picture.counts = {
                name: getattr(ledger.counts, name) for name in ("capacity", "promised", "held", "sold")
            } | {"turns": ledger.turns}
            found = await organiser.sale(picture.sale)
            picture.phase = sale.SalePhase.Name(found.phase).removeprefix("SALE_PHASE_")
            orders = await organiser.orders_by_state(picture.sale)
            picture.orders = {
                checkout.OrderState.Name(count.state).removeprefix("ORDER_STATE_"): count.count
                for count in orders.counts
                if count.count
            }
        await asyncio.sleep(POLL_S)


async def listen(picture: Picture, nats_url: str) -> None:
    """Take notice of every event until cancelled."""
    connection = await nats.connect(nats_url, allow_reconnect=True, inbox_prefix=inbox_of(AUDITOR))

    async def heard(message: Msg) -> None:
        if f".{picture.sale}." in f"{message.subject}.":
            picture.messages.append((message.subject, message.data))

    try:
        await connection.subscribe(SUBJECTS, cb=heard)
        await asyncio.Event().wait()
    finally:
        await connection.close()
