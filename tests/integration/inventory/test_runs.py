"""What holds for every run of the script: time first, all or nothing, one epoch, bounded cost."""

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ResponseError

from services.inventory.store import key_of
from services.kit.lua import NotLoaded, WholeBatch
from tests.integration.inventory.book import Book, buyer, items, seated, section

OpenBook = Callable[..., Awaitable[Book]]


async def contents(book: Book) -> dict[str, bytes | None]:
    """Everything that Redis has of the sale."""
    return {key: await book.redis.dump(key) for key in book.keys}


def hold(name: str, number: int, quantity: int = 1) -> dict[str, object]:
    """A hold without a line."""
    return {
        "op": "hold",
        "buyer": buyer(name),
        "hold_id": f"hold-{number:04}",
        "items": items(("floor", quantity)),
    }


async def test_a_run_stops_where_its_budget_is_spent(book_of: OpenBook) -> None:
    book = await book_of(line=False, sections=[section("floor", 100)])
    commands = [hold(f"buyer {number}", 1, 2) for number in range(20)]

    first = await book.some(commands, budget=20)
    all_of_them = await book.run(*commands, budget=20)

    # A hold of two units costs one for itself, one for its change and two for the units.
    assert [result["word"] for result in first] == ["HELD"] * 5
    assert [result["word"] for result in all_of_them] == ["HELD"] * 20
    assert (await book.counts())["held"] == 40


async def test_nothing_is_judged_before_all_that_is_due_has_ended(book_of: OpenBook) -> None:
    book = await book_of(line=False, sections=[section("floor", 100)])
    await book.run(*(hold(f"buyer {number}", 1) for number in range(100)))
    await book.at(120_000)

    # Each run ends some of the holds, and none says that the floor is sold out meanwhile.
    unanswered = [await book.some([hold("zoe", 1, 4)], budget=20) for _ in range(9)]
    (result,) = await book.run(hold("zoe", 1, 4), budget=20)

    assert unanswered == [[]] * 9
    assert result["word"] == "HELD"
    assert (await book.counts())["held"] == 4


async def test_units_that_come_back_are_counted_as_those_that_are_taken(book_of: OpenBook) -> None:
    book = await book_of(line=False, limit=10, sections=[section("floor", 100)])
    await book.run(*(hold(f"buyer {number}", 1, 9) for number in range(6)))
    await book.at(120_000)

    # An end of nine units costs one for its change, two for each unit: the second does not fit in this run.
    first = await book.some([{"op": "expire"}], budget=20)
    left = await book.redis.zcard(key_of(book.sale, "due"))
    (last,) = await book.run({"op": "expire"}, budget=20)

    assert (first, left, last["word"]) == ([], 5, "EXPIRED")
    assert await book.acts() == ["HELD"] * 6 + ["EXPIRED"] * 6
    assert (await book.counts())["free"] == 100


async def test_every_unit_that_moves_is_paid_for_whatever_moves_it(book_of: OpenBook) -> None:
    book = await book_of(line=False, limit=10, sections=[section("floor", 200)])
    names = [f"buyer {number}" for number in range(8)]
    for name in names:
        await book.claim(name, f"order {name}", ("floor", 10))
        await book.hold(name, "hold-0001", order=f"order {name}")

    def of_orders(op: str, **more: object) -> list[dict[str, object]]:
        return [
            {
                "op": op,
                "buyer": buyer(name),
                "hold_id": "hold-0001",
                "order_id": buyer(f"order {name}"),
                **more,
            }
            for name in names
        ]

    # Each costs one for itself, one for its change, ten for its units, and ten more where they come back: the
    # second begins within the budget.
    sold = await book.some(of_orders("commit"), budget=20)
    await book.run(*of_orders("commit"))
    returned = await book.some(of_orders("return", units=[]), budget=30)

    assert [result["word"] for result in sold] == ["COMMITTED"] * 2
    assert [result["word"] for result in returned] == ["RETURNED"] * 2


async def test_what_ended_at_different_times_ends_in_that_order(book_of: OpenBook) -> None:
    book = await book_of(hold_ms=1000, turn_ms=2000, sections=[section("floor", 4)])
    await book.call("ana")
    await book.at(500)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.at(1400)
    await book.hold("ana", "hold-0002", ("floor", 1), place=0)
    await book.at(3000)

    await book.do("expire")

    changes = await book.outbox()
    ended = [(change["act"], change.get("restored"), change.get("quantity")) for change in changes]
    # The first hold's unit went back to the promise and lapsed with it; the second outlived the turn.
    assert ended[-3:] == [("EXPIRED", 1, None), ("LAPSED", None, 3), ("EXPIRED", 0, None)]


