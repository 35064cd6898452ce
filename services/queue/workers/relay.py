"""Publishes each sale's line to JetStream: every change, once, in order."""

import asyncio
from collections.abc import Callable

from nats.js import JetStreamContext

from services.kit import metrics
from services.kit.logs import get_logger
from services.kit.relay import OutboxBroken, OutboxRelay
from services.queue.events import batch_of
from services.queue.store import SERVICE, LineStore

# What an entry of an outbox was made under that does not say so: such were written before a store was ever
# filled again.
FIRST_EPOCH = 1
# A line that lost its tail cannot be published until it is filled again.
RESTART_S = 1.0

log = get_logger("relay")


def line_relay(store: LineStore, js: JetStreamContext, sale: str) -> OutboxRelay:
    """The relay of one sale's line."""
    return store.outbox(js, sale, lambda changes, epoch: batch_of(sale, epoch or FIRST_EPOCH, changes))


async def keep_publishing(relay: OutboxRelay, sale: str, lost: Callable[[str], object]) -> None:
    """Runs the relay until cancelled; `lost` is told of a store that lacks what JetStream has.

    A JetStream that lacks what the store had, and let go of, is left to a person: the store has more than
    could be filled in again.
    """
    shown = metrics.STORE_BROKEN.labels(SERVICE, sale)
    lacking = False
    while True:
        if lacking:
            shown.set(0)
        try:
            await relay.run()
        except OutboxBroken as broken:
            log.error("outbox_broken", sale=sale, published=broken.published, found=broken.found)
            lacking = not broken.is_another
            if lacking:
                shown.set(1)
            else:
                lost(sale)
            # Once the store is filled again it goes on after what is published then.
            await asyncio.sleep(RESTART_S)
