"""Turn news on real Redis and NATS: who asked is told once that the turn is near, once that it has come."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from catraca.events.v1 import events_pb2
from catraca.queue.v1 import queue_pb2
from nats.js import JetStreamContext
from structlog.testing import capture_logs

from local.servers.nats import Nats
from services.kit.buyers import to_text
from services.kit.publisher import Publisher
from services.kit.streams import connect_nats, declare, read_all
from services.queue.states import PlaceState
from services.queue.workers.turns import STREAM
from tests.integration.line.fakes import TURN_ENDS_MS, joiners
from tests.integration.line.leading import Sale, buyer
from tests.integration.line.replicas import NatsUrl

COME, NEAR = queue_pb2.TURN_WORD_COME, queue_pb2.TURN_WORD_NEAR


@pytest.fixture
async def js(nats_server: Nats) -> AsyncIterator[JetStreamContext]:
    """The shared NATS, with every stream."""
    nc = await connect_nats(NatsUrl(nats_server.url))
    await declare(nc.jetstream())
    yield nc.jetstream()
    await nc.close()


class Published:
    """What JetStream holds of a sale's turn news."""

    def __init__(self, js: JetStreamContext, sale: Sale) -> None:
        self._js = js
        self._sale = sale
        sale.publisher = Publisher(js, STREAM)

    async def all(self) -> list[events_pb2.TurnNews]:
        messages = read_all(self._js, STREAM, f"catraca.turn.{self._sale.id}.>")
        return [events_pb2.TurnNews.FromString(message.data) async for message in messages]

    async def until(self, word: int, places: set[int]) -> list[events_pb2.TurnNews]:
        """Waits until the word was told of exactly these places, each once; all there is."""
        async with asyncio.timeout(10):
            found = await self.all()
            while {news.place for news in found if news.word == word} != places:
                await asyncio.sleep(0.02)
                found = await self.all()
        assert max(Counter((news.place, news.word) for news in found).values()) == 1
        return found


@pytest.fixture
def published(js: JetStreamContext, sale: Sale) -> Published:
    """The sale's leaders publish to the shared NATS."""
    return Published(js, sale)


async def settled(sale: Sale) -> None:
    """Until there is nothing more to tell of how the line stands."""
    async with asyncio.timeout(10):
        while (standing := await sale.store.standing(sale.id)).told_come < standing.serving:
            await asyncio.sleep(0.01)


async def test_who_asked_is_told_near_and_come_and_nobody_else_anything(
    sale: Sale, published: Published
) -> None:
    sale.ledger.stock = 8
    await sale.define(opens_in_ms=-1)
    await sale.join(0, 1)
    await sale.join(2, 4, 6, turn_news=True)
    await sale.join(3, 5)
    leader = sale.lead("one")
    await sale.serving(2)
    # Places are 0 1, then 2 3 4 for those who asked; two before the front are near.
    found = await published.until(NEAR, {2, 3})
    assert [(news.place, news.ahead, news.buyer) for news in found] == [
        (2, 0, to_text(buyer(2))),
        (3, 1, to_text(buyer(4))),
    ]
    assert all(news.sale == sale.id and news.at_ms and not news.turn_ends_at_ms for news in found)

    who, place, _ = sale.ledger.history[0]
    sale.ledger.end(who, place)
    leader.wake()
    found = await published.until(COME, {2})
    (come,) = (news for news in found if news.word == COME)
    assert (come.buyer, come.allowance, come.turn_ends_at_ms) == (to_text(buyer(2)), 4, TURN_ENDS_MS)
    assert await published.until(NEAR, {2, 3, 4})

    sale.ledger.stock = 1000
    leader.wake()
    await sale.serving(7)
    assert await published.until(COME, {2, 3, 4})


async def test_a_drawn_place_is_told_as_any_other(sale: Sale, published: Published) -> None:
    await sale.define()
    await sale.join(*range(10), turn_news=True)
    await sale.join(*range(10, 40))
    sale.lead("one")
    await sale.define(opens_in_ms=-1)
    await sale.serving(40)

    standing = await sale.store.standing(sale.id)
    permutation = sale.permutation(sale.id, standing)
    assert permutation is not None
    found = await published.until(COME, {permutation.place(number) for number in range(10)})
    told = {news.buyer for news in found if news.word == COME}
    assert told == {to_text(buyer(number)) for number in range(10)}


