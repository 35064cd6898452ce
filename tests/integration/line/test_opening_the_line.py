"""What opens the line: access codes and solved challenges, used up by the join's script in one step."""

import asyncio
import hashlib

import pytest
from redis.asyncio import Redis

from services.kit.errors import Refusal
from services.queue.states import Entry, Joiner
from services.queue.store import KEYS, LineStore, keys_of
from tests.integration.line.test_store import buyer, changes_of, define

CODE, CHALLENGE = "ACCESS_CODE_INVALID", "CHALLENGE_REQUIRED"


def of(name: str) -> bytes:
    """The id of a code or a challenge."""
    return hashlib.md5(name.encode()).digest()


def by_code(number: int, code: str = "") -> Joiner:
    return Joiner(buyer(number), code=of(code) if code else b"")


def by_challenge(number: int, challenge: str = "", code: str = "") -> Joiner:
    return Joiner(buyer(number), of(code) if code else b"", of(challenge) if challenge else b"")


async def answers(store: LineStore, sale: str, *who: Joiner) -> list[int | str]:
    """The index of each, or why there is none."""
    found, _ = await store.join(sale, who)
    return [each.index if isinstance(each, Entry) else each for each in found]


async def test_a_code_opens_the_line_as_often_as_it_may(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, codes=True)
    assert await store.put_codes(sale_id, [of("one"), of("two")], 1) == (2, 0, 2)
    assert await store.put_codes(sale_id, [of("many")], 2) == (1, 0, 3)

    batch = [by_code(0), by_code(1, "none"), by_code(2, "one"), by_code(3, "one"), by_code(4, "two")]
    assert await answers(store, sale_id, *batch) == [CODE, CODE, 0, CODE, 1]
    assert await answers(store, sale_id, *(by_code(each, "many") for each in (5, 6, 7))) == [2, 3, CODE]
    assert await answers(store, sale_id, by_code(7, "one"), by_code(8)) == [CODE, CODE]
    assert (await store.standing(sale_id)).joined == 4


async def test_a_code_is_used_by_a_buyer_once_and_stays_used(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, codes=True)
    await store.put_codes(sale_id, [of("one")], 1)
    await store.put_codes(sale_id, [of("two")], 2)

    assert await answers(store, sale_id, by_code(1, "two"), by_code(1, "two"), by_code(1, "none")) == [
        0,
        0,
        0,
    ]
    assert await answers(store, sale_id, by_code(1)) == [0], "who has a place needs no code"
    await store.leave(sale_id, [buyer(1)])
    assert await answers(store, sale_id, by_code(2, "two")) == [1], "one use was left"
    assert await answers(store, sale_id, by_code(3, "two")) == [CODE], "leaving gives none back"
    assert await answers(store, sale_id, by_code(1)) == [0], "who had a place needs no code either"
    await define(store, sale_id, codes=True, opens_ms=-1, revision=2)
    await store.leave(sale_id, [buyer(2)])
    assert await answers(store, sale_id, by_code(2), by_code(4, "one")) == [2, 3]


async def test_of_many_at_once_a_code_lets_in_as_many_as_it_may(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, codes=True)
    await store.put_codes(sale_id, [of("five")], 5)

    found = await asyncio.gather(*(answers(store, sale_id, by_code(each, "five")) for each in range(40)))

    assert sum(each != [CODE] for each in found) == 5
    assert (await store.standing(sale_id)).joined == 5


async def test_putting_codes_again_changes_only_how_often(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id, codes=True)
    assert await store.put_codes(sale_id, [of("a"), of("b"), of("a")], 1) == (2, 0, 2)
    assert await answers(store, sale_id, by_code(1, "a")) == [0]
    assert await store.put_codes(sale_id, [of("a"), of("b")], 1) == (0, 0, 2)
    assert await answers(store, sale_id, by_code(2, "a")) == [CODE], "what was used stays used"
    assert await store.put_codes(sale_id, [of("a"), of("c")], 2) == (1, 1, 3)
    assert await answers(store, sale_id, by_code(2, "a")) == [1]
    await store.put_codes(sale_id, [of("b")], 0)
    assert await answers(store, sale_id, by_code(3, "b")) == [CODE], "it was closed"

    changes = await changes_of(redis, sale_id)
    told = [(each[b"act"], each[b"codes"], each.get(b"uses")) for each in changes if b"codes" in each]
    assert told == [
        (b"CODES", of("a") + of("b"), 1),
        (b"JOINED", of("a"), None),
        (b"CODES", of("a") + of("c"), 2),
        (b"JOINED", of("a"), None),
        (b"CODES", of("b"), 0),
    ], "the line can be made again from its events"


async def test_a_sale_may_begin_and_end_to_want_codes(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id)
    await store.put_codes(sale_id, [of("early")], 1)
    assert await answers(store, sale_id, by_code(1, "early"), by_code(2)) == [0, 1]
    await define(store, sale_id, codes=True, revision=2)
    assert await answers(store, sale_id, by_code(3), by_code(4, "early")) == [CODE, 2], (
        "nothing was used before"
    )
    await define(store, sale_id, codes=False, revision=3)
    assert await answers(store, sale_id, by_code(3)) == [3]
    assert [each.get(b"codes") for each in await changes_of(redis, sale_id) if each[b"act"] == b"JOINED"] == [
        None,
        of("early"),
        None,
    ]


async def test_codes_are_not_taken_where_there_is_no_line_or_it_is_over(
    store: LineStore, sale_id: str
) -> None:
    await define(store, sale_id, line=False)
    with pytest.raises(Refusal, match="NO_LINE"):
        await store.put_codes(sale_id, [of("a")], 1)
    await define(store, sale_id, revision=2, lobby_opens_ms=1000)
    await store.put_codes(sale_id, [of("a")], 1)
    await define(store, sale_id, revision=3, opens_ms=-2, closes_ms=-1)
    with pytest.raises(Refusal, match="WRONG_PHASE"):
        await store.put_codes(sale_id, [of("a")], 1)
    await store.drop(sale_id)


async def test_a_challenge_is_used_once(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id, challenge=True)

    batch = [by_challenge(1), by_challenge(2, "x"), by_challenge(3, "x"), by_challenge(4, "y")]
    assert await answers(store, sale_id, *batch) == [CHALLENGE, 0, CHALLENGE, 1]
    assert await answers(store, sale_id, by_challenge(3, "y"), by_challenge(2)) == [CHALLENGE, 0]
    assert await answers(store, sale_id, by_challenge(3, "z")) == [2]

    spent = keys_of(sale_id)[KEYS.index("spent")]
    assert await redis.zcard(spent) == 3
    # Ten minutes later no challenge of then can be joined with, and none is remembered.
    await redis.hset(keys_of(sale_id)[0], "now", (await store.now_ms()) + 601_000)
    assert await answers(store, sale_id, by_challenge(5, "later")) == [3]
    assert await redis.zcard(spent) == 1


async def test_a_wrong_code_costs_its_challenge(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, challenge=True, codes=True)
    await store.put_codes(sale_id, [of("right")], 1)

    assert await answers(store, sale_id, by_challenge(1, "x", "wrong")) == [CODE]
    assert await answers(store, sale_id, by_challenge(1, "x", "right")) == [CHALLENGE]
    assert await answers(store, sale_id, by_challenge(2, "", "right")) == [CHALLENGE], "it uses no code"
    assert await answers(store, sale_id, by_challenge(1, "y", "right")) == [0]