async def test_the_clock_never_goes_back(book: Book) -> None:
    # The clock of the server is an hour behind what the sale has seen.
    await book.at(5000)

    first = await book.call("ana")
    second = await book.look("ana", 0)

    assert first["at_ms"] == second["at_ms"] == book.start + 5000


async def test_reading_writes_nothing(book: Book) -> None:
    await book.call("ana")
    before = await contents(book)

    await book.look("ana", 0)
    await book.ledger()
    await book.do("show", buyer=buyer("ana"), hold_id="hold-0001")

    assert await contents(book) == before


async def test_a_refusal_changes_nothing(book: Book) -> None:
    await book.call("ana", "bia")
    before = await contents(book)

    refused = [
        await book.hold("ana", "hold-0001", ("floor", 9), place=0),
        await book.hold("ana", "hold-0001", ("cellar", 1), place=0),
        await book.hold("zoe", "hold-0001", ("floor", 1), place=1),
        await book.of_order("commit", "ana", "hold-0001", "order"),
        await book.call("carla", start=0),
    ]

    assert [result["word"] for result in refused] == [
        "LIMIT_REACHED",
        "SECTION_NOT_FOUND",
        "ADMISSION_REQUIRED",
        "HOLD_NOT_FOUND",
        "NOT_WATERMARK",
    ]
    assert await contents(book) == before


async def test_seats_that_are_looked_at_and_not_taken_are_not_written(book_of: OpenBook) -> None:
    book = await book_of(line=False, sections=[seated("hall", "oooo", "oooo", accessible=("A1",))])
    before = await contents(book)

    reserved = await book.sit("ana", "hold-0001", "hall", "A1 A2")

    assert reserved["word"] == "SEAT_RESERVED"
    assert await contents(book) == before


async def test_a_run_that_fails_has_written_nothing(book_of: OpenBook) -> None:
    book = await book_of(line=False)
    # Somebody's hand made the third unit sold: the ledger contradicts itself.
    await book.redis.bitfield(key_of(book.sale, "units:floor")).set("u2", "#2", 2).execute()
    before = await contents(book)

    with pytest.raises(ResponseError, match="contradicts itself"):
        await book.run(hold("ana", 1, 2), hold("bia", 1, 1))

    assert await contents(book) == before


async def test_another_epoch_is_not_served(book: Book) -> None:
    await book.call("ana")
    before = await contents(book)
    book.epoch = 2

    with pytest.raises(NotLoaded):
        await book.call("bia", start=1)

    assert await contents(book) == before


async def test_a_lost_sale_is_not_served(book: Book) -> None:
    await book.redis.delete(key_of(book.sale, "meta"))

    with pytest.raises(NotLoaded):
        await book.call("ana", start=0)

    assert await book.redis.exists(key_of(book.sale, "meta")) == 0


async def test_a_caller_with_an_older_definition_is_told(book: Book) -> None:
    known = list(book.named)
    await book.define(book.content | {"sections": [*book.content["sections"], section("stage", 2)]})
    book.named = known

    with pytest.raises(WholeBatch) as told:
        await book.call("ana", start=0)

    assert told.value.answer == {"word": "DEFINITION_BEHIND", "revision": 2, "section": "stage"}


async def test_a_long_call_stops_short(book_of: OpenBook) -> None:
    book = await book_of(sections=[section("floor", 100)])
    names = [f"buyer {number}" for number in range(20)]
    callees = [{"buyer": buyer(name), "place": place, "joined_at_ms": 1} for place, name in enumerate(names)]
    command = {"op": "call", "from": 0, "to": 20, "callees": callees}

    (result,) = await book.some([command], budget=10)

    assert (result["granted"], result["ledger"]["watermark"]) == (10, 10)


async def test_a_call_has_what_is_left_of_its_run(book_of: OpenBook) -> None:
    book = await book_of(sections=[section("floor", 100)])
    names = [f"buyer {number}" for number in range(20)]
    callees = [{"buyer": buyer(name), "place": place, "joined_at_ms": 1} for place, name in enumerate(names)]
    block = {"op": "block", "block_id": "block-0001", "items": [{"section": "floor", "quantity": 5}]}

    _, result = await book.some([block, {"op": "call", "from": 0, "to": 20, "callees": callees}], budget=10)

    assert (result["granted"], result["ledger"]["watermark"]) == (4, 4)


