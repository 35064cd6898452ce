"""A store's runs on real Redis: when it is behind what was seen, it answers nobody until it is whole."""

from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, TimeoutError

from local.servers.redis import Redis as RedisServer
from services.kit.errors import Refusal
from services.kit.lua import NotLoaded, Script
from services.kit.redis import ONLY_ONE, Copies, connect
from services.kit.runs import TRIES, Runs

# Counts up, and answers only what has reached what was seen.
DISPATCH = """
--@include keys
local envelope = cmsgpack.unpack(ARGV[1])
local found = redis.call('GET', keys.count)
if not found and not envelope.create then return cmsgpack.pack({word = 'NOT_LOADED'}) end
if tonumber(found or 0) < (envelope.seen or 0) then return cmsgpack.pack({word = 'NOT_LOADED'}) end
local by = cmsgpack.unpack(ARGV[2])[1].by
return cmsgpack.pack({{word = 'DONE', sequence = redis.call('INCRBY', keys.count, by)}})
"""


class Book:
    """One epoch for every sale."""

    async def epoch(self, sale: str, *, fresh: bool = False) -> int:
        return 1


class Counter:
    """A store that counts; `published` is what JetStream has of it."""

    def __init__(self, redis: Redis, folder: Path, sale: str, copies: Copies = ONLY_ONE) -> None:
        (folder / "lua").mkdir(exist_ok=True)
        (folder / "lua" / "dispatch.lua").write_text(DISPATCH)
        self.sale, self.redis, self.published, self.asked = sale, redis, 0, 0
        script = Script.load(folder / "lua", ("count",))
        keys = [f"{sale}:count"]
        self.runs = Runs(redis, script, lambda sale: keys, Book(), self.last_published, copies)
        self.lost: list[tuple[str, int]] = []
        self.changed = 0
        self.runs.on_lost(lambda sale, condemned: self.lost.append((sale, condemned)))
        self.runs.on_changes(self.count)

    def count(self, sale: str) -> None:
        self.changed += 1

    async def last_published(self, sale: str) -> int:
        self.asked += 1
        return self.published

    async def add(self, by: int = 1) -> int:
        (result,) = await self.runs.run(self.sale, [{"by": by}])
        return int(result["sequence"])

    async def set(self, count: int) -> None:
        """The store is another copy."""
        await self.redis.set(f"{self.sale}:count", count)


@pytest.fixture
async def counter(redis_server: RedisServer, tmp_path: Path, sale_id: str):  # type: ignore[no-untyped-def]
    redis = connect(redis_server.url)
    yield Counter(redis, tmp_path, sale_id)
    await redis.aclose()


async def test_what_this_process_has_seen_the_store_must_have(counter: Counter) -> None:
    await counter.runs.create(counter.sale, 1, [{"by": 1}])
    assert [await counter.add(), await counter.add()] == [2, 3]
    await counter.add(0)
    assert (counter.runs.known(counter.sale), counter.changed) == (3, 3)
    await counter.set(2)

    for _ in range(2):
        with pytest.raises(NotLoaded):
            await counter.add()
    assert counter.lost == [(counter.sale, 0)]
    assert not await counter.runs.holds(counter.sale, 1, [{"by": 0}])

    await counter.set(3)
    assert await counter.runs.holds(counter.sale, 1, [{"by": 0}])
    counter.runs.recovered(counter.sale)
    assert await counter.add() == 4


async def test_after_a_lost_connection_it_must_have_what_is_published(counter: Counter) -> None:
    await counter.set(5)
    await counter.add()
    assert counter.asked == 1
    await counter.add()
    counter.published = 9
    assert (await counter.add(), counter.asked) == (8, 1)
    counter.runs.connection_lost()

    with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
        await counter.add()

    await counter.set(9)
    counter.runs.recovered(counter.sale)
    assert await counter.add() == 10


async def test_at_first_it_must_have_what_is_published(counter: Counter) -> None:
    await counter.set(5)
    counter.published = 6

    with pytest.raises(NotLoaded):
        await counter.add()
    with pytest.raises(NotLoaded):
        await counter.runs.create(counter.sale, 1, [{"by": 1}])


async def test_a_copy_that_went_on_another_way_condemns_its_epoch(counter: Counter) -> None:
    await counter.set(5)
    await counter.add()

    counter.runs.lost(counter.sale, is_another=True)

    assert counter.lost == [(counter.sale, 1)]
    with pytest.raises(NotLoaded):
        await counter.add()


async def test_a_lost_answer_is_asked_for_again_after_comparing(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counter.set(5)
    await counter.add()
    failures = [ConnectionError()] * (TRIES - 1)
    run = counter.redis.execute_command

    async def failing(*arguments: object) -> object:
        if failures and arguments[0] == "EVALSHA":
            counter.published = 9
            raise failures.pop()
        return await run(*arguments)  # type: ignore[misc, arg-type]

    monkeypatch.setattr(counter.redis, "execute_command", failing)
    with pytest.raises(NotLoaded):
        await counter.add()

    await counter.set(9)
    counter.runs.recovered(counter.sale)
    failures += [ConnectionError()] * TRIES
    with pytest.raises(ConnectionError):
        await counter.add()
    assert await counter.add() == 10


async def test_nothing_is_answered_that_too_few_copies_have(
    counter: Counter, tmp_path: Path, sale_id: str
) -> None:
    """This Redis has no replica; what was asked for is done all the same, and asked for again."""
    lonely = Counter(counter.redis, tmp_path, sale_id, Copies(1, 10))
    await lonely.set(5)

    with pytest.raises(TimeoutError):
        await lonely.add()

    assert await counter.add(0) == 5 + TRIES
