"""A line whose store was lost is filled again, from what was published: places, draw, calls as before."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from catraca.events.v1 import events_pb2 as pb
from catraca.sale.v1 import sale_pb2
from structlog.testing import capture_logs

from services.kit import metrics
from services.kit.epochs import Epochs
from services.kit.errors import Refusal
from services.kit.relay import outbox_headers
from services.kit.streams import last_message, publish_fenced
from services.queue.events import act_of, subject_of
from services.queue.ledger import Callee
from services.queue.states import Availability, Joiner, Phase, PlaceState
from services.queue.store import LineStore, keys_of
from services.queue.workers.rebuilder import Rebuilder
from tests.integration.line.fakes import OneEpoch, joiners, nothing_published
from tests.integration.line.lost import CODES, COHORT, EVERYBODY, PATIENCE_S, Case, buyer, named, once_loaded
from tests.integration.line.replicas import Replicas


@pytest.fixture
async def case(replicas: Replicas, sale_id: str) -> AsyncIterator[Case]:
    made = Case(replicas, sale_id)
    async with made.relay.serving():
        yield made


# ---- the line in each of its phases ----


async def lobby(case: Case) -> None:
    """Some left, and of them some came back, to the same index."""
    await case.start()
    await case.join(*range(COHORT))
    await case.join(1, 3, 9, 11, news=True)
    await case.leave(3, 5, 7)
    await case.join(5, 30)


async def with_codes(case: Case) -> None:
    """A presale: codes that are used up, that have a use left, and that were closed after it."""
    await case.start(codes=True)
    await case.store.put_codes(case.sale, CODES[:2], 2)
    await case.store.put_codes(case.sale, CODES[2:], 1)
    comers = [Joiner(buyer(number), CODES[number % 3]) for number in range(5)]
    answers, _ = await case.store.join(case.sale, comers)
    assert not any(isinstance(answer, str) for answer in answers)
    await case.store.put_codes(case.sale, CODES[1:2], 0)


async def rooted(case: Case) -> None:
    """Frozen, and the root published; the beacon's round is still to come."""
    case.relay.silent = True
    await case.start(beacon=case.relay.chain.source)
    await case.join(*range(COHORT))
    await case.define(opens_in_s=-1)
    async with asyncio.timeout(PATIENCE_S):
        while not (await case.store.facts(case.sale, "")).root:
            await asyncio.sleep(0.01)


async def drawn_with_beacon(case: Case) -> None:
    await case.start(beacon=case.relay.chain.source, paused=True)
    await case.join(*range(COHORT))
    await case.define(opens_in_s=-1)
    await case.standing(lambda now: now.drawn and now.availability is Availability.SELLING)


async def opened(case: Case) -> None:
    """Called, lapsed and joined again, left after the call and before, came back behind the end."""
    await case.start()
    await case.join(*range(COHORT))
    await case.join(*range(0, COHORT, 2), news=True)
    await case.leave(2)
    await case.define(opens_in_s=-1)
    await case.called_out()
    await case.join(30, 31)
    await case.leave(31, 4)
    await case.join(4, news=True)
    for _ in range(2):
        await case.end_a_turn()
        await case.called_out()
    lapsed = [who for (who, _), turn in case.ledger.turns.items() if turn.state is PlaceState.LAPSED]
    again = [number for number in EVERYBODY if named(number) in lapsed][:1]
    await case.replica.line.join(case.sale, joiners([buyer(number) for number in again]))


async def paused(case: Case) -> None:
    await opened(case)
    await case.define(paused=True)
    case.ledger.stock += 50
    await case.standing(lambda now: now.availability is Availability.SELLING)


async def closed(case: Case) -> None:
    await opened(case)
    await case.define(closes_in_s=-0.5, opens_in_s=-2)


PHASES = [lobby, with_codes, rooted, drawn_with_beacon, opened, paused, closed]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_an_emptied_line_is_as_before(case: Case, phase: Callable[[Case], Awaitable[None]]) -> None:
    await phase(case)
    history, told = list(case.ledger.history), dict(case.replicas.told.news)
    before = await case.seen()
    log = await case.published()

    await case.empty()

    assert await case.seen() == before
    assert case.ledger.history == history
    assert told.items() <= case.replicas.told.news.items()
    changes = await case.published()
    assert changes[: len(log)] == log
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    assert [act_of(change) for change in changes[len(log) :]] == ["REBUILT"]
    epoch = await Epochs(case.replicas.js).current("queue", case.sale)
    assert epoch is not None and (epoch.number, epoch.loaded) == (2, True)
    # Another replica sees the same, and what is done from here on is published after it.
    assert await case.seen(await case.another()) == before


