"""Leaders on the real Redis: calling in order, two at once, a ledger that goes away, who left."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.kit.buyers import to_text
from services.kit.errors import Refusal
from services.queue.draw import Permutation, draw_key, merkle_root
from services.queue.states import Availability, Phase
from services.queue.workers import leader as leader_module
from tests.integration.line.leading import HOUR, SECRETS, Sale, buyer, trees_of


async def test_nobody_is_called_whose_join_is_not_published(sale: Sale) -> None:
    """A store that is lost then would give their place to another. Whoever was in the draw is called."""
    await sale.define()
    await sale.join(*range(5))
    await sale.define(opens_in_ms=-1)
    leader = sale.lead("one")
    await sale.serving(5)
    sale.kept_upto = await sale.store.sequence(sale.id)
    await sale.join(5, 6)
    leader.wake()
    await sale.until(lambda: sale.refused > 0)
    assert sale.called() == list(range(5))

    sale.kept_upto = None
    leader.wake()

    await sale.serving(7)


async def test_two_leaders_at_once_call_everyone_once(sale: Sale) -> None:
    sale.ledger.stock = 10_000
    await sale.define()
    await sale.join(*range(600))
    await sale.define(opens_in_ms=-1)
    # Each takes the lease from the other as soon as it may: both believe to lead much of the time.
    leaders = [sale.lead(f"leader-{number}", ttl_ms=1, batch=7) for number in range(3)]
    for number in range(600, 700):
        await sale.join(number)

    await sale.serving(700)

    assert sale.called() == list(range(700))
    assert len({who for who, _, _ in sale.ledger.history}) == 700
    assert leaders


async def test_leaders_that_are_stopped_at_any_moment_skip_nobody(sale: Sale) -> None:
    sale.ledger.stock = 10_000
    await sale.define()
    await sale.join(*range(300))
    await sale.define(opens_in_ms=-1)
    for number in range(25):
        sale.lead(f"leader-{number}", batch=5)
        await asyncio.sleep(0.003 * (number % 7))
        await sale.stop()
    sale.lead("last", batch=50)

    await sale.serving(300)

    assert sale.called() == list(range(300))


async def test_calling_stops_where_the_stock_ends_and_goes_on_when_some_comes_back(sale: Sale) -> None:
    sale.ledger.stock = 10
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(6))
    leader = sale.lead("one")
    await sale.serving(3)
    await sale.availability(Availability.MAY_RETURN)
    assert [allowance for _, _, allowance in sale.ledger.history] == [4, 4, 2]

    who, place, _ = sale.ledger.history[0]
    sale.ledger.end(who, place)
    leader.wake()
    await sale.serving(4)
    for who, place, _ in sale.ledger.history[1:]:
        sale.ledger.buy(who, place)
    leader.wake()

    await sale.availability(Availability.SOLD_OUT)
    assert sale.called() == [0, 1, 2, 3]
    sale.ledger.sold -= 1
    leader.wake()
    await sale.serving(5)
    assert sale.ledger.history[-1][2] == 1


async def test_that_nothing_can_return_is_told_once_whoever_leads(sale: Sale) -> None:
    sale.ledger.stock = 4
    await sale.define(opens_in_ms=-1)
    await sale.join(0, 1)
    looks, look = 0, sale.store.lead

    async def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return await look(*arguments)  # type: ignore[arg-type]

    sale.store.lead = counted  # type: ignore[assignment, method-assign]
    # They take the lease from one another, and only one of them hears of the sale.
    leaders = [sale.lead(f"leader-{number}", ttl_ms=1) for number in range(3)]
    await sale.availability(Availability.MAY_RETURN)
    before = looks
    await sale.until(lambda: looks >= before + 10)
    sale.ledger.buy(to_text(buyer(0)), 0)
    leaders[0].wake()
    await sale.availability(Availability.SOLD_OUT)
    before = looks
    await sale.until(lambda: looks >= before + 30)

    acts = [change[b"act"].decode() for change in await sale.changes()]
    told = set(map(str, Availability))
    assert [act for act in acts if act in told] == ["MAY_RETURN", "SOLD_OUT"]


async def test_who_left_is_passed_over(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(5))
    await sale.store.leave(sale.id, [buyer(1), buyer(3)])
    await sale.join(3)
    sale.lead("one")

    await sale.serving(6)

    assert [(who, place) for who, place, _ in sale.ledger.history] == [
        (to_text(buyer(number)), place) for number, place in ((0, 0), (2, 2), (4, 4), (3, 5))
    ]


async def test_who_leaves_while_being_called_loses_the_promise(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(0, 1, 2)
    call = sale.ledger.call

    async def leaving(*arguments: object) -> object:
        await sale.store.leave(sale.id, [buyer(1)])
        return await call(*arguments)  # type: ignore[arg-type]

    sale.ledger.call = leaving  # type: ignore[assignment, method-assign]
    sale.lead("one")
    await sale.serving(3)
    await sale.until(lambda: bool(sale.ledger.lapsed))

    assert sale.ledger.lapsed == [(to_text(buyer(1)), 1)]
    assert sale.ledger.promised == 8


async def test_a_watermark_ahead_of_the_line_is_followed(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(10))
    await sale.store.leave(sale.id, [buyer(2)])
    # A leader called these and died before it could say so.
    sale.ledger.watermark = 7
    sale.lead("one", batch=3)

    await sale.serving(10)

    assert sale.called() == [7, 8, 9]
    assert (to_text(buyer(2)), 2) in sale.ledger.lapsed


async def test_nobody_is_called_while_paused(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1, paused=True)
    await sale.join(*range(3))
    leader = sale.lead("one")
    await asyncio.sleep(0.2)
    assert sale.ledger.calls == 0

    await sale.define(opens_in_ms=-1)
    leader.wake()

    await sale.serving(3)


async def test_every_replica_restarted_amid_the_opening_changes_no_place(sale: Sale) -> None:
    sale.ledger.stock = 1000
    await sale.define(opens_in_ms=150)
    await sale.join(*range(40))
    number = 0
    # Nothing of a process outlives it: each begins with a tree, and a permutation, of its own.
    while sale.called() != list(range(40)):
        number += 1
        assert number < 1000
        sale.trees = trees_of(sale.store)
        for replica in ("one", "two"):
            sale.lead(f"{replica}-{number}", ttl_ms=20, batch=3)
        await asyncio.sleep(0.003 * (number % 9))
        await sale.stop()

    root = merkle_root(SECRETS.salt, [buyer(index) for index in range(40)])
    drawn = Permutation(draw_key(SECRETS.seed, root), 40)
    assert [who for who, _, _ in sale.ledger.history] == [
        to_text(buyer(drawn.index(place))) for place in range(40)
    ]
    acts = [change[b"act"].decode() for change in await sale.changes()]
    assert (acts.count("FROZEN"), acts.count("DRAWN")) == (1, 1)
    assert number > 1


async def test_a_sale_that_is_moved_paused_closed_and_extended_loses_nobodys_place(sale: Sale) -> None:
    everyone = [buyer(number) for number in range(20)]
    sale.ledger.stock = 20

    async def places() -> list[int]:
        entries, _ = await sale.store.read(sale.id, everyone)
        return [entry.index for entry in entries if entry is not None and not entry.left]

    async def phase(expected: Phase) -> None:
        leader.wake()
        assert (await sale.store.standing(sale.id)).phase is expected
        assert await places() == list(range(20))

    await sale.define()
    await sale.join(*range(20))
    leader = sale.lead("one")
    await sale.define(opens_in_ms=HOUR // 2)
    await phase(Phase.LOBBY)
    # Early, then as far as the stock goes.
    await sale.define(opens_in_ms=-1)
    await phase(Phase.OPEN)
    await sale.serving(5)
    await sale.define(opens_in_ms=-1, paused=True)
    await phase(Phase.PAUSED)
    sale.ledger.stock = 40
    leader.wake()
    await sale.availability(Availability.SELLING)
    assert len(sale.called()) == 5
    await sale.define(opens_in_ms=-1)
    await phase(Phase.OPEN)
    await sale.serving(10)
    await sale.define(opens_in_ms=-2, closes_in_ms=-1)
    await phase(Phase.CLOSED)
    with pytest.raises(Refusal, match="WRONG_PHASE"):
        await sale.join(99)
    sale.ledger.stock = 1000
    # Extended, even after it had closed: the line goes on where it stood.
    await sale.define(opens_in_ms=-1, closes_in_ms=HOUR)
    await phase(Phase.OPEN)
    await sale.serving(20)

    assert sale.called() == list(range(20))


async def test_rate_and_concurrency_bound_the_calling(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(50))
    sale.spec.spec.line.rate = 20
    sale.spec.spec.line.concurrency = 5
    sale.ledger.concurrency = 5
    leader = sale.lead("one")
    began = asyncio.get_running_loop().time()
    await sale.until(lambda: len(sale.ledger.history) == 5)
    assert asyncio.get_running_loop().time() - began > 0.15
    await asyncio.sleep(0.3)
    assert len(sale.ledger.history) == 5

    for who, place, _ in sale.ledger.history[:2]:
        sale.ledger.end(who, place)
    leader.wake()

    await sale.until(lambda: len(sale.ledger.history) == 7)
    await asyncio.sleep(0.1)
    assert len(sale.ledger.history) == 7


async def test_a_ledger_that_is_away_is_waited_for_and_told_of_once(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(3))
    sale.ledger.down = True
    with capture_logs() as told:
        leader = sale.lead("one")
        await asyncio.sleep(0.5)
        assert (await sale.store.standing(sale.id)).serving == 0

        sale.ledger.down = False
        leader.wake()

        await sale.serving(3)
    assert [line["event"] for line in told].count("calling_waits") == 1


async def test_an_empty_lobby_is_drawn_too(sale: Sale) -> None:
    await sale.define(opens_in_ms=-1)
    sale.lead("one")
    async with asyncio.timeout(10):
        while not (await sale.store.standing(sale.id)).drawn:
            await asyncio.sleep(0.005)
    await sale.join(1)

    await sale.serving(1)

    assert sale.called() == [0]


async def test_a_line_at_rest_is_woken_by_who_joins_and_by_the_stock_while_somebody_waits(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the test waits: what happens does so because the leader heard of it.
    monkeypatch.setattr(leader_module, "REST_S", 60.0)
    monkeypatch.setattr(leader_module, "LEDGER_S", 60.0)
    sale.ledger.stock = 4
    await sale.define(opens_in_ms=-1)
    leader = sale.lead("one", ttl_ms=180_000, poll_s=60.0)
    await sale.availability(Availability.SELLING)
    asked = sale.ledger.states
    leader.stock_changed()
    await sale.join(0)
    await sale.serving(1)
    assert sale.ledger.states == asked + 1, "what was heard while nobody waited is asked for once"

    # Everything is promised, and the next one waits for the stock.
    await sale.join(1)
    await sale.until(lambda: sale.ledger.states == asked + 1 and leader._waited_for)
    sale.ledger.end(to_text(buyer(0)), 0)
    leader.stock_changed()
    await sale.serving(2)

    assert sale.called() == [0, 1]


async def test_news_while_the_ledger_is_asked_is_not_taken_for_known(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_module, "LEDGER_S", 60.0)
    sale.ledger.stock = 4
    await sale.define(opens_in_ms=-1)
    await sale.join(0, 1)
    leader = sale.lead("one")
    await sale.availability(Availability.MAY_RETURN)
    state = sale.ledger.state

    async def changing(name: str) -> object:
        seen = await state(name)
        # The answer is on its way when the stock changes once more.
        sale.ledger.state = state  # type: ignore[method-assign]
        sale.ledger.end(to_text(buyer(0)), 0)
        leader.stock_changed()
        return seen

    sale.ledger.state = changing  # type: ignore[assignment, method-assign]
    leader.stock_changed()

    await sale.serving(2)


async def test_an_idle_line_asks_the_ledger_only_when_it_may_have_changed(
    sale: Sale, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by the clock, so that a slow machine counts the same.
    monkeypatch.setattr(leader_module, "LEDGER_S", 3600.0)
    looks, look = 0, sale.store.lead

    async def counted(*arguments: object) -> object:
        nonlocal looks
        looks += 1
        return await look(*arguments)  # type: ignore[arg-type]

    sale.store.lead = counted  # type: ignore[assignment, method-assign]
    await sale.define(opens_in_ms=-1)
    await sale.join(*range(3))
    leader = sale.lead("one")
    await sale.serving(3)
    looked, asked = looks, sale.ledger.states
    await sale.until(lambda: looks >= looked + 3)
    assert sale.ledger.states == asked

    # A join is seen all the same, and what is heard of the stock.
    await sale.join(3)
    await sale.serving(4)
    assert sale.ledger.states == asked
    leader.wake()
    await sale.until(lambda: sale.ledger.states == asked + 1)
