"""Tells those who asked for it that their turn is near, and that it has come, for the one who calls.

Nothing is kept per waiting buyer but a bit: places are looked at as `serving` passes them, a chunk at a
time, and what there is to tell becomes one batch. A message is published to a subject of its own if that is
still empty, and the marks move on afterwards: so whoever leads next, or as well, goes on where this one stood
and tells nobody twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from catraca.events.v1 import events_pb2
from catraca.queue.v1 import queue_pb2

from services.kit.buyers import to_text
from services.kit.errors import refusal_for
from services.kit.logs import get_logger
from services.kit.streams import WrongSequence, cloud_headers
from services.queue import metrics, rules
from services.queue.draw import Permutation
from services.queue.ledger import Ledger
from services.queue.rules import Nearness
from services.queue.states import PlaceState, Standing
from services.queue.store import LineStore

STREAM = "TURNS"
SUBJECT = "catraca.turn.{sale}.{buyer}.{place}.{word}"
COME, NEAR = queue_pb2.TURN_WORD_COME, queue_pb2.TURN_WORD_NEAR
WORDS: Mapping[int, str] = {COME: "come", NEAR: "near"}
# Places that one run of the script looks at, and so messages in one batch at most.
PLACES_PER_STEP = 200
BACKOFF_S = (0.1, 5.0)

log = get_logger("turns")

PermutationOf = Callable[[str, Standing], Permutation | None]
Askers = Mapping[int, str]
"""Internal ids of those who want turn news, by place."""


class Publishes(Protocol):
    """What publishes a message behind a fence; see services.kit.publisher."""

    def publish(
        self, subject: str, payload: bytes, expected_seq: int, headers: Mapping[str, str] | None = None
    ) -> Awaitable[int]:
        """Publishes if the subject's last message has this sequence, 0 for none. Raises WrongSequence."""


class TurnTeller:
    """One sale's turn news, told by whichever replica leads its line."""

    def __init__(
        self,
        sale: str,
        store: LineStore,
        ledger: Ledger,
        publisher: Publishes,
        permutation_of: PermutationOf,
        nearness: Nearness,
    ) -> None:
        """Nothing is told before `run`, and none before the one who leads says how the line stands."""
        self._sale = sale
        self._store = store
        self._ledger = ledger
        self._publisher = publisher
        self._permutation_of = permutation_of
        self._nearness = nearness
        self._seen: tuple[Standing, int] | None = None
        self._woken = asyncio.Event()
        self._backoff_s = 0.0
        # How far this one has told itself: what the leader saw may be older.
        self._come = self._near = 0

    def look(self, standing: Standing, unpromised: int) -> None:
        """Takes how the line stands, from the one who leads; what there is to tell of it is told soon."""
        if standing.asked:
            self._seen = standing, unpromised
            self._woken.set()

    async def run(self) -> None:
        """Tells until cancelled. An outage holds up turn news alone, and is told of once."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._tell_all()
            except Exception as error:
                await self._wait_out(error)
                self._woken.set()
            else:
                self._backoff_s = 0.0

    async def _wait_out(self, error: Exception) -> None:
        refusal = refusal_for(error)
        if self._backoff_s == 0.0:
            word = refusal.word if refusal else type(error).__name__
            log.warning("turn_news_wait", sale=self._sale, word=word, problem=str(error))
        self._backoff_s = min(max(BACKOFF_S[0], 2 * self._backoff_s), BACKOFF_S[1])
        await asyncio.sleep(self._backoff_s)

    async def _tell_all(self) -> None:
        """Whose turn has come first, and of those anew after each chunk of who is near."""
        while self._seen is not None:
            standing, unpromised = self._seen
            if not standing.drawn and standing.cohort:
                return
            come, near = max(self._come, standing.told_come), max(self._near, standing.told_near)
            if come < standing.serving:
                self._come = await self._tell_come(standing, come)
                continue
            near = max(near, standing.serving)
            until = self._nearness.until(standing, unpromised)
            if near >= until:
                return
            self._near = await self._tell_near(standing, near, until)

    async def _tell_come(self, standing: Standing, start: int) -> int:
        """Tells a chunk of called places; answers where the next one begins."""
        end = min(start + PLACES_PER_STEP, standing.serving)
        askers = await self._askers(standing, start, end)
        if askers:
            asked = [(buyer, place) for place, buyer in askers.items()]
            turns = await self._ledger.look(self._sale, asked)
            await self._publish(
                events_pb2.TurnNews(
                    buyer=buyer,
                    place=place,
                    word=COME,
                    turn_ends_at_ms=turn.ends_ms,
                    allowance=turn.left,
                    at_ms=turn.called_ms,
                )
                for (buyer, place), turn in zip(asked, turns, strict=True)
                # Whoever was passed over, or missed the turn while nobody led, has none to be told of.
                if turn.state is PlaceState.CALLED
            )
        await self._store.told(self._sale, come=end)
        return end

    async def _tell_near(self, standing: Standing, start: int, until: int) -> int:
        """Tells a chunk of places before the front; answers where the next one begins."""
        end = min(start + PLACES_PER_STEP, until)
        askers = await self._askers(standing, start, end)
        await self._publish(self._near_news(standing, place, buyer) for place, buyer in askers.items())
        await self._store.told(self._sale, near=end)
        return end

    async def _askers(self, standing: Standing, start: int, end: int) -> Askers:
        permutation, cohort = self._permutation_of(self._sale, standing), standing.cohort or 0
        indexes = [rules.index_at(place, cohort, permutation) for place in range(start, end)]
        found = await self._store.askers(self._sale, indexes)
        return {start + position: to_text(buyer) for position, buyer in found.items()}

    def _near_news(self, standing: Standing, place: int, buyer: str) -> events_pb2.TurnNews:
        ahead = max(0, place - standing.serving)
        news = events_pb2.TurnNews(buyer=buyer, place=place, word=NEAR, ahead=ahead, at_ms=standing.now_ms)
        likely = rules.estimate(ahead, standing)
        if likely is not None:
            news.estimate.low_s, news.estimate.high_s = likely
        return news

    async def _publish(self, news: Iterable[events_pb2.TurnNews]) -> None:
        """Publishes what nobody published before. Raises what went wrong with any, once all are through."""
        ended = await asyncio.gather(*map(self._publish_one, news), return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each

    async def _publish_one(self, news: events_pb2.TurnNews) -> None:
        news.sale = self._sale
        word = WORDS[news.word]
        subject = SUBJECT.format(sale=self._sale, buyer=news.buyer, place=news.place, word=word)
        headers = cloud_headers(
            type=news.DESCRIPTOR.full_name,
            source="catraca/queue",
            subject=self._sale,
            id=f"turn/{self._sale}/{news.buyer}/{news.place}/{word}",
            at_ms=news.at_ms,
        )
        try:
            await self._publisher.publish(subject, news.SerializeToString(), 0, headers)
        except WrongSequence:
            metrics.TURN_NEWS.labels(word, "known").inc()
        else:
            metrics.TURN_NEWS.labels(word, "published").inc()
