"""The agenda performs in the order of time, whatever the order of planning."""

import asyncio
import time

from local.rush.agenda import Agenda
from local.rush.buyer import Buyer
from local.rush.intent import Do
from local.rush.people import person
from local.rush.record import Ask
from local.rush.settings import RushSettings


async def test_performs_in_order_of_time_and_what_comes_meanwhile() -> None:
    performed: list[int] = []
    done = asyncio.Event()
    now = time.time()

    def perform(do: Do) -> None:
        performed.append(do.buyer.number)
        if do.buyer.number == 1:
            agenda.plan([at(3, 0.06)])
        if do.buyer.number == 4:
            done.set()

    def at(number: int, after: float) -> Do:
        return Do(now + after, Ask.JOIN, Buyer(number, person(RushSettings(), number)))

    agenda = Agenda(time.time, perform)
    running = asyncio.create_task(agenda.run())
    agenda.plan([at(4, 0.09), at(1, 0.0)])
    await asyncio.sleep(0)
    agenda.plan([at(2, 0.03)])
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    assert performed == [1, 2, 3, 4]