async def test_a_sale_without_a_line_is_filled_again_too(case: Case) -> None:
    await case.start(kind=sale_pb2.LINE_KIND_NONE, opens_in_s=-1)
    await case.published()
    await case.empty()
    await case.define(paused=True)

    assert (await once_loaded(lambda: case.store.standing(case.sale))).phase is Phase.PAUSED
    assert [act_of(change) for change in await case.published()] == ["DEFINED", "REBUILT", "DEFINED"]


async def test_codes_are_used_up_as_before(case: Case) -> None:
    await with_codes(case)
    await case.published()
    await case.empty()

    # Two uses of the first are gone, the second was closed, the third's one is gone.
    comers = [Joiner(buyer(30 + number), code) for number, code in enumerate((*CODES, b""))]
    answers, _ = await once_loaded(lambda: case.store.join(case.sale, comers))
    assert answers == ["ACCESS_CODE_INVALID"] * 4
    assert await case.store.put_codes(case.sale, CODES[:1], 3) == (0, 1, 3)
    answers, _ = await case.store.join(case.sale, comers)
    assert [isinstance(answer, str) for answer in answers] == [False, True, True, True]


async def test_the_line_goes_on_after_it(case: Case) -> None:
    """Nobody is skipped or called twice; the draw that was waited for comes to what it would have."""
    await rooted(case)
    before = (await case.store.facts(case.sale, "")).root_ms
    await case.published()
    await case.empty()
    await once_loaded(lambda: case.store.standing(case.sale))
    case.relay.silent = False
    await case.called_out()
    await case.published()
    await case.empty()
    await once_loaded(lambda: case.join(30))
    for _ in range(4):
        await case.end_a_turn()
        await once_loaded(case.called_out)

    facts = await case.store.facts(case.sale, "")
    assert facts.root_ms == before
    places = [place for _, place, _ in case.ledger.history]
    assert places == list(range(len(places))) and len(places) == case.ledger.watermark
    called = [who for who, _, _ in case.ledger.history]
    assert len(set(called)) == len(called)
    permutation = case.replica.line.permutation(case.sale, await case.store.standing(case.sale))
    assert permutation is not None
    assert called == [named(permutation.index(place)) for place in places]


async def test_a_copy_without_its_tail_is_noticed_before_it_answers(case: Case) -> None:
    """A failover to a copy that had not seen the last join: by who made it, and by who only reconnected."""
    await lobby(case)
    other = await case.another()
    assert len((await case.seen(other))["members"]) == COHORT + 1
    copied = {key: await case.redis.dump(key) for key in keys_of(case.sale)}
    await case.join(31, 32)
    await case.leave(1)
    before = await case.seen()
    await case.published()
    await case.restore(copied)
    other.store.connection_lost()

    for store in (case.store, other.store):
        # Refused, or filled again by now: never what the copy says.
        try:
            found, _ = await store.read(case.sale, [buyer(1), buyer(32)])
        except Refusal as refusal:
            assert refusal.word == "SALE_NOT_LOADED"
        else:
            assert [entry and entry.left for entry in found] == [True, False]

    assert await case.seen() == before == await case.seen(other)
    assert [act_of(change) for change in await case.published()][-1] == "REBUILT"


async def test_a_copy_that_went_on_another_way_is_noticed_by_the_relay(case: Case) -> None:
    """It has more changes than were published, and others: nobody who asks it can tell."""
    await lobby(case)
    await case.published()
    copied = {key: await case.redis.dump(key) for key in keys_of(case.sale)}
    await case.join(31)
    before = await case.seen()
    log = await case.published()
    await case.replica.close()
    await case.restore(copied)
    # By a replica that was never with the other copy.
    elsewhere = LineStore(case.redis, OneEpoch(), nothing_published)
    for number in (32, 33):
        await elsewhere.join(case.sale, joiners([buyer(number)]))
    case.replica = await case.another()

    async with asyncio.timeout(PATIENCE_S):
        while await elsewhere.holds(case.sale, 1):
            await asyncio.sleep(0.02)

    assert await case.seen() == before
    assert (await case.published())[: len(log)] == log


async def test_what_was_never_published_is_joined_again(case: Case) -> None:
    """In the lobby that costs nothing. Nobody else's place is touched."""
    await lobby(case)
    before = await case.seen()
    await case.published()
    await case.replica.loader.close()
    answers, _ = await case.store.join(case.sale, joiners([buyer(31), buyer(32)]))
    assert [entry.index for entry in answers] == [COHORT + 1, COHORT + 2]
    await case.empty()

    assert await case.seen() == before
    again, _ = await case.store.join(case.sale, joiners([buyer(32)]))
    assert again[0].index == COHORT + 1


