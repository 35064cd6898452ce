"""What time does: payments that never come, and an order that outlives its turn in the queue of work."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue

from local.client import item
from local.stack import Stack


async def test_a_payment_that_never_comes_lets_the_next_one_in(house: Any) -> None:
    name = await house.sale(capacity=2, limit=2, window_s=5)
    buyer, next_one = house.buyer(name), house.buyer(name)
    admission = await house.admitted(buyer)
    await next_one.join()
    placed = await buyer.order("click-one", [item("floor", 2)], admission=admission.token)
    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    assert (await next_one.place()).state == queue.PLACE_STATE_WAITING

    expired = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_EXPIRED)
    assert expired.reason == "PAYMENT_TIMEOUT"
    assert await house.pay(asked) != "authorized"
    # Within the turn the units are the first buyer's again, until they say that they do not want them.
    await buyer.leave()
    assert (await house.called(next_one)).allowance == 2
    second = await next_one.enter()
    placed = await next_one.order("click-one", [item("floor", 2)], admission=second.token)
    asked = await house.told(next_one, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    await house.pay(asked)
    await house.told(next_one, placed.order_id, checkout.ORDER_STATE_CONFIRMED)


async def test_an_order_accepted_just_before_the_turn_ends_is_served_after_it(
    house: Any, stack: Stack
) -> None:
    name = await house.sale(capacity=2, limit=2, turn_s=5)
    buyer, next_one = house.buyer(name), house.buyer(name)
    admission = await house.admitted(buyer)
    await next_one.join()
    ends_at = admission.turn_ends_at.ToMilliseconds() / 1000
    with stopped(stack, "postgres"):
        await asyncio.sleep(ends_at - 2.0 - time.time())
        placed = await buyer.order("click-one", [item("floor", 2)], admission=admission.token)
        assert placed.state == checkout.ORDER_STATE_ACCEPTED
        await asyncio.sleep(ends_at + 0.5 - time.time())
        assert (await buyer.place()).state != queue.PLACE_STATE_CALLED
    asked = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    assert asked.held_at.ToMilliseconds() / 1000 > ends_at
    await house.pay(asked)
    confirmed = await house.told(buyer, placed.order_id, checkout.ORDER_STATE_CONFIRMED)
    assert len(confirmed.tickets) == 2
    assert (await next_one.place()).state == queue.PLACE_STATE_WAITING


@contextmanager
def stopped(stack: Stack, part: str) -> Iterator[None]:
    """A part that neither answers nor ends, for the block."""
    processes = [psutil.Process(pid) for pid in stack.parts[part].pids]
    pids = [each.pid for process in processes for each in (process, *process.children(recursive=True))]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
