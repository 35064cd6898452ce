"""The line's script on the real Redis: refusals, the freeze, epochs, and what is published."""

import asyncio
import hashlib
import random
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis

from services.kit.errors import Refusal
from services.kit.lua import NotLoaded
from services.queue.states import Availability, Entry, Phase
from services.queue.store import KEYS, LineStore, keys_of
from tests.integration.line.fakes import OneEpoch, joiners, nothing_published

HOUR = 3_600_000


def buyer(number: int) -> bytes:
    return hashlib.md5(b"%d" % number).digest()


async def define(store: LineStore, sale: str, **changes: Any) -> int:
    """A sale whose lobby is open, unless changed; times are relative to now."""
    now = await store.now_ms()
    times = {"lobby_opens_ms": -HOUR, "opens_ms": HOUR, "closes_ms": 2 * HOUR}
    definition = {name: now + changes.pop(name, value) for name, value in times.items()}
    revision = changes.pop("revision", 1)
    definition |= {"line": True, "paused": False} | changes
    if revision == 1:
        return await store.create(sale, 1, revision, definition)
    return await store.define(sale, revision, definition)


async def changes_of(redis: Redis, sale: str) -> list[dict[str, Any]]:
    entries = await redis.xrange(keys_of(sale)[4])
    found: list[dict[str, Any]] = []
    for entry_id, fields in entries:
        listed = msgpack.unpackb(fields[b"e"], raw=True)
        assert entry_id == b"%d-0" % listed[-1][b"sequence"]
        assert int(fields[b"f"]) == listed[0][b"sequence"]
        found += listed
    assert [change[b"sequence"] for change in found] == list(range(1, len(found) + 1))
    return found


async def test_joining_again_answers_the_same_place(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)

    first, _ = await store.join(sale_id, joiners([buyer(1), buyer(2), buyer(1)]))
    await asyncio.sleep(0.005)
    again, standing = await store.join(sale_id, joiners([buyer(2), buyer(3)]))

    assert [entry.index for entry in first] == [0, 1, 0]
    assert again[0] == first[1]
    assert again[1].index == 2
    assert again[1].joined_ms > first[1].joined_ms
    assert standing.joined == 3
    assert standing.phase is Phase.LOBBY


@pytest.mark.parametrize(
    ("times", "phase"),
    [
        ({"lobby_opens_ms": HOUR // 2}, "SCHEDULED"),
        ({"opens_ms": -HOUR // 2, "closes_ms": -1}, "CLOSED"),
    ],
)
async def test_nobody_joins_before_the_lobby_or_after_closing(
    store: LineStore, sale_id: str, times: dict[str, int], phase: str
) -> None:
    await define(store, sale_id, **times)

    with pytest.raises(Refusal) as refused:
        await store.join(sale_id, joiners([buyer(1)]))

    assert refused.value.word == "WRONG_PHASE"
    assert refused.value.metadata["phase"] == phase
    assert (refused.value.retry_after_s is not None) == (phase == "SCHEDULED")
    assert (await store.standing(sale_id)).joined == 0


@pytest.mark.parametrize("op", ["join", "leave", "read", "facts"])
async def test_without_a_line_there_is_no_place(store: LineStore, sale_id: str, op: str) -> None:
    await define(store, sale_id, line=False)

    with pytest.raises(Refusal, match="NO_LINE"):
        await store.run(sale_id, {"op": op, "buyers": buyer(1)})

    assert (await store.standing(sale_id)).cohort is None


async def test_leaving_before_the_freeze_keeps_the_index(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))

    left, _ = await store.leave(sale_id, [buyer(1), buyer(9)])
    read, _ = await store.read(sale_id, [buyer(1), buyer(2), buyer(9)])
    again, standing = await store.join(sale_id, joiners([buyer(1)]))

    assert left[0] is not None and left[0].left and left[0].index == 0
    assert left[1] is None
    assert read == [left[0], Entry(1, left[0].joined_ms), None]
    assert again == [Entry(0, standing.now_ms)]


async def test_leaving_after_the_freeze_costs_the_place(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))
    await define(store, sale_id, opens_ms=-1, revision=2)

    await store.leave(sale_id, [buyer(1)])
    again, standing = await store.join(sale_id, joiners([buyer(3), buyer(1), buyer(2)]))

    assert standing.cohort == 2
    assert [entry.index for entry in again] == [2, 3, 1]


async def test_places_of_one_buyer_are_a_pause_apart(redis: Redis, epochs: OneEpoch, sale_id: str) -> None:
    store = LineStore(redis, epochs, nothing_published, rejoin_pause_s=60)
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))
    await store.leave(sale_id, [buyer(1)])
    again, standing = await store.join(sale_id, joiners([buyer(1)]))
    assert again == ["JOIN_LIMIT"], "each coming back is an event, in the lobby too"
    await redis.hset(keys_of(sale_id)[0], "now", standing.now_ms + 60_000)
    for expected in (Entry(0, standing.now_ms + 60_000), "JOIN_LIMIT"):
        back, after = await store.join(sale_id, joiners([buyer(1)]))
        assert back == [expected], "the same index, joined at this time"
        await store.leave(sale_id, [buyer(1)])
    assert after.sequence == standing.sequence + 2, "it came back and left: what is refused is no event"
    await define(store, sale_id, opens_ms=-1, revision=2)
    await store.join(sale_id, joiners([buyer(3)]))

    for _ in range(20):
        await store.leave(sale_id, [buyer(3)])
        again, standing = await store.join(sale_id, joiners([buyer(2), buyer(3)]))

        assert again[0].index == 1, "the others of a batch are not refused"
        assert again[1] == "JOIN_LIMIT" and standing.joined == 3
    await redis.hset(keys_of(sale_id)[0], "now", standing.now_ms + 60_000)
    again, standing = await store.join(sale_id, joiners([buyer(3)]))
    assert again[0].index == 3


