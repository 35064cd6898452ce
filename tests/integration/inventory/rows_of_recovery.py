"""What leads to each word of REACQUIRE, and to those that only a store that was filled again answers."""

from typing import Any

from tests.integration.inventory.book import Book, Result, buyer, seated, section
from tests.integration.inventory.rows import MINUTE_MS, called, row
from tests.integration.inventory.rows_of_orders import held, sold


def unit(section: str, number: int, price: int = 1000) -> dict[str, Any]:
    return {"section": section, "unit": number, "ticket_type": "full", "price": price}


async def reacquire(book: Book, name: str, hold_id: str, order: str, *units: dict[str, Any]) -> Result:
    return await book.of_order("reacquire", name, hold_id, order, units=list(units))


async def expired(book: Book) -> None:
    """Ana's order was not paid in time, and her turn is over."""
    await held(book)
    await book.at(10 * MINUTE_MS)


async def lost(book: Book) -> None:
    """Ana's hold went with the store; her turn still runs."""
    await called(book)
    promise = {
        "buyer": buyer("ana"), "state": "PROMISED", "place": 0, "allowance": 4, "left": 4,
        "called_at": book.start, "turn_ends": book.start + 5 * MINUTE_MS, "joined_at": 1, "holds": 0,
    }  # fmt: skip
    hold = {
        "buyer": buyer("ana"), "hold_id": "hold-0001", "state": "LOST", "ends": book.start,
        "units": [unit("floor", 0)], "place": 0,
    }  # fmt: skip
    await book.refill(watermark=3, promises=[promise], holds=[hold])


# ---- reacquire ----


@row("reacquire", "REACQUIRED")
async def the_same_units(book: Book) -> Result:
    await expired(book)
    result = await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0), unit("balcony", 0, 700))
    assert [(each["section"], each["unit"], each["price"]) for each in result["hold"]["units"]] == [
        ("floor", 0, 1000),
        ("balcony", 0, 700),
    ]
    assert (await book.unit_states("floor"))[0] == 2
    assert (await book.counts())["sold"] == 2
    assert (await book.acts())[-1] == "REACQUIRED"
    return result


@row("reacquire", "REACQUIRED")
async def others_of_their_kind(book: Book) -> Result:
    await expired(book)
    await book.call("davi")
    await book.hold("davi", "hold-0001", ("floor", 4), place=3)
    taken = (await book.unit_states("floor")).index(1)
    result = await reacquire(book, "ana", "hold-0001", "order", unit("floor", taken, 900))
    (other,) = result["hold"]["units"]
    # At the price that was paid, whatever it is by now.
    assert other["unit"] != taken and other["price"] == 900
    return result


@row("reacquire", "REACQUIRED")
async def reacquire_again(book: Book) -> Result:
    await expired(book)
    first = await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0))
    before = await book.outbox()
    result = await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0))
    assert result["hold"] == first["hold"]
    assert await book.outbox() == before
    return result


@row("reacquire", "REACQUIRED")
async def after_the_sale_has_closed(book: Book) -> Result:
    await expired(book)
    await book.at(2 * 3_600_000)
    return await reacquire(book, "ana", "hold-0001", "order", unit("floor", 5))


@row("reacquire", "REACQUIRED")
async def what_no_hold_is_known_of(book: Book) -> Result:
    result = await reacquire(book, "ana", "hold-0009", "order", unit("floor", 3), unit("floor", 1))
    assert await book.unit_states("floor") == [0, 2, 0, 2, 0, 0]
    # Those passed over are handed out all the same.
    await book.call("bia")
    held_now = await book.hold("bia", "hold-0001", ("floor", 4), place=0)
    assert sorted(each["unit"] for each in held_now["hold"]["units"]) == [0, 2, 4, 5]
    return result


@row("reacquire", "HOLD_BOUND")
async def what_is_held_still(book: Book) -> Result:
    await held(book)
    return await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0))


@row("reacquire", "HOLD_BOUND")
async def what_another_order_has(book: Book) -> Result:
    await sold(book)
    return await reacquire(book, "ana", "hold-0001", "other", unit("floor", 0))


@row("reacquire", "REACQUIRED")
async def what_was_returned_though_it_has_tickets(book: Book) -> Result:
    await sold(book)
    units = (await book.of_order("return", "ana", "hold-0001", "order", units=[]))["hold"]["units"]
    paid = [unit(each["section"], each["unit"]) for each in units]
    assert (await reacquire(book, "ana", "hold-0001", "order", *paid))["word"] == "HOLD_BOUND"
    result = await book.of_order("reacquire", "ana", "hold-0001", "order", units=paid, repair=True)
    assert (await book.counts())["sold"] == len(paid)
    assert (await book.of_order("return", "ana", "hold-0001", "order", units=[]))["word"] == "RETURNED"
    assert (await book.counts())["sold"] == 0
    return result


