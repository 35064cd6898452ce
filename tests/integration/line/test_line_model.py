"""The line's script against a plain model: whatever buyers and leaders do, in any order."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any, TypeVar

import msgpack
import pytest
from catraca.events.v1.events_pb2 import QueueChange
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from local.servers.redis import Redis as RedisServer
from services.kit.redis import connect
from services.queue.events import batch_of
from services.queue.filling import Filling
from services.queue.states import Joiner
from services.queue.store import LineStore, keys_of
from tests.integration.line.fakes import OneEpoch, joiners, nothing_published

R = TypeVar("R")
HOUR = 3_600_000
# Some have the same first bytes: they share a bucket of the index, and a head in it.
BUYERS = [(b"same" * (number % 3 == 0) + hashlib.md5(b"%d" % number).digest())[:16] for number in range(12)]
CODES = [hashlib.md5(b"code %d" % number).digest() for number in range(3)]
CHALLENGES = [hashlib.md5(b"challenge %d" % number).digest() for number in range(40)]
numbers = st.integers(0, len(BUYERS) - 1)
buyers = st.lists(numbers, min_size=1, max_size=6)
comers = st.tuples(
    numbers, st.sampled_from([b"", *CODES]), st.sampled_from([b"", *CHALLENGES]), st.booleans()
)


class LineMachine(RuleBasedStateMachine):
    """Joins, leaves, rejoins, freezes, serves and renews; the model is a list and some dictionaries."""

    url = ""
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        LineMachine.runs += 1
        self.sale = f"model-{LineMachine.runs}"
        self.members: list[int] = []
        self.index: dict[int, int] = {}
        self.left: set[int] = set()
        # The indexes that turn news was asked for.
        self.asked: set[int] = set()
        self.cohort: int | None = None
        self.serving = 0
        self.revision = 1
        self.uses: dict[bytes, int] = {}
        self.used: Counter[bytes] = Counter()
        self.spent: set[bytes] = set()
        self.log: list[QueueChange] = []

    def wait(self, awaitable: Awaitable[R]) -> R:
        async def waited() -> R:
            return await awaitable

        return self.loop.run_until_complete(waited())

    @initialize()
    def define(self) -> None:
        self.redis = connect(self.url)
        self.epochs = OneEpoch()
        self.store = LineStore(self.redis, self.epochs, nothing_published)
        now = self.wait(self.store.now_ms())
        self.definition: dict[str, Any] = {
            "line": True,
            "lobby_opens_ms": now - HOUR,
            "opens_ms": now + HOUR,
            "closes_ms": now + 2 * HOUR,
            "paused": False,
        }
        self.wait(self.store.create(self.sale, 1, 1, self.definition))

    def append(self, number: int) -> None:
        self.index[number] = len(self.members)
        self.left.discard(number)
        self.members.append(number)

    def define_anew(self) -> None:
        self.revision += 1
        self.wait(self.store.define(self.sale, self.revision, self.definition))

    @rule(codes=st.booleans(), challenge=st.booleans())
    def want(self, codes: bool, challenge: bool) -> None:
        self.definition |= {"codes": codes, "challenge": challenge}
        self.define_anew()

    @rule(code=st.sampled_from(CODES), uses=st.integers(0, 3))
    def put_code(self, code: bytes, uses: int) -> None:
        self.wait(self.store.put_codes(self.sale, [code], uses))
        self.uses[code] = uses

    @rule(who=st.lists(comers, min_size=1, max_size=6))
    def join(self, who: list[tuple[int, bytes, bytes, bool]]) -> None:
        comers = [Joiner(BUYERS[number], code, challenge, news) for number, code, challenge, news in who]
        answers, _ = self.wait(self.store.join(self.sale, comers))
        for (number, code, challenge, _), answer in zip(who, answers, strict=True):
            refused = "" if number in self.index else self.opens(code, challenge)
            if refused:
                assert answer == refused
                continue
            if number not in self.index or (number in self.left and self.cohort is not None):
                self.append(number)
            self.left.discard(number)
            assert not isinstance(answer, str)
            assert (answer.index, answer.left) == (self.index[number], False)
        self.asked |= {self.index[number] for number, *_, news in who if news and number in self.index}

    def opens(self, code: bytes, challenge: bytes) -> str:
        """What is wrong with what a newcomer brings, which is used up; empty where nothing is."""
        if self.definition.get("challenge"):
            if not challenge or challenge in self.spent:
                return "CHALLENGE_REQUIRED"
            self.spent.add(challenge)
        if self.definition.get("codes"):
            if self.used[code] >= self.uses.get(code, 0):
                return "ACCESS_CODE_INVALID"
            self.used[code] += 1
        return ""

    @rule(numbers=buyers)
    def leave(self, numbers: list[int]) -> None:
        entries, _ = self.wait(self.store.leave(self.sale, [BUYERS[number] for number in numbers]))
        for number, entry in zip(numbers, entries, strict=True):
            if number in self.index:
                self.left.add(number)
                self.asked.discard(self.index[number])
                assert entry is not None
                assert (entry.index, entry.left) == (self.index[number], True)
            else:
                assert entry is None

    @precondition(lambda self: self.cohort is None)
    @rule()
    def open(self) -> None:
        self.definition["opens_ms"] = self.definition["lobby_opens_ms"]
        self.define_anew()
        self.cohort = len(self.members)

    @precondition(lambda self: self.cohort is not None)
    @rule(steps=st.integers(0, 5))
    def serve(self, steps: int) -> None:
        target = min(self.serving + steps, len(self.members))
        indexes = list(range(self.serving, target))
        found = self.wait(self.store.serve(self.sale, target, indexes))
        self.serving = target
        for position, index in enumerate(indexes):
            number = self.members[index]
            present = self.index[number] == index and number not in self.left
            assert found.members[position].buyer == BUYERS[number]
            assert (position in found.gone) == (not present)

    @precondition(lambda self: self.cohort is not None)
    @rule(numbers=buyers, back=st.integers(0, 1), news=st.booleans())
    def renew(self, numbers: list[int], back: int, news: bool) -> None:
        known = [number for number in numbers if number in self.index]
        if not known:
            return
        # A caller may know an index that is none of the buyer's any more.
        over = [max(0, self.index[number] - back) for number in known]
        again = joiners([BUYERS[number] for number in known], turn_news=news)
        entries, _ = self.wait(self.store.renew(self.sale, again, over))
        for number, index, entry in zip(known, over, entries, strict=True):
            if number not in self.left and self.index[number] == index:
                self.append(number)
            assert (entry.index, entry.left) == (self.index[number], number in self.left)
        if news:
            self.asked |= {self.index[number] for number in known if number not in self.left}

    @rule()
    def lose_the_store(self) -> None:
        """It is emptied, and filled again from all that was published. Only used challenges are forgotten."""
        self.wait(self.lost_and_filled_again())
        self.spent.clear()

    async def lost_and_filled_again(self) -> None:
        filling, keys = Filling(), keys_of(self.sale)
        for _, fields in await self.redis.xrange(keys[4]):
            changes = msgpack.unpackb(fields[b"e"], unicode_errors="surrogateescape", strict_map_key=False)
            self.log += batch_of(self.sale, self.epochs.number, changes).changes
        before = await self.seen()
        await self.redis.delete(*keys)
        self.epochs.number += 1
        epoch = self.epochs.number
        await self.store.begin_filling(self.sale, epoch, self.definition)
        for part in (*filling.take(self.log), filling.rest()):
            # The answer was lost, and it is sent again.
            await self.store.fill(self.sale, epoch, part)
            await self.store.fill(self.sale, epoch, part)
        last = {"sequence": filling.sequence, "at_ms": filling.at_ms, "stamp": 1}
        await self.store.end_filling(self.sale, epoch, last, self.revision, self.definition, 0)
        assert await self.seen() == before

    async def seen(self) -> object:
        """What is kept of the line and of each buyer, joined_at too, but for the time of looking."""
        entries, standing = await self.store.read(self.sale, BUYERS)
        return entries, replace(standing, now_ms=0, epoch=0), await self.store.facts(self.sale, "")

    @invariant()
    def the_store_says_the_same(self) -> None:
        entries, standing = self.wait(self.store.read(self.sale, BUYERS))
        seen = {number: entry for number, entry in enumerate(entries) if entry is not None}
        assert {number: entry.index for number, entry in seen.items()} == self.index
        assert {number for number, entry in seen.items() if entry.left} == self.left
        assert (standing.joined, standing.cohort) == (len(self.members), self.cohort)
        assert standing.serving == self.serving
        members = self.wait(self.store.members(self.sale, 0, 1000))
        assert members == [BUYERS[number] for number in self.members]
        askers = self.wait(self.store.askers(self.sale, range(len(members))))
        there = {index: number for number, index in self.index.items() if number not in self.left}
        assert askers == {index: BUYERS[there[index]] for index in self.asked if index in there}

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            self.wait(self.redis.delete(*keys_of(self.sale)))
            self.wait(self.redis.aclose())
        self.loop.close()


@pytest.mark.timeout(120)
def test_the_line_is_what_the_model_says(redis_server: RedisServer) -> None:
    LineMachine.url = redis_server.url
    run_state_machine_as_test(
        LineMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
