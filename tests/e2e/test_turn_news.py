"""Who left the page is told that the turn is near and has come, also if they subscribe later or by a BFF."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, bearer, item, streamed

PATIENCE_S = 20.0
NEAR, COME = queue.TURN_WORD_NEAR, queue.TURN_WORD_COME


async def turn_told(buyer: Buyer, word: int) -> notifier.TurnNews:
    """Wait until the buyer's stream tells this of their turn."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in buyer.subscribe():
            if message.turn.word == word:
                return message.turn
    raise AssertionError("the stream ended before it told")


async def test_who_left_the_page_comes_back_in_time_and_buys(house: Any) -> None:
    name = await house.sale(capacity=4, limit=2)
    first, second, third, silent = (house.buyer(name) for _ in range(4))
    for buyer in (first, second):
        await house.admitted(buyer)
    place = await third.join(turn_news=True)
    await silent.join()
    # Nobody watches. The message is there for who subscribes when it has been published already.
    near = await turn_told(third, NEAR)
    assert (near.place, near.ahead, near.HasField("turn_ends_at")) == (place.place, 0, False)

    await first.leave()
    come = await turn_told(third, COME)

    assert (come.place, come.allowance) == (place.place, 2)
    admission = await third.enter()
    assert come.turn_ends_at == admission.turn_ends_at
    hold = await third.hold("hold-of-third", [item("floor", 2)], admission.token)
    assert hold.state == inventory.HOLD_STATE_HELD
    # Whoever subscribes again is told what still holds: no more that it is near.
    later = [turn async for turn in turns_until_caught_up(third)]
    assert [turn.word for turn in later] == [COME]
    assert [turn async for turn in turns_until_caught_up(silent)] == []
    verdict = await audit(Sources.of(house.running), name)
    assert verdict.ok, verdict.broken


async def turns_until_caught_up(buyer: Buyer) -> AsyncIterator[notifier.TurnNews]:
    """What a stream that opens now says of turns."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in buyer.subscribe():
            if message.HasField("turn"):
                yield message.turn
            if message.caught_up:
                return


async def test_a_rush_of_a_bffs_buyers_is_told_once_each(house: Any) -> None:
    name = await house.sale(capacity=30, limit=1, opens_in_s=1.5)
    metadata = bearer(house.running.minter().mint("front", roles=["bff"], namespace="shop"))
    subjects = [f"rusher-{number}" for number in range(60)]
    items = [
        queue.JoinItem(subject=subject, turn_news=number % 2 == 0) for number, subject in enumerate(subjects)
    ]
    joining = house.at.queue.JoinMany(
        iter([queue.JoinManyRequest(sale=name, items=items)]), metadata=metadata
    )
    (joined,) = [answer async for answer in streamed(joining)]
    assert not any(result.refusal for result in joined.results)

    call = house.at.notifier.SubscribeMany(metadata=metadata)
    await call.write(notifier.SubscribeManyRequest(sale=name, add=subjects))
    told: list[notifier.TurnNews] = []
    request = queue.GetPlacesRequest(sale=name, subjects=subjects)
    async with asyncio.timeout(PATIENCE_S):
        async for message in streamed(call):
            told += message.turns
            places = (await house.at.queue.GetPlaces(request, metadata=metadata)).results
            called = {
                subject
                for subject, result in zip(subjects, places, strict=True)
                if result.place.state == queue.PLACE_STATE_CALLED
            }
            come = {turn.subject for turn in told if turn.word == COME}
            near = {turn.subject for turn in told if turn.word == NEAR}
            if (
                len(called) == 30
                and come == called & set(subjects[::2])
                and come | near == set(subjects[::2])
            ):
                break

    assert max(Counter((turn.subject, turn.word) for turn in told).values()) == 1
    by_subject = dict(zip(subjects, places, strict=True))
    assert all(turn.place == by_subject[turn.subject].place.place for turn in told)