@row("reacquire", "LIMIT_REACHED")
async def reacquire_beyond_the_limit(book: Book) -> Result:
    await expired(book)
    await book.call("ana")
    await book.hold("ana", "hold-0002", ("floor", 4), place=3)
    return await reacquire(book, "ana", "hold-0001", "order", unit("balcony", 0))


@row("reacquire", "SOLD_OUT")
async def what_is_promised_to_others(book: Book) -> Result:
    await expired(book)
    await book.call("davi", "eva", "fabio")
    return await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0))


@row("reacquire", "SECTION_SOLD_OUT")
async def reacquire_in_a_full_section(book: Book) -> Result:
    await expired(book)
    await book.call("davi")
    await book.hold("davi", "hold-0001", ("balcony", 4), place=3)
    return await reacquire(book, "ana", "hold-0001", "order", unit("balcony", 0))


@row("reacquire", "SECTION_NOT_FOUND")
async def reacquire_nowhere(book: Book) -> Result:
    return await reacquire(book, "ana", "hold-0001", "order", unit("cellar", 0))


@row("reacquire", "TICKET_TYPE_NOT_FOUND")
async def reacquire_of_no_type(book: Book) -> Result:
    return await reacquire(book, "ana", "hold-0001", "order", unit("floor", 0) | {"ticket_type": "vip"})


# ---- reacquire in seated sections ----

HALL: dict[str, Any] = {
    "line": False,
    "sections": [
        seated("hall", "oooooo", "oooooo", accessible=("A1", "A6"), companion=("A2", "A5")),
        section("floor", 3),
    ],
}


def seat(book: Book, name: str, price: int = 1000) -> dict[str, Any]:
    return unit("hall", book.unit("hall", name), price)


async def expired_seats(book: Book, wanted: str, **more: Any) -> list[dict[str, Any]]:
    """Seats of Ana's that were not paid in time; what was to be paid."""
    result = await book.sit("ana", "hold-0001", "hall", wanted, **more)
    await book.claim("ana", "order", hold_id="hold-0001")
    await book.at(10 * MINUTE_MS)
    return list(result["hold"]["units"])


@row("reacquire", "REACQUIRED", **HALL)
async def the_very_seats(book: Book) -> Result:
    paid = await expired_seats(book, "B2 B3")
    result = await reacquire(book, "ana", "hold-0001", "order", *paid)
    assert book.seats(result) == ["B2", "B3"]
    assert (await book.counts())["sold"] == 2
    # The next best are looked for beside them.
    assert book.seats(await book.sit("bia", "hold-0001", "hall", 3)) == ["B4", "B5", "B6"]
    return result


@row("reacquire", "REACQUIRED", **HALL)
async def seats_beside_other_places(book: Book) -> Result:
    """The seats must be the same; a place to stand may be another one."""
    paid = await expired_seats(book, "A3")
    taken = (await book.hold("bia", "hold-0001", ("floor", 1)))["hold"]["units"][0]["unit"]
    result = await reacquire(book, "ana", "hold-0001", "order", unit("floor", taken), *paid)
    places = {each["section"]: each["unit"] for each in result["hold"]["units"]}
    assert places["hall"] == book.unit("hall", "A3") and places["floor"] != taken
    return result


@row("reacquire", "REACQUIRED", **HALL)
async def seats_that_are_for_few(book: Book) -> Result:
    paid = await expired_seats(book, "A1", use="ACCESSIBLE")
    before = (await book.ledger())["unpromised"]
    result = await reacquire(book, "ana", "hold-0001", "order", *paid)
    assert book.seats(result) == ["A1"]
    assert (await book.ledger())["unpromised"] == before
    assert (await book.sit("bia", "hold-0001", "hall", 2, use="ACCESSIBLE"))["word"] == "SECTION_SOLD_OUT"
    return result


@row("reacquire", "SEAT_TAKEN", **HALL)
async def one_of_the_seats_is_taken(book: Book) -> Result:
    """No other seat will do, and none of them is taken."""
    paid = await expired_seats(book, "B2 B3")
    await book.sit("bia", "hold-0001", "hall", "B3")
    before = await book.summary("hall"), await book.unit_states("hall")
    result = await reacquire(book, "ana", "hold-0001", "order", *paid)
    assert result["detail"] == {"section": "hall", "taken": [book.unit("hall", "B3")]}
    assert (await book.summary("hall"), await book.unit_states("hall")) == before
    return result


@row("reacquire", "SEAT_TAKEN", **HALL)
async def one_of_the_seats_is_blocked(book: Book) -> Result:
    paid = await expired_seats(book, "B2 B3")
    await book.do("block", block_id="block-0001", items=[book.seat_item("hall", "B2")])
    return await reacquire(book, "ana", "hold-0001", "order", *paid)


@row("reacquire", "SECTION_SOLD_OUT", **HALL)
async def a_seat_that_never_was(book: Book) -> Result:
    await expired_seats(book, "B2")
    return await reacquire(book, "ana", "hold-0001", "order", unit("hall", 12))