async def test_the_cohort_is_frozen_by_time_at_the_first_run(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id, opens_ms=60_000)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))
    before = await store.standing(sale_id)
    assert before.cohort is None
    await redis.hset(keys_of(sale_id)[0], "now", before.opens_ms)

    late, standing = await store.join(sale_id, joiners([buyer(3)]))

    assert standing.cohort == 2
    assert standing.phase is Phase.OPEN
    assert late[0].index == 2


async def test_once_frozen_no_definition_brings_the_lobby_back(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, opens_ms=-1)
    await store.join(sale_id, joiners([buyer(1)]))

    await define(store, sale_id, opens_ms=HOUR, revision=2)
    standing = await store.standing(sale_id)

    assert standing.cohort == 0
    assert standing.phase is Phase.OPEN
    await define(store, sale_id, opens_ms=HOUR, paused=True, revision=3)
    assert (await store.standing(sale_id)).phase is Phase.PAUSED


async def test_an_older_definition_changes_nothing(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, revision=1)
    assert await define(store, sale_id, paused=True, opens_ms=-1, revision=7) == 7

    assert await define(store, sale_id, opens_ms=-1, revision=6) == 7

    assert (await store.standing(sale_id)).phase is Phase.PAUSED


async def test_a_lapsed_turn_is_renewed_once(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, opens_ms=-1)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))
    await store.serve(sale_id, 2, [0, 1])

    renewed, _ = await store.renew(sale_id, joiners([buyer(1), buyer(1)]), [0, 0])
    again, _ = await store.renew(sale_id, joiners([buyer(1)]), [0])

    assert [entry.index for entry in renewed] == [2, 2]
    assert again == [renewed[0]]
    found = await store.callees(sale_id, [0, 1, 2])
    assert found.gone == {0}
    assert found.members[2].buyer == buyer(1)


async def test_serving_only_moves_forward_and_tells_who_is_gone(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id, opens_ms=-1)
    await store.join(sale_id, joiners([buyer(number) for number in range(5)]))
    await store.leave(sale_id, [buyer(2)])

    found = await store.serve(sale_id, 4, [0, 1, 2, 3])
    await store.serve(sale_id, 1, [])

    assert found.gone == {2}
    assert (await store.standing(sale_id)).serving == 4


async def test_the_first_draw_stays(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1)]))
    secret = {"seed": b"\x01" * 32, "beacon": b""}
    with pytest.raises(RuntimeError, match="NOT_FROZEN"):
        await store.draw(sale_id, cohort=1, root=b"r", key=b"\xff" * 32, **secret)
    await define(store, sale_id, opens_ms=-1, revision=2)
    with pytest.raises(RuntimeError, match="OTHER_COHORT"):
        await store.draw(sale_id, cohort=2, root=b"r", key=b"\xff" * 32, **secret)

    await store.draw(sale_id, cohort=1, root=b"root", key=b"\xfe\xff" * 16, **secret)
    await store.draw(sale_id, cohort=1, root=b"other", key=b"\x00" * 32, **secret)

    standing = await store.standing(sale_id)
    facts = await store.facts(sale_id, "c")
    assert standing.key == b"\xfe\xff" * 16
    assert (facts.root, facts.seed, facts.cohort) == (b"root".hex(), (b"\x01" * 32).hex(), 1)
    assert facts.frozen_ms <= standing.now_ms


