"""Publishes each sale's line to JetStream: every change, once, in order."""

import asyncio
from collections.abc import Callable

from catraca.events.v1 import events_pb2
from nats.js import JetStreamContext

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.lua import raw
from services.kit.relay import Change, OutboxBroken, OutboxRelay
from services.queue.store import LineStore

# A line that lost its tail cannot be published until it is rebuilt; whether it was is asked this often.
BROKEN_RETRY_S = 5.0

log = get_logger("relay")


def line_relay(store: LineStore, js: JetStreamContext, sale: str, epoch: Callable[[], int]) -> OutboxRelay:
    """The relay of one sale's line. `epoch` gives the epoch that the changes are made under."""

    def batch(changes: list[Change], _: int) -> events_pb2.QueueBatch:
        message = events_pb2.QueueBatch(sale=sale, epoch=epoch())
        for change in changes:
            fill_change(message.changes.add(), change)
        return message

    return store.outbox(js, sale, batch)


def fill_change(message: events_pb2.QueueChange, change: Change) -> None:
    """One change as the script wrote it; the fields have the message's names."""
    for name, value in change.items():
        if name == "act":
            message.act = events_pb2.QueueAct.Value(f"QUEUE_ACT_{value}")
        elif name in ("buyers", "codes"):
            setattr(message, name, raw(value))
        elif name == "beacon_round":
            if value:
                message.beacon_round.ParseFromString(raw(value))
        else:
            setattr(message, name, value)


async def keep_publishing(relay: OutboxRelay, sale: str) -> None:
    """Runs the relay until cancelled, also past an outbox that does not go on where JetStream ends."""
    told = False
    broken = metrics.STORE_BROKEN.labels("queue", sale)
    try:
        while True:
            broken.set(0)
            try:
                await relay.run()
            except OutboxBroken as problem:
                broken.set(1)
                if not told:
                    log.error(
                        "line_lost_its_tail", sale=sale, published=problem.published, found=problem.found
                    )
                    told = True
                await asyncio.sleep(BROKEN_RETRY_S)
    finally:
        metrics.STORE_BROKEN.remove("queue", sale)