# ---- a store that was filled again ----


@row("fill", "FILLED")
async def with_everything(book: Book) -> Result:
    await called(book)
    promise = {
        "buyer": buyer("ana"), "state": "PROMISED", "place": 0, "allowance": 4, "left": 1,
        "called_at": book.start, "turn_ends": book.start + 5 * MINUTE_MS, "joined_at": 1, "holds": 0,
    }  # fmt: skip
    held_hold = {
        "buyer": buyer("ana"), "hold_id": "hold-0001", "state": "HELD", "ends": book.start + MINUTE_MS,
        "units": [unit("floor", 2)], "order_id": buyer("order"), "place": 0,
    }  # fmt: skip
    sold_hold = {
        "buyer": buyer("bia"), "hold_id": "hold-0001", "state": "SOLD", "ends": book.start,
        "units": [unit("floor", 0), unit("floor", 1) | {"returned": True}], "order_id": buyer("other"),
    }  # fmt: skip
    claim = {
        "order_id": buyer("third"), "buyer": buyer("ana"), "word": "CLAIMED", "state": "OPEN",
        "ends": book.start + MINUTE_MS, "quantity": 2, "place": 0,
        "lines": [{"section": "balcony", "ticket_type": "full", "quantity": 2}],
        "items": [{"section": "balcony", "quantity": 2}],
    }  # fmt: skip
    block = {
        "block_id": "block-0001", "state": "BLOCKED", "units": [{"section": "floor", "unit": 3}],
        "items": [{"section": "floor", "quantity": 1}],
    }  # fmt: skip
    result = await book.refill(
        watermark=3,
        sections=[{"id": "floor", "fresh": 4, "returned": [1]}],
        blocks=[block],
        promises=[promise],
        holds=[held_hold, sold_hold],
        claims=[claim],
    )
    ledger = await book.ledger()
    assert (ledger["watermark"], ledger["sequence"], ledger["epoch"]) == (3, 100, 2)
    counts = {name: ledger["counts"][name] for name in ("free", "held", "sold", "blocked", "promised")}
    assert counts == {"free": 5, "held": 1, "sold": 1, "blocked": 1, "promised": 1}
    assert await book.unit_states("floor") == [2, 0, 1, 3, 0, 0]
    # Everything goes on from there, and the outbox with it.
    assert (await book.of_order("commit", "ana", "hold-0001", "order"))["word"] == "COMMITTED"
    assert (await book.claim("ana", "third", ("balcony", 2), place=0))["word"] == "CLAIMED"
    assert (await book.hold("ana", "hold-0002", order="third"))["word"] == "HELD"
    assert [each["sequence"] for each in await book.outbox()] == [101, 102]
    await book.at(2 * MINUTE_MS)
    assert (await book.counts())["held"] == 0
    return result


@row("sold", "PAGE")
async def who_has_what(book: Book) -> Result:
    await sold(book)
    result = await book.do("sold", cursor="0", count=100)
    ((only,), cursor) = result["holds"], result["cursor"]
    assert (only["hold_id"], only["order_id"], len(only["units"]), cursor) == (
        "hold-0001",
        buyer("order"),
        2,
        "0",
    )
    return result


@row("hold", "HOLD_LOST")
async def hold_what_is_lost(book: Book) -> Result:
    await lost(book)
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert result["hold"]["state"] == "LOST"
    # Hers to hold again, by another id.
    assert (await book.hold("ana", "hold-0002", ("floor", 4), place=0))["word"] == "HELD"
    return result


@row("hold", "NOT_CALLED_YET")
async def hold_whose_call_was_lost(book: Book) -> Result:
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.call("ana")
    assert (await book.hold("ana", "hold-0001", ("floor", 1), place=0))["word"] == "HELD"
    return result


@row("claim", "HOLD_LOST")
async def claim_of_what_is_lost(book: Book) -> Result:
    await lost(book)
    return await book.claim("ana", "order", hold_id="hold-0001")


@row("release", "HOLD_LOST")
async def release_of_what_is_lost(book: Book) -> Result:
    await lost(book)
    return await book.of_order("release", "ana", "hold-0001", None)


async def lost_with_an_order(book: Book) -> None:
    """As nothing makes it: only a hold without an order is ever lost."""
    hold = {
        "buyer": buyer("ana"), "hold_id": "hold-0001", "state": "LOST", "ends": book.start,
        "units": [unit("floor", 0)], "order_id": buyer("order"),
    }  # fmt: skip
    await book.refill(holds=[hold])


@row("pin", "HOLD_LOST")
async def pin_of_what_is_lost(book: Book) -> Result:
    await lost_with_an_order(book)
    return await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + MINUTE_MS)


@row("commit", "HOLD_LOST")
async def commit_of_what_is_lost(book: Book) -> Result:
    await lost_with_an_order(book)
    return await book.of_order("commit", "ana", "hold-0001", "order")