async def test_only_the_latest_leader_tells(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id, opens_ms=-1)
    fence, _ = await store.lead(sale_id, "one", 1000)
    assert fence == 1
    assert (await store.lead(sale_id, "two", 1000))[0] is None
    assert (await store.lead(sale_id, "one", 1000))[0] == 1
    await store.resign(sale_id, "two")
    assert (await store.lead(sale_id, "two", 1000))[0] is None
    await store.resign(sale_id, "one")
    later, _ = await store.lead(sale_id, "two", 1000)

    assert later == 2
    assert not await store.tell(sale_id, Availability.SOLD_OUT, fence)
    assert await store.tell(sale_id, Availability.MAY_RETURN, later)
    assert await store.tell(sale_id, Availability.MAY_RETURN, later)
    assert (await store.standing(sale_id)).availability is Availability.MAY_RETURN
    told = [change for change in await changes_of(redis, sale_id) if change[b"act"] == b"MAY_RETURN"]
    assert len(told) == 1


async def test_a_lease_that_is_kept_does_not_end(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id, opens_ms=-1)
    for _ in range(10):
        assert (await store.lead(sale_id, "one", 60_000))[0] == 1
        await asyncio.sleep(0.01)
    assert (await store.lead(sale_id, "two", 60_000))[0] is None
    await redis.pexpire(keys_of(sale_id)[KEYS.index("lease")], 1)
    await asyncio.sleep(0.05)
    assert (await store.lead(sale_id, "two", 60_000))[0] == 2


async def test_every_change_is_published_once_in_order(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1), buyer(2)]))
    await store.join(sale_id, joiners([buyer(1)]))
    await store.leave(sale_id, [buyer(2)])
    await store.leave(sale_id, [buyer(2)])
    await store.join(sale_id, joiners([buyer(2), buyer(3)]))
    await define(store, sale_id, opens_ms=-1, revision=2)
    await store.draw(sale_id, cohort=3, root=b"r", key=b"k" * 32, seed=b"s", beacon=b"")
    await store.serve(sale_id, 2, [])
    await store.serve(sale_id, 2, [])

    changes = await changes_of(redis, sale_id)

    acts = [(change[b"act"].decode(), change.get(b"index"), change.get(b"buyers")) for change in changes]
    assert acts == [
        ("DEFINED", None, None),
        ("JOINED", 0, buyer(1) + buyer(2)),
        ("LEFT", 1, buyer(2)),
        ("REJOINED", 1, buyer(2)),
        ("JOINED", 2, buyer(3)),
        ("DEFINED", None, None),
        ("FROZEN", None, None),
        ("DRAWN", None, None),
        ("SERVING", None, None),
    ]
    assert changes[6][b"cohort"] == 3
    assert changes[8][b"serving"] == 2


async def test_asking_for_turn_news_is_a_change_of_those_who_had_not(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1), buyer(2)], turn_news=True))
    await store.join(sale_id, joiners([buyer(2), buyer(3)], turn_news=True))
    # Leaving takes it back, also from who gets the same index again.
    await store.leave(sale_id, [buyer(1)])
    _, standing = await store.join(sale_id, joiners([buyer(1)]))
    await store.join(sale_id, joiners([buyer(3)]))

    asked = [change[b"buyers"] for change in await changes_of(redis, sale_id) if change[b"act"] == b"ASKED"]

    assert asked == [buyer(1) + buyer(2), buyer(3)]
    assert standing.asked == 3
    assert await store.askers(sale_id, [2, 1, 0]) == {0: buyer(3), 1: buyer(2)}
    await define(store, sale_id, opens_ms=-2, closes_ms=-1, revision=2)
    with pytest.raises(Refusal, match="WRONG_PHASE"):
        await store.join(sale_id, joiners([buyer(1)], turn_news=True))
    assert await store.askers(sale_id, [0]) == {}


