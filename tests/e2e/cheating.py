"""What the tests of cheats share: a try is refused by name, counted in a metric, and nothing has changed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import nats
from catraca.checkout.v1 import checkout_pb2 as checkout
from redis.asyncio import Redis

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, item
from services.kit.errors import Refusal
from tests.e2e.pages import refusals

AWAITING, CONFIRMED = checkout.ORDER_STATE_AWAITING_PAYMENT, checkout.ORDER_STATE_CONFIRMED
REJECTED = checkout.ORDER_STATE_REJECTED
ONE = [item("floor", 1)]


async def waiting(house: Any, name: str) -> tuple[Buyer, checkout.Order]:
    """A buyer and their order, whose payment is open."""
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", ONE)
    return buyer, await house.told(buyer, placed.order_id, AWAITING)


async def word_of(attempt: Awaitable[Any]) -> str:
    """What a call, or the one item of its batch, is refused with, or that it was not."""
    try:
        answer = await attempt
    except Refusal as refusal:
        return refusal.word
    return getattr(answer, "refusal", "") or "FINE"


class Tries:
    """What was tried, and which refusals the pages of metrics must have counted for it."""

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.webhooks: Counter[str] = Counter()

    async def refused(self, word: str, attempt: Awaitable[Any], what: object = "") -> None:
        """Fails unless the attempt is refused with this word."""
        (said,) = self.note([await word_of(attempt)])
        assert said == word, (what, word, said)

    def note(self, words: list[str]) -> list[str]:
        """Takes in what attempts were answered, where some of them may be fine."""
        self.refusals.update(word for word in words if word != "FINE")
        return words


async def state_of(house: Any, sale: str) -> dict[str, Any]:
    """What ledger, line, order queue and checkout hold of a sale, the numbers of their changes with it."""
    ledger = await house.ledger(sale)
    orders = await house.organiser.orders_by_state(sale)
    redis = Redis.from_url(house.running.redis_url)
    try:
        line = await redis.hmget(f"q:{{{sale}}}:meta", "sequence", "count", "revision")
    finally:
        await redis.aclose()
    return {
        "ledger": (ledger.sequence, ledger.revision, str(ledger.counts)),
        "line": line,
        "intake": await taken_in(house, sale),
        "orders": {counted.state: counted.count for counted in orders.counts},
    }


async def taken_in(house: Any, sale: str) -> int:
    """How many orders of a sale lie on INTAKE."""
    nc = await nats.connect(house.running.nats_url)
    try:
        info = await nc.jetstream().stream_info("INTAKE", subjects_filter=f"catraca.intake.{sale}.>")
        return len(info.state.subjects or {})
    finally:
        await nc.close()


@asynccontextmanager
async def cheating(
    house: Any,
    sale: str,
    *,
    refused_orders: int = 0,
    within: AbstractAsyncContextManager[None] | None = None,
) -> AsyncIterator[Tries]:
    """Within the block, and within `within`, somebody cheats. Fails if the services counted other refusals
    than those that were told, if anything changed but `refused_orders` kept as REJECTED, or if the audit
    finds the sale unsound. Webhooks are compared where some were tried: the provider sends its own any time.
    """
    tries = Tries()
    before = await state_of(house, sale)
    async with within or nullcontext():
        counted = await refusals(house)
        yield tries
        assert tries.refusals or tries.webhooks, "nobody tried anything"
        now = await refusals(house)
    calls, webhooks = (after - earlier for after, earlier in zip(now, counted, strict=True))
    assert calls == tries.refusals, f"counted {calls}, told {tries.refusals}"
    assert webhooks == tries.webhooks or not tries.webhooks, f"counted {webhooks}, told {tries.webhooks}"
    await _stands_at(house, sale, _with_rejected(before, refused_orders))
    verdict = await audit(Sources.of(house.running), sale)
    assert verdict.ok, verdict.to_json()


def _with_rejected(state: dict[str, Any], more: int) -> dict[str, Any]:
    """A state with so many more orders that were taken in and refused."""
    orders = dict(state["orders"])
    if more:
        orders[REJECTED] = orders.get(REJECTED, 0) + more
    return state | {"intake": state["intake"] + more, "orders": orders}


async def _stands_at(house: Any, sale: str, wanted: dict[str, Any]) -> None:
    """Waits until the sale is as wanted: an order that was refused is written down a moment later."""
    after: dict[str, Any] = {}
    try:
        async with asyncio.timeout(30):
            while (after := await state_of(house, sale)) != wanted:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{after} and not {wanted}") from None
