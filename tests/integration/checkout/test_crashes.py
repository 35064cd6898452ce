"""A process that dies at any point: another one takes the order up from where its row stands."""

import asyncio
from typing import Any

import pytest
from catraca.inventory.v1 import inventory_pb2 as pb

from services.checkout.records import Order
from services.checkout.states import OrderState
from tests.integration.checkout.conftest import ShopOf
from tests.integration.checkout.shop import Shop

AWAITING, CONFIRMED = OrderState.AWAITING_PAYMENT, OrderState.CONFIRMED

# Where the first process stops: before or after what it did outside was written down.
POINTS = (
    "before the row",
    "before HOLD",
    "after HOLD",
    "before PIN",
    "after PIN",
    "before the session",
    "after the session",
    "before COMMIT",
    "after COMMIT",
    "before the capture",
    "after the capture",
)


class Died(BaseException):
    """The process ends here: nothing of it runs any further."""


class DyingLedger:
    """Dies before or after a command."""

    def __init__(self, ledger: Any, point: str) -> None:
        self._ledger = ledger
        self._when, _, self._command = point.partition(" ")
        self.died = asyncio.Event()

    async def apply(self, sale: str, commands: list[pb.Command]) -> list[pb.Result]:
        hit = any(each.WhichOneof("command") == self._command.lower() for each in commands)
        if hit and self._when == "before":
            await self._die()
        results = await self._ledger.apply(sale, commands)
        if hit:
            await self._die()
        return results

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


class DyingProvider:
    """Dies before or after opening the session or capturing."""

    name = "sandbox"

    def __init__(self, provider: Any, point: str) -> None:
        self._provider = provider
        self._point = point
        self.died = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._provider, name)
        words = {"authorize": "the session", "capture": "the capture"}.get(name, "nothing")

        async def dying(*arguments: Any) -> Any:
            if self._point == f"before {words}":
                await self._die()
            answer = await call(*arguments)
            if self._point == f"after {words}":
                await self._die()
            return answer

        return dying if name in ("authorize", "capture") else call

    async def _die(self) -> None:
        self.died.set()
        await asyncio.Event().wait()


async def die_at(point: str, shop: Shop) -> Order:
    """Run a process until the point, then end it there."""
    ledger = DyingLedger(shop.ledger, point)
    async with shop.another(ledger=ledger).open() as dying:
        provider = DyingProvider(dying.providers["sandbox"], point)
        dying.providers["sandbox"] = provider  # type: ignore[assignment]
        if point == "before the row":
            ledger.died.set()
            dying.store.insert = never  # type: ignore[method-assign, assignment]
        order = await dying.place(quantity=2)
        died = [asyncio.create_task(each.died.wait()) for each in (ledger, provider)]
        while not any(each.done() for each in died):
            known = await dying.store.load_one(order.order_id)
            if known is not None and known.state is AWAITING:
                await dying.pay(known)
                await asyncio.wait(died, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0.02)
        for each in died:
            each.cancel()
    return order


async def never(*_: Any) -> Any:
    """What a process that died does."""
    await asyncio.Event().wait()


@pytest.mark.parametrize("point", POINTS)
async def test_another_process_goes_on(point: str, shop_of: ShopOf) -> None:
    shop = await shop_of()
    order = await die_at(point, shop)

    async with shop.open() as survivor:
        known = await survivor.until(order, AWAITING, CONFIRMED)
        if known.state is AWAITING:
            await survivor.pay(known)
        confirmed = await survivor.until(order, CONFIRMED)

        assert len(confirmed.tickets) == len(await survivor.tickets()) == 2
        assert await survivor.counts() == {"free": 8, "held": 0, "sold": 2}
        (session,) = await survivor.sandbox.ledger(order.sale)
        assert (session["state"], session["captured"]) == ("captured", 3000)
        published = await survivor.until_published(order)
        assert [each.order.version for each in published] == list(range(6))
