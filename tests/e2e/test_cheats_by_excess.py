"""Cheats by asking for more, again and again: refused by name, counted, and nothing has changed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import altcha
import pytest
from catraca.queue.v1 import queue_pb2 as queue

from local.client import Buyer, Connection, Targets, item, streamed
from services.inventory.config import InventorySettings
from services.kit.errors import Refusal
from services.queue.config import Settings as QueueSettings
from tests.e2e.cheating import CONFIRMED, ONE, cheating, taken_in, word_of

JOINS = 10_000
JOINS_IN_A_BATCH = 1000
UNARY_JOINS = 400
TIMES = 20
"""What a turn may take units, where the sale does not say otherwise."""


def default_of(settings: type[Any], name: str) -> int:
    """What a setting is where nobody sets it."""
    return int(settings.__dataclass_fields__[name].default)


# ---- more than one may have ----


async def test_a_code_is_used_up_guessed_and_handed_on_in_vain(house: Any) -> None:
    name = await house.sale(codes=True, opens_in_s=600, lobby_in_s=-1)
    await house.organiser.put_codes(name, ["K7QX-9M2P-4TRA"], 1)
    member = house.buyer(name)
    await member.join(access_code="K7QX-9M2P-4TRA")
    async with cheating(house, name) as tries:
        friends = [house.buyer(name) for _ in range(20)]
        words = await asyncio.gather(
            *(word_of(friend.join(access_code="K7QX-9M2P-4TRA")) for friend in friends)
        )
        assert set(tries.note(words)) == {"ACCESS_CODE_INVALID"}
        for guess in ("", "K7QX-9M2P-4TRB", "k7qx", "*", "0" * 64):
            await tries.refused("ACCESS_CODE_INVALID", friends[0].join(access_code=guess), guess)
    await member.leave()
    async with cheating(house, name) as tries:
        # Leaving gives no use back.
        await tries.refused("ACCESS_CODE_INVALID", friends[0].join(access_code="K7QX-9M2P-4TRA"))


async def test_work_is_done_by_oneself_and_for_one_join(house: Any) -> None:
    name = await house.sale(challenge=True, opens_in_s=600, lobby_in_s=-1)
    other = await house.sale(challenge=True, opens_in_s=600, lobby_in_s=-1)
    subject = f"worker-{name}"
    worker, elsewhere = house.buyer(name, subject), house.buyer(other, subject)
    solved = altcha_solved((await worker.challenge()).challenge)
    async with cheating(house, name) as tries:
        await tries.refused("CHALLENGE_REQUIRED", house.buyer(name).join(challenge=solved), "another's")
        await tries.refused("CHALLENGE_REQUIRED", elsewhere.join(challenge=solved), "another sale's")
        unsolved = json.loads((await worker.challenge()).challenge)
        unsolved["parameters"]["keyPrefix"] = "0"
        easier = altcha_solved(json.dumps(unsolved))
        await tries.refused("CHALLENGE_REQUIRED", worker.join(challenge=easier), "made easier")
    assert (await worker.join(challenge=solved)).index == 0


def altcha_solved(text: str) -> str:
    """A challenge as the widget sends it back."""
    challenge = altcha.Challenge.from_dict(json.loads(text))
    solution = altcha.solve_challenge(challenge)
    assert solution is not None
    return altcha.Payload(challenge, solution).to_base64()


@asynccontextmanager
async def devices(house: Any, sale: str, subject: str, count: int) -> AsyncIterator[list[Buyer]]:
    """One person at many devices: a connection and a token for each."""
    connections = [Connection(Targets(**house.running.targets)) for _ in range(count)]
    try:
        yield [
            Buyer(each, sale, house.minter.mint(subject, ttl_s=600 + n)) for n, each in enumerate(connections)
        ]
    finally:
        for each in connections:
            await each.close()


async def grab(buyer: Buyer, number: int, admission: str = "") -> str:
    """Take one unit, by an order or by a hold."""
    if number % 2:
        return await word_of(buyer.order(f"click-{number:04}", ONE, admission=admission))
    return await word_of(buyer.hold(f"hold-{number:04}", ONE, admission))


@pytest.mark.parametrize("line", [True, False])
async def test_many_orders_tabs_and_devices_get_one_limit(house: Any, line: bool) -> None:
    name = await house.sale(capacity=50, limit=4, line=line)
    async with devices(house, name, f"greedy-{name}", 5) as tabs:
        tokens = [""] * len(tabs)
        if line:
            await asyncio.gather(*(tab.join() for tab in tabs))
            await house.called(tabs[0])
            tokens = [each.token for each in await asyncio.gather(*(tab.enter() for tab in tabs))]
        words = await asyncio.gather(
            *(grab(tabs[n % len(tabs)], n, tokens[n % len(tabs)]) for n in range(40))
        )
        assert words.count("FINE") == 4
        assert set(words) <= {"FINE", "LIMIT_REACHED", "ALLOWANCE_EXCEEDED"}
        orders = len(words) // 2
        assert await taken_in(house, name) == orders, "each order is taken in once"
        async with asyncio.timeout(30):
            # Until they have come to rest.
            while sum(each.count for each in (await house.organiser.orders_by_state(name)).counts) < orders:
                await asyncio.sleep(0.05)
            while (await house.ledger(name)).claims:
                await asyncio.sleep(0.05)
        async with cheating(house, name, refused_orders=5) as tries:
            again = await asyncio.gather(*(grab(tabs[n % 5], 100 + n, tokens[n % 5]) for n in range(10)))
            assert "FINE" not in tries.note(again)
        if line:
            # Nor does standing in line again help: there is nothing left of the limit to promise.
            await asyncio.gather(*(tab.join() for tab in tabs))
            assert await word_of(tabs[0].hold("one-more-hold", ONE, tokens[0])) != "FINE"
    counts = (await house.ledger(name)).counts
    assert counts.capacity - counts.free - counts.promised <= 4
    assert (await house.ledger(name)).turns <= 1


async def test_buying_again_does_not_start_the_limit_again(house: Any) -> None:
    name = await house.sale(line=False, limit=2, price=0)
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", [item("floor", 2)])
    await house.told(buyer, placed.order_id, CONFIRMED)
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("LIMIT_REACHED", buyer.hold("my-hold-1", ONE))
        await tries.refused("LIMIT_REACHED", buyer.order("click-two", ONE))


async def test_many_small_items_are_not_less_than_one_large(house: Any) -> None:
    name = await house.sale(line=False, capacity=50, limit=4)
    buyer = house.buyer(name)
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("LIMIT_REACHED", buyer.hold("my-hold-1", ONE * 5))
        await tries.refused("LIMIT_REACHED", buyer.order("click-one", ONE * 5))
        for number, quantity in enumerate((0, -1, -(2**31), 2**31 - 1)):
            wanted = [item("floor", 1), item("floor", quantity)]
            await tries.refused("INVALID_QUANTITY", buyer.hold(f"hold-{number:04}", wanted), quantity)
            await tries.refused("INVALID_QUANTITY", buyer.order(f"click-{number:04}", wanted), quantity)


async def test_a_ticket_type_that_is_not_sold_is_not_ordered(house: Any) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name)
    # Nothing is kept of an order for what the sale does not have.
    async with cheating(house, name) as tries:
        for number, kind in enumerate(("free", "full0", "floor")):
            wanted = [item("floor", 1, kind)]
            await tries.refused("TICKET_TYPE_NOT_FOUND", buyer.hold(f"hold-{number:04}", wanted), kind)
            await tries.refused("TICKET_TYPE_NOT_FOUND", buyer.order(f"click-{number:04}", wanted), kind)
        await tries.refused("SECTION_NOT_FOUND", buyer.hold("hold-none", [item("backstage", 1)]))
        await tries.refused("SECTION_NOT_FOUND", buyer.order("click-none", [item("backstage", 1)]))


# ---- for ever ----


@pytest.mark.parametrize("line", [True, False])
@pytest.mark.parametrize("how", ["hold", "order"])
async def test_taking_and_giving_back_for_ever_is_bounded(house: Any, line: bool, how: str) -> None:
    name = await house.sale(capacity=2, limit=2, line=line)
    buyer = house.buyer(name)
    token = (await house.admitted(buyer)).token if line else ""
    for number in range(TIMES):
        assert await taken_and_given_back(house, buyer, how, number, token) == "FINE", number
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("HOLD_LIMIT", buyer.hold("once-more", ONE, token))
        await tries.refused("HOLD_LIMIT", buyer.order("once-more", ONE, admission=token))
    other = house.buyer(name)
    if line:
        await buyer.leave()
        other_token = (await house.admitted(other)).token
        assert await word_of(other.hold("others-hold", ONE, other_token)) == "FINE"
    else:
        assert await word_of(other.hold("others-hold", ONE)) == "FINE"


async def taken_and_given_back(house: Any, buyer: Buyer, how: str, number: int, token: str) -> str:
    if how == "hold":
        word = await word_of(buyer.hold(f"again-{number:04}", ONE, token))
        await buyer.release(f"again-{number:04}")
        return word
    try:
        placed = await buyer.order(f"again-{number:04}", ONE, admission=token)
    except Refusal as refusal:
        return refusal.word
    await buyer.cancel(placed.order_id)
    free_again = house.ledger
    async with asyncio.timeout(30):
        while (await free_again(buyer.sale)).counts.held or (await free_again(buyer.sale)).claims:
            await asyncio.sleep(0.02)
    return "FINE"


async def test_orders_refused_for_ever_are_kept_no_more(house: Any) -> None:
    name = await house.sale(line=False, limit=1)
    buyer, other = house.buyer(name), house.buyer(name)
    most, more = default_of(InventorySettings, "refused_orders"), 50
    too_many = [item("floor", 2)]
    async with cheating(house, name, refused_orders=most + 1) as tries:
        for number in range(most):
            await tries.refused("LIMIT_REACHED", buyer.order(f"in-vain-{number:04}", too_many), number)
        # The first beyond is kept with its reason; after it nothing is, until the time is over.
        for number in range(more):
            await tries.refused("ORDER_LIMIT", buyer.order(f"still-{number:04}", too_many), number)
        with pytest.raises(Refusal, match="ORDER_LIMIT") as refused:
            await buyer.order("a-good-one", ONE)
        tries.note(["ORDER_LIMIT"])
        assert refused.value.retry_after_s and refused.value.retry_after_s > 1
        # What was answered before is answered again.
        await tries.refused("LIMIT_REACHED", buyer.order("in-vain-0000", too_many))
    assert await word_of(other.order("click-one", ONE)) == "FINE"


@pytest.mark.parametrize("opens_in_s", [0.0, 3000.0])
async def test_leaving_and_joining_for_ever_takes_no_room(house: Any, opens_in_s: float) -> None:
    name = await house.sale(capacity=2, limit=2, opens_in_s=opens_in_s)
    first, buyer = house.buyer(name), house.buyer(name)
    await first.join()
    if not opens_in_s:
        await house.called(first)
    joined = await buyer.join()
    await buyer.leave()
    async with cheating(house, name) as tries:
        for _ in range(20):
            await tries.refused("JOIN_LIMIT", buyer.join())
            await buyer.leave()
    async with asyncio.timeout(30):
        while await word_of(buyer.join()) == "JOIN_LIMIT":
            await asyncio.sleep(0.1)
    place = await buyer.place()
    if opens_in_s:
        assert place.index == joined.index, "the same index, in the draw once"
    else:
        assert place.place == joined.place + 1, "at the end, once"


@pytest.mark.parametrize("kind", ["watch", "watch the sale", "subscribe"])
async def test_streams_of_one_person_are_bounded(house: Any, kind: str) -> None:
    name = await house.sale(opens_in_s=3000)
    subject = f"watcher-{name}"
    most = default_of(QueueSettings, "streams_per_buyer")
    buyer, other = house.buyer(name, subject), house.buyer(name)
    await asyncio.gather(buyer.join(), other.join())
    open_one: Callable[[Buyer], AsyncIterator[Any]] = {
        "watch": Buyer.watch,
        "watch the sale": watched_sale,
        "subscribe": Buyer.subscribe,
    }[kind]
    async with cheating(house, name) as tries, AsyncExitStack() as streams:
        # Each replica counts by itself, so all streams go to one of each service.
        alone = {service: house.stack.parts[service].addresses[0] for service in house.running.targets}
        connection = await streams.enter_async_context(Connection(Targets(**alone)))
        buyer.at = connection
        for _ in range(most):
            stream = await streams.enter_async_context(aclosing(open_one(buyer)))
            await anext(stream)
        for _ in range(10):
            async with aclosing(open_one(buyer)) as stream:
                await tries.refused("STREAM_LIMIT", anext(stream))
        async with aclosing(open_one(other)) as stream:
            await anext(stream)
    # The streams have ended, and there is room again.
    async with asyncio.timeout(30):
        while True:
            async with aclosing(open_one(house.buyer(name, subject))) as stream:
                if await word_of(anext(stream)) == "FINE":
                    return
            await asyncio.sleep(0.05)


def watched_sale(buyer: Buyer) -> AsyncIterator[queue.WatchSaleResponse]:
    request = queue.WatchSaleRequest(sale=buyer.sale)
    return streamed(buyer.at.queue.WatchSale(request, metadata=buyer.metadata))


async def test_ten_thousand_joins_of_one_person_are_one_place(house: Any) -> None:
    name = await house.sale(opens_in_s=3000)
    bff = house.minter.mint("front", roles=["bff"], namespace="shop")
    eager = Buyer(house.at, name, bff, subject="eager")
    first = await eager.join()
    async with cheating(house, name) as tries, devices_of_a_bff(house, name, bff) as tabs:
        batches = (JOINS - UNARY_JOINS) // JOINS_IN_A_BATCH + 1
        many = asyncio.gather(*(joined_often(tab) for tab in tabs for _ in range(batches // len(tabs) + 1)))
        places = await asyncio.gather(*(tabs[n % len(tabs)].join() for n in range(UNARY_JOINS)))
        indexes = {index for seen in await many for index in seen}
        # None of them is called before the sale opens, however often they join.
        await tries.refused("WRONG_PHASE", eager.enter())
    assert indexes == {first.index} == {place.index for place in places}


@asynccontextmanager
async def devices_of_a_bff(house: Any, sale: str, token: str) -> AsyncIterator[Sequence[Buyer]]:
    connections = [Connection(Targets(**house.running.targets)) for _ in range(4)]
    try:
        yield [Buyer(each, sale, token, subject="eager") for each in connections]
    finally:
        for each in connections:
            await each.close()


async def joined_often(buyer: Buyer) -> set[int]:
    """The places that a thousand joins in one message give the same person."""
    items = [queue.JoinItem(subject="eager")] * JOINS_IN_A_BATCH
    call = buyer.at.queue.JoinMany(
        iter([queue.JoinManyRequest(sale=buyer.sale, items=items)]), metadata=buyer.metadata[:1]
    )
    (answer,) = [each async for each in streamed(call)]
    assert not any(result.refusal for result in answer.results)
    return {result.place.index for result in answer.results}