async def test_a_relay_with_changes_in_hand_comes_first_or_never(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes while the store is filled: that is filled in too."""
    await lobby(case)
    await case.published()
    publish, tries = Rebuilder._publish_rebuilt, 0

    async def late(self: Rebuilder, sale: str, epoch: int, filling: Any, fence: int, stamp: int) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            joined = pb.QueueChange(
                sequence=filling.sequence + 1,
                at_ms=filling.at_ms,
                act=pb.QUEUE_ACT_JOINED,
                index=filling.count,
                buyers=buyer(35),
            )
            batch = pb.QueueBatch(sale=sale, epoch=1, changes=[joined])
            headers = outbox_headers("QUEUE", sale, batch, joined.sequence, joined.at_ms, 1)
            await publish_fenced(
                case.replicas.js, subject_of(sale), batch.SerializeToString(), fence, headers
            )
        await publish(self, sale, epoch, filling, fence, stamp)

    monkeypatch.setattr(Rebuilder, "_publish_rebuilt", late)
    await case.empty()

    found, _ = await once_loaded(lambda: case.store.read(case.sale, [buyer(35)]))
    assert (found[0].index, tries) == (COHORT + 1, 2)
    assert [act_of(change) for change in await case.published()][-2:] == ["JOINED", "REBUILT"]


async def test_two_replicas_that_meet_it_at_once(case: Case) -> None:
    """It is emptied again and again, also while it is filled: one log, each epoch once."""
    await opened(case)
    other = await case.another()
    before = await case.seen()
    await case.published()
    for _ in range(4):
        await case.empty()
        assert await asyncio.gather(case.seen(), case.seen(other)) == [before, before]

    changes = await case.published()
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))
    rebuilt = [change for change in changes if change.act == pb.QUEUE_ACT_REBUILT]
    epoch = await Epochs(case.replicas.js).current("queue", case.sale)
    assert epoch is not None and 4 <= len(rebuilt) <= epoch.number - 1


STEPS = [
    (Rebuilder, "rebuild", "before"),
    (LineStore, "begin_filling", "after"),
    (LineStore, "fill", "after"),
    (Rebuilder, "_publish_rebuilt", "before"),
    (Rebuilder, "_publish_rebuilt", "after"),
    (LineStore, "end_filling", "before"),
    (LineStore, "end_filling", "after"),
    (Epochs, "mark_loaded", "before"),
]


@pytest.mark.parametrize(
    ("where", "step", "when"), STEPS, ids=lambda value: getattr(value, "__name__", value)
)
async def test_one_that_dies_after_any_step_is_taken_over_from(
    case: Case, where: type, step: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(case)
    before = await case.seen()
    await case.published()
    died, original = asyncio.Event(), getattr(where, step)

    async def dies(*arguments: Any, **named: Any) -> Any:
        if when == "after":
            await original(*arguments, **named)
        died.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(where, step, dies)
        await case.empty()
        async with asyncio.timeout(PATIENCE_S):
            await died.wait()
        await case.replica.close()
    case.replica = await case.another(takeover_s=0.1)

    assert await case.seen() == before
    changes = await case.published()
    assert [change.sequence for change in changes] == list(range(1, len(changes) + 1))


async def test_whoever_was_called_last_stays_so_and_who_left_meanwhile_is_passed(case: Case) -> None:
    """The ledger called, and the line was lost before it could say so."""
    await case.start(opens_in_s=-1)
    await case.join(*range(6))
    await case.called_out()
    await case.leave(4)
    await case.published()
    case.ledger.stock = 20
    await case.replica.loader.close()
    await case.ledger.call(case.sale, 3, 6, [callee(case, place) for place in (3, 4, 5)])
    await case.empty()

    standing = await once_loaded(lambda: case.store.standing(case.sale))

    assert standing.serving == 6
    assert (named(4), 4) in case.ledger.lapsed
    views = (await case.replica.line.read(case.sale, [buyer(number) for number in range(6)])).views
    assert [view.state for view in views if not isinstance(view, Refusal)] == [
        *[PlaceState.CALLED] * 4,
        PlaceState.LEFT,
        PlaceState.CALLED,
    ]


def callee(case: Case, place: int) -> Callee:
    return Callee(place, named(place), 1)


async def test_a_ledger_that_does_not_answer_keeps_nobody_from_the_line(case: Case) -> None:
    """It is followed once it is back, as ever."""
    await opened(case)
    serving = (await case.store.standing(case.sale)).serving
    await case.published()
    await case.replica.close()
    case.replica = await case.another(takeover_s=0.2)
    case.ledger.down = True
    await case.empty()

    assert (await once_loaded(lambda: case.store.standing(case.sale))).serving == serving
    case.ledger.down = False
    await case.end_a_turn()
    await case.standing(lambda now: now.serving == serving + 1)


async def test_a_sale_that_was_dropped_stays_so(case: Case) -> None:
    """Between the drop and the archive nobody fills it again, whoever asks; the drop may be repeated."""
    await opened(case)
    await case.define(opens_in_s=-2, closes_in_s=-1)
    await case.replica.loader.drop(case.sale)

    with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
        await case.store.standing(case.sale)
    await case.replica.loader.drop(case.sale)

    epoch = await Epochs(case.replicas.js).current("queue", case.sale)
    assert epoch is not None and epoch.dropped and epoch.number == 1
    assert await case.redis.exists(*keys_of(case.sale)) == 0


async def test_a_drop_whose_answer_is_lost_is_a_drop(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(case)
    await case.define(opens_in_s=-2, closes_in_s=-1)
    drop = case.replica.store.drop

    async def twice(sale: str) -> None:
        """As the store sends it again where it was not answered: by then there is nothing left."""
        await drop(sale)
        await drop(sale)

    monkeypatch.setattr(case.replica.store, "drop", twice)
    with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
        await case.replica.loader.drop(case.sale)
    await case.replica.loader.drop(case.sale)

    epoch = await Epochs(case.replicas.js).current("queue", case.sale)
    assert epoch is not None and epoch.dropped and epoch.number == 1
    assert await case.redis.exists(*keys_of(case.sale)) == 0


async def test_a_sale_that_was_lost_is_filled_again_before_it_is_dropped(case: Case) -> None:
    await opened(case)
    await case.define(opens_in_s=-2, closes_in_s=-1)
    log = await case.published()
    await case.empty()

    await once_loaded(lambda: case.replica.loader.drop(case.sale))

    assert await case.redis.exists(*keys_of(case.sale)) == 0
    assert (await case.changes())[: len(log)] == log


async def test_a_jetstream_that_lacks_changes_costs_nobody_their_place(case: Case) -> None:
    """What the outbox has let go of cannot be published: the store is not thrown away for that."""
    await lobby(case)
    await case.published()
    await case.replica.close()
    elsewhere = LineStore(case.redis, OneEpoch(), nothing_published)
    await elsewhere.join(case.sale, joiners([buyer(31)]))
    await case.redis.xtrim(keys_of(case.sale)[4], maxlen=0, approximate=False)
    await elsewhere.join(case.sale, joiners([buyer(32)]))
    broken = metrics.STORE_BROKEN.labels("queue", case.sale)
    case.replica = await case.another()

    await case.replicas.until(lambda: broken._value.get() == 1)

    epoch = await Epochs(case.replicas.js).current("queue", case.sale)
    assert epoch is not None and epoch.number == 1
    found, _ = await case.store.read(case.sale, [buyer(31), buyer(32)])
    assert [entry.index for entry in found if entry] == [COHORT + 1, COHORT + 2]


async def test_changes_that_are_not_all_there_are_not_made_up(case: Case) -> None:
    """JetStream itself lost some: the sale stays refused, by name, and the log says why."""
    await lobby(case)
    last = (await case.published())[-1]
    await case.replica.close()
    subject = subject_of(case.sale)
    end = await last_message(case.replicas.js, "QUEUE", subject, from_leader=True)
    assert end is not None
    told = pb.QueueChange(sequence=last.sequence + 2, at_ms=last.at_ms, act=pb.QUEUE_ACT_SELLING)
    batch = pb.QueueBatch(sale=case.sale, epoch=1, changes=[told])
    headers = outbox_headers("QUEUE", case.sale, batch, told.sequence, told.at_ms, 1)
    await publish_fenced(case.replicas.js, subject, batch.SerializeToString(), end.seq, headers)
    await case.empty()
    expected = f"change {told.sequence} follows change {last.sequence}"
    with capture_logs() as logged:
        case.replica = await case.another()
        async with asyncio.timeout(PATIENCE_S):
            while not any(expected in str(line.get("problem")) for line in logged):
                await asyncio.sleep(0.02)

    with pytest.raises(Refusal, match="SALE_NOT_LOADED"):
        await case.store.standing(case.sale)
    # Other tests' replicas are not to try for ever.
    await case.replicas.define(case.sale, phase=sale_pb2.SALE_PHASE_ARCHIVED)
