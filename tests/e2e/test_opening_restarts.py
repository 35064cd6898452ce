"""Every replica of the queue is killed in the middle of the opening second: the order is the draw's."""

import asyncio
import time
from typing import Any

from catraca.queue.v1 import queue_pb2 as queue

from local import draw_verifier
from local.audit.load import Sources
from local.audit.report import audit
from local.client import Connection, Targets, answered, bearer, streamed
from local.draw_files import draw_file
from local.stack import Stack

BUYERS, SEATS = 40, 15
SUBJECTS = [f"early-{number}" for number in range(BUYERS)]
PATIENCE_S = 30.0


async def joined(at: Connection, metadata: Any, sale: str, subjects: list[str]) -> list[int]:
    """The indexes that a BFF's buyers have, new or not."""
    request = queue.JoinManyRequest(sale=sale, items=[queue.JoinItem(subject=each) for each in subjects])
    (answer,) = [each async for each in streamed(at.queue.JoinMany(iter([request]), metadata=metadata))]
    assert not any(result.refusal for result in answer.results)
    return [result.place.index for result in answer.results]


async def places(at: Connection, metadata: Any, sale: str) -> list[queue.Place]:
    """The buyers' places."""
    request = queue.GetPlacesRequest(sale=sale, subjects=SUBJECTS)
    found = (await answered(at.queue.GetPlaces(request, metadata=metadata))).results
    return [result.place for result in found]


async def test_killed_amid_the_opening_the_line_is_in_drawn_order(house: Any, stack: Stack) -> None:
    name = await house.sale(capacity=SEATS, limit=1, turn_s=3600, opens_in_s=2.5)
    metadata = bearer(house.minter.mint("front", roles=["bff"], namespace="shop"))
    async with Connection(Targets(**house.running.targets)) as at:
        before = await joined(at, metadata, name, SUBJECTS)
    opens_at = (await house.organiser.sale(name)).spec.window.opens_at.ToMilliseconds() / 1000
    await asyncio.sleep(max(0.0, opens_at - time.time()))
    stack.kill9("queue")
    await stack.restart("queue")

    # From another tab, at any replica: the same index. Whoever comes now stands behind.
    for address in stack.parts["queue"].addresses:
        async with Connection(Targets(**house.running.targets | {"queue": address})) as at:
            assert await joined(at, metadata, name, SUBJECTS) == before
            late = await joined(at, metadata, name, ["late"])
            assert late == [BUYERS]
    async with Connection(Targets(**house.running.targets)) as at:
        async with asyncio.timeout(PATIENCE_S):
            found = await places(at, metadata, name)
            while sum(place.state == queue.PLACE_STATE_CALLED for place in found) < SEATS:
                await asyncio.sleep(0.05)
                found = await places(at, metadata, name)
        draw = (await answered(at.queue.GetDraw(queue.GetDrawRequest(sale=name), metadata=metadata))).draw
    assert all(check.holds for check in draw_verifier.check_draw(draw_file(name, draw, [])))
    key = draw_verifier.draw_key(bytes.fromhex(draw.seed), bytes.fromhex(draw.root), b"")
    drawn = draw_verifier.Places(key, BUYERS)
    assert draw.cohort == BUYERS
    assert [place.place for place in found] == [drawn.of(index) for index in before]
    called = {place.place for place in found if place.state == queue.PLACE_STATE_CALLED}
    assert called == set(range(SEATS))
    verdict = await audit(Sources.of(house.running), name)
    assert verdict.ok, verdict.to_json()
    await house.found_again()
