"""The line's script against a plain model: whatever buyers and leaders do, in any order."""

import asyncio
import hashlib
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
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
from services.queue.store import LineStore, keys_of
from tests.integration.line.fakes import OneEpoch, joiners

R = TypeVar("R")
HOUR = 3_600_000
BUYERS = [hashlib.md5(b"%d" % number).digest() for number in range(12)]
buyers = st.lists(st.integers(0, len(BUYERS) - 1), min_size=1, max_size=6)


class LineMachine(RuleBasedStateMachine):
    """Joins, leaves, rejoins, freezes, serves and renews; the model is a list and a dictionary."""

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
        self.cohort: int | None = None
        self.serving = 0
        self.revision = 1

    def wait(self, awaitable: Awaitable[R]) -> R:
        async def waited() -> R:
            return await awaitable

        return self.loop.run_until_complete(waited())

    @initialize()
    def define(self) -> None:
        self.redis = connect(self.url)
        self.store = LineStore(self.redis, OneEpoch())
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

    @rule(numbers=buyers)
    def join(self, numbers: list[int]) -> None:
        entries, _ = self.wait(self.store.join(self.sale, joiners([BUYERS[number] for number in numbers])))
        for number, entry in zip(numbers, entries, strict=True):
            if number not in self.index or (number in self.left and self.cohort is not None):
                self.append(number)
            self.left.discard(number)
            assert (entry.index, entry.left) == (self.index[number], False)

    @rule(numbers=buyers)
    def leave(self, numbers: list[int]) -> None:
        entries, _ = self.wait(self.store.leave(self.sale, [BUYERS[number] for number in numbers]))
        for number, entry in zip(numbers, entries, strict=True):
            if number in self.index:
                self.left.add(number)
                assert entry is not None
                assert (entry.index, entry.left) == (self.index[number], True)
            else:
                assert entry is None

    @precondition(lambda self: self.cohort is None)
    @rule()
    def open(self) -> None:
        self.revision += 1
        self.definition["opens_ms"] = self.definition["lobby_opens_ms"]
        self.wait(self.store.define(self.sale, self.revision, self.definition))
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
    @rule(numbers=buyers, back=st.integers(0, 1))
    def renew(self, numbers: list[int], back: int) -> None:
        known = [number for number in numbers if number in self.index]
        if not known:
            return
        # A caller may know an index that is none of the buyer's any more.
        over = [max(0, self.index[number] - back) for number in known]
        entries, _ = self.wait(self.store.renew(self.sale, [BUYERS[number] for number in known], over))
        for number, index, entry in zip(known, over, entries, strict=True):
            if number not in self.left and self.index[number] == index:
                self.append(number)
            assert (entry.index, entry.left) == (self.index[number], number in self.left)

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