async def test_another_epoch_reads_and_writes_nothing(
    store: LineStore, sale_id: str, epochs: OneEpoch, redis: Redis
) -> None:
    with pytest.raises(NotLoaded):
        await store.join(sale_id, joiners([buyer(1)]))
    await define(store, sale_id)
    await store.recovered(sale_id)
    await store.join(sale_id, joiners([buyer(1)]))
    before = {key: await redis.dump(key) for key in keys_of(sale_id)}

    epochs.number = 2
    for attempt in (store.join(sale_id, joiners([buyer(2)])), store.leave(sale_id, [buyer(1)])):
        with pytest.raises(NotLoaded):
            await attempt
        await store.recovered(sale_id)
    now = await store.now_ms()
    definition = {"line": True, "lobby_opens_ms": now, "opens_ms": now, "closes_ms": now, "paused": False}
    with pytest.raises(NotLoaded):
        await store.create(sale_id, 2, 9, definition)

    assert before == {key: await redis.dump(key) for key in keys_of(sale_id)}


async def test_an_emptied_store_is_not_filled_by_accident(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1)]))
    await redis.delete(*keys_of(sale_id))

    with pytest.raises(NotLoaded):
        await store.join(sale_id, joiners([buyer(1)]))
    with pytest.raises(NotLoaded):
        await define(store, sale_id, revision=2)

    assert await redis.exists(*keys_of(sale_id)) == 0


async def test_only_a_closed_sale_is_dropped_and_then_nothing_is_left(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id)
    await store.join(sale_id, joiners([buyer(1)]))
    with pytest.raises(Refusal, match="WRONG_PHASE"):
        await store.drop(sale_id)
    assert (await store.standing(sale_id)).joined == 1
    await define(store, sale_id, opens_ms=-2, closes_ms=-1, revision=2)

    await store.drop(sale_id)

    assert await redis.keys(f"q:{{{sale_id}}}:*") == []


async def test_time_never_goes_back(store: LineStore, sale_id: str, redis: Redis) -> None:
    await define(store, sale_id)
    ahead = await store.now_ms() + 10_000
    await redis.hset(keys_of(sale_id)[0], "now", ahead)

    entries, standing = await store.join(sale_id, joiners([buyer(1)]))

    assert standing.now_ms == ahead
    assert entries[0].joined_ms == ahead


async def test_members_come_in_index_order(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)
    buyers = [buyer(number) for number in range(25)]
    await store.join(sale_id, joiners(buyers))

    found = await store.members(sale_id, 0, 10) + await store.members(sale_id, 10, 100)

    assert found == buyers
    assert await store.members(sale_id, 25, 10) == []


async def test_many_buyers_are_found_whoever_leaves_and_comes_back(store: LineStore, sale_id: str) -> None:
    await define(store, sale_id)
    # Some have the same first bytes, and so are in one bucket, with the same heads.
    buyers = [(b"" if number % 20 else b"same") + buyer(number) for number in range(6000)]
    buyers = [each[:16] for each in buyers]
    drawn = random.Random(6000)
    left: set[int] = set()
    for start in range(0, len(buyers), 500):
        await store.join(sale_id, joiners(buyers[start : start + 500]))
        going = drawn.sample(range(start + 500), 60)
        await store.leave(sale_id, [buyers[number] for number in going])
        left.update(going)
        back = drawn.sample(sorted(left), 20)
        await store.join(sale_id, joiners([buyers[number] for number in back]))
        left.difference_update(back)

    found = [
        entry
        for start in range(0, len(buyers), 1000)
        for entry in (await store.read(sale_id, buyers[start : start + 1000]))[0]
    ]
    unknown, _ = await store.read(sale_id, [b"same" + buyer(7000)[:12], buyer(7000)])

    assert [(entry.index, entry.left) for entry in found if entry] == [
        (number, number in left) for number in range(len(buyers))
    ]
    assert unknown == [None, None]
    assert (await store.callees(sale_id, range(1000))).gone == {number for number in left if number < 1000}


async def test_a_waiting_buyer_costs_less_than_half_a_hundred_bytes(
    store: LineStore, sale_id: str, redis: Redis
) -> None:
    await define(store, sale_id)
    count = 50_000
    for start in range(0, count, 1000):
        await store.join(sale_id, joiners([buyer(number) for number in range(start, start + 1000)]))

    index, members = keys_of(sale_id)[2:4]

    assert await redis.strlen(members) == 22 * count
    assert await redis.memory_usage(index, samples=1000) < 25 * count
    await redis.delete(*keys_of(sale_id))