async def test_leaders_that_die_at_any_moment_and_two_at_once_tell_everyone_once(
    sale: Sale, published: Published
) -> None:
    sale.ledger.stock = 10_000
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(150), turn_news=True)
    for number in range(12):
        # Each takes the lease from the other as soon as it may, and both are stopped amid what they do.
        sale.lead(f"one-{number}", ttl_ms=1, batch=9)
        sale.lead(f"two-{number}", ttl_ms=1, batch=9)
        await asyncio.sleep(0.004 * (number % 5))
        await sale.stop()
    sale.lead("last")
    await sale.serving(150)

    assert await published.until(COME, set(range(150)))


async def test_marks_that_went_with_the_store_tell_nobody_twice(sale: Sale, published: Published) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(5), turn_news=True)
    sale.lead("one")
    await sale.serving(5)
    before = await published.until(COME, set(range(5)))
    await sale.stop()
    await settled(sale)
    await sale.forget_told()

    sale.lead("two")
    await settled(sale)

    assert await published.all() == before


async def test_who_left_or_has_no_turn_any_more_is_told_nothing(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(6), turn_news=True)
    await sale.store.leave(sale.id, [buyer(1)])
    call = sale.ledger.call

    async def lapsing(*arguments: object) -> object:
        answer = await call(*arguments)  # type: ignore[arg-type]
        sale.ledger.end(to_text(buyer(3)), 3)
        return answer

    sale.ledger.call = lapsing  # type: ignore[assignment, method-assign]
    sale.lead("one")
    await sale.serving(6)
    await settled(sale)

    come = {news.place for news in sale.told.news.values() if news.word == COME}
    assert come == {0, 2, 4, 5}
    assert sale.ledger.turns[to_text(buyer(3)), 3].state is PlaceState.LAPSED


async def test_a_new_place_wants_asking_anew(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(0, 1, turn_news=True)
    sale.lead("one")
    await sale.serving(2)
    await settled(sale)
    for number in (0, 1):
        sale.ledger.end(to_text(buyer(number)), number)
    await sale.store.renew(sale.id, joiners([buyer(0)]), [0])
    await sale.store.renew(sale.id, joiners([buyer(1)], turn_news=True), [1])
    await sale.serving(4)
    await settled(sale)

    places = [(news.place, news.buyer) for news in sale.told.news.values() if news.word == COME]
    assert places == [(0, to_text(buyer(0))), (1, to_text(buyer(1))), (3, to_text(buyer(1)))]


async def test_a_stream_that_is_away_holds_up_turn_news_and_no_call(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(4), turn_news=True)
    publish, away = sale.told.publish, True

    async def failing(*arguments: object) -> int:
        if away:
            raise TimeoutError("nobody answers")
        return await publish(*arguments)  # type: ignore[arg-type]

    sale.told.publish = failing  # type: ignore[assignment, method-assign]
    with capture_logs() as logged:
        sale.lead("one")
        await sale.serving(4)
        await sale.join(4)
        await sale.serving(5)
        assert not sale.told.news
        away = False
        await settled(sale)

    assert {news.place for news in sale.told.news.values() if news.word == COME} == {0, 1, 2, 3}
    assert [line["event"] for line in logged].count("turn_news_wait") == 1


async def test_a_sale_that_nobody_asked_in_is_not_looked_at(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    looked = 0
    askers = sale.store.askers

    async def counted(*arguments: object) -> object:
        nonlocal looked
        looked += 1
        return await askers(*arguments)  # type: ignore[arg-type]

    sale.store.askers = counted  # type: ignore[assignment, method-assign]
    await sale.join(*range(300))
    sale.lead("one")
    await sale.serving(250)
    assert looked == 0

    # The first to ask is found without looking at those who were called before.
    await sale.join(300, turn_news=True)
    sale.ledger.stock = 5000
    await sale.serving(301)
    await settled(sale)
    assert {news.place for news in sale.told.news.values()} == {300}
    assert looked < 5