async def test_one_batch_sees_what_it_did_before(book_of: OpenBook) -> None:
    book = await book_of(line=False, sections=[section("floor", 2)])
    release = {"op": "release", "buyer": buyer("ana"), "hold_id": "hold-0001"}

    results = await book.run(
        hold("ana", 1, 2), hold("bia", 1, 2), release, hold("bia", 1, 2), hold("ana", 1, 2)
    )

    assert [result["word"] for result in results] == ["HELD", "SOLD_OUT", "RELEASED", "HELD", "HOLD_RELEASED"]
    assert sorted(unit["unit"] for unit in results[3]["hold"]["units"]) == [0, 1]
    assert await book.unit_states("floor") == [1, 1]


async def test_units_come_back_over_many_runs(book_of: OpenBook) -> None:
    book = await book_of(line=False, limit=10, holds_per_turn=1000, sections=[section("floor", 10)])
    given: list[int] = []
    for number in range(12):
        result = await book.do(**hold("ana", number, 7))  # type: ignore[arg-type]
        given += [unit["unit"] for unit in result["hold"]["units"]]
        release = {"buyer": buyer("ana"), "hold_id": f"hold-{number:04}"}
        await book.do("release", **release)

    assert set(given) == set(range(10))
    assert await book.unit_states("floor") == [0] * 10
    assert await book.redis.llen(key_of(book.sale, "returned:floor")) == 10


async def test_the_end_of_a_hold_may_end_a_turn_that_is_due_as_well(book_of: OpenBook) -> None:
    book = await book_of(hold_ms=100_000, turn_ms=50_000)
    await book.call("ana", want=2)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    # Her next turn: all that it has for her is bought, and what she holds from the one before keeps it open.
    await book.at(51_000)
    await book.call("ana")
    await book.claim("ana", "order", ("floor", 2), place=1)
    await book.hold("ana", "hold-0002", order="order")
    await book.of_order("commit", "ana", "hold-0002", "order")
    assert (await book.look("ana", 1))["word"] == "PROMISED"
    # Nobody came by until both were over.
    await book.at(110_000)

    assert (await book.look("ana", 1))["word"] == "FINISHED"
    assert (await book.counts())["held"] == 0
    assert (await book.ledger())["turns"] == 0
    assert await book.redis.zcard(key_of(book.sale, "due")) == 0


def reacquire(name: str, number: int, *units: int) -> dict[str, object]:
    """An order that was paid late, for these units of the floor."""
    wanted = [{"section": "floor", "unit": unit, "ticket_type": "full", "price": 1000} for unit in units]
    of_order = {"buyer": buyer(name), "hold_id": f"hold-{number:04}", "order_id": buyer(f"{name} {number}")}
    return {"op": "reacquire", **of_order, "units": wanted}


async def test_a_run_that_fails_has_left_what_came_back_where_it_was(book_of: OpenBook) -> None:
    book = await book_of(line=False)
    await book.run(hold("ana", 1, 2), {"op": "release", "buyer": buyer("ana"), "hold_id": "hold-0001"})
    await book.redis.bitfield(key_of(book.sale, "units:floor")).set("u2", "#2", 2).execute()
    before = await contents(book)

    with pytest.raises(ResponseError, match="contradicts itself"):
        await book.run(reacquire("zoe", 1, 1), hold("bia", 1, 1))

    assert await contents(book) == before


async def test_what_was_reacquired_by_its_number_is_handed_out_once(book_of: OpenBook) -> None:
    """Taken from those that came back, in the run in which it came back, and back once more."""
    book = await book_of(line=False, limit=100, sections=[section("floor", 10)])
    given_back = {"op": "release", "buyer": buyer("ana"), "hold_id": "hold-0001"}
    returned = {**reacquire("zoe", 1), "op": "return", "units": []}
    await book.run(hold("ana", 1, 10), given_back, reacquire("zoe", 1, 3, 4, 9))
    await book.run(returned, reacquire("zoe", 2, 4, 0), {**reacquire("zoe", 2), "op": "return", "units": []})
    await book.run(hold("bia", 1, 4), reacquire("zoe", 3, 9))
    bia = (await book.do("show", buyer=buyer("bia"), hold_id="hold-0001"))["hold"]["units"]

    (result,) = await book.run(hold("caio", 1, 5))

    held = [unit["unit"] for unit in (*bia, *result["hold"]["units"])]
    assert sorted(held) == [unit for unit in range(10) if unit != 9]
    assert (await book.do(**hold("davi", 1)))["word"] == "SOLD_OUT"  # type: ignore[arg-type]
    assert await book.unit_states("floor") == [1] * 9 + [2]
