"""What leads to each word about seats: HOLD and CLAIM in seated sections, BLOCK and UNBLOCK, and the MAP."""

from typing import Any

from tests.integration.inventory.book import Book, Result, buyer, seated, section
from tests.integration.inventory.rows import MINUTE_MS, row

HALL = [seated("hall", "oooooo", "oooooo")]
# Wheelchairs in the first row's corners, each with a seat beside it.
SPECIAL: dict[str, Any] = {
    "line": False,
    "sections": [
        seated("hall", "oooooo", "oooooo", accessible=("A1", "A6"), companion=("A2", "A5")),
        section("floor", 4),
    ],
}
RELEASED = SPECIAL | {"release_ms": 10_000}


@row("hold", "HELD", line=False, sections=HALL)
async def seats_by_name(book: Book) -> Result:
    result = await book.sit("ana", "hold-0001", "hall", "B6 A1")
    assert book.seats(result) == ["B6", "A1"]
    assert (await book.counts())["held"] == 2
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def the_best_seats_side_by_side(book: Book) -> Result:
    result = await book.sit("ana", "hold-0001", "hall", 2)
    assert book.seats(result) == ["A3", "A4"]
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def nobody_is_left_alone(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1 A2 A3")
    # Two of the three that are left would leave one.
    result = await book.sit("bia", "hold-0001", "hall", 2)
    assert book.seats(result) == ["B3", "B4"]
    return result


@row("hold", "HELD", line=False, sections=[seated("hall", "ooo", "ooo")])
async def somebody_is_left_alone_where_there_is_no_other_way(book: Book) -> Result:
    result = await book.sit("ana", "hold-0001", "hall", 2, together=True)
    assert {seat[0] for seat in book.seats(result)} == {"A"}
    return result


@row("hold", "HELD", line=False, sections=[seated("hall", *["ooooooo"] * 5, focus=2)])
async def from_the_middle_of_the_section(book: Book) -> Result:
    first = await book.sit("ana", "hold-0001", "hall", 3)
    assert book.seats(first) == ["C3", "C4", "C5"]
    result = await book.sit("bia", "hold-0001", "hall", 3)
    assert sorted(book.seats(result)) in (["B3", "B4", "B5"], ["D3", "D4", "D5"])
    return result


@row("hold", "HELD", line=False, sections=[seated("hall", "oo", "oo", "oo", "oo")])
async def a_group_that_is_split_sits_in_rows_that_are_near(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1 B1 B2")
    result = await book.sit("bia", "hold-0001", "hall", 4)
    assert book.seats(result) == ["C1", "C2", "D1", "D2"]
    return result


@row("hold", "HELD", line=False, sections=[seated("hall", "ooo oo")])
async def a_group_that_is_split_leaves_nobody_alone_if_it_can(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A3")
    result = await book.sit("bia", "hold-0001", "hall", 4)
    assert sorted(book.seats(result)) == ["A1", "A2", "A4", "A5"]
    return result


@row("hold", "HELD", **SPECIAL)
async def a_wheelchair_and_who_comes_along(book: Book) -> Result:
    wanted = [
        book.seat_item("hall", 1, use="ACCESSIBLE"),
        book.seat_item("hall", 1, use="COMPANION"),
    ]
    result = await book.do("hold", buyer=buyer("ana"), hold_id="hold-0001", items=wanted)
    assert book.seats(result) in (["A1", "A2"], ["A6", "A5"])
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def the_best_seats_but_those_that_are_named_beside_them(book: Book) -> Result:
    wanted = [book.seat_item("hall", 2), book.seat_item("hall", "A4")]
    result = await book.do("hold", buyer=buyer("ana"), hold_id="hold-0001", items=wanted)
    # Nobody is left alone: not on A1 either.
    assert book.seats(result) == ["A5", "A6", "A4"]
    return result


@row("hold", "HELD", **SPECIAL)
async def a_wheelchairs_seat_by_name(book: Book) -> Result:
    return await book.sit("ana", "hold-0001", "hall", "A1", use="ACCESSIBLE")


@row("hold", "HELD", **SPECIAL)
async def the_best_seats_are_not_those_of_wheelchairs(book: Book) -> Result:
    result = await book.sit("ana", "hold-0001", "hall", 4)
    # Four of the middle would leave two alone.
    assert book.seats(result) == ["B1", "B2", "B3", "B4"]
    return result


@row("hold", "HELD", **RELEASED)
async def what_was_released_is_anyones(book: Book) -> Result:
    await book.at(10_000)
    await book.sit("ana", "hold-0001", "hall", "A1 A2")
    await book.sit("bia", "hold-0001", "hall", "A3 A4 A6")
    await book.sit("carla", "hold-0001", "hall", "B1 B2 B3")
    await book.sit("davi", "hold-0001", "hall", "B4 B5 B6")
    result = await book.sit("eva", "hold-0001", "hall", 1)
    assert book.seats(result) == ["A5"]
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def seats_again(book: Book) -> Result:
    first = await book.sit("ana", "hold-0001", "hall", 2, together=True)
    result = await book.sit("ana", "hold-0001", "hall", 2, together=True)
    assert result["hold"] == first["hold"]
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def seats_that_an_order_claimed(book: Book) -> Result:
    claim = {"buyer": buyer("ana"), "order_id": buyer("order")}
    await book.do("claim", **claim, items=[book.seat_item("hall", "A3 A4")])
    # Nobody else gets them while the order waits.
    assert (await book.sit("bia", "hold-0001", "hall", "A3"))["word"] == "SEAT_TAKEN"
    assert (await book.sections())["hall"]["held"] == 0
    result = await book.hold("ana", buyer("order"), order="order")
    assert book.seats(result) == ["A3", "A4"]
    claimed = next(change for change in await book.outbox() if change["act"] == "CLAIMED")
    assert [unit["unit"] for unit in claimed["units"]] == [book.unit("hall", seat) for seat in ("A3", "A4")]
    return result


@row("hold", "HELD", line=False, sections=HALL)
async def seats_that_came_back(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", 3)
    await book.of_order("release", "ana", "hold-0001", None)
    result = await book.sit("bia", "hold-0001", "hall", 4)
    assert book.seats(result) == ["A1", "A2", "A3", "A4"]
    assert sorted(await book.unit_states("hall")) == [0] * 8 + [1] * 4
    return result


@row("hold", "IDEMPOTENCY_KEY_REUSED", line=False, sections=HALL)
async def hold_of_other_seats(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1")
    return await book.sit("ana", "hold-0001", "hall", "A2")


@row("hold", "SEAT_TAKEN", line=False, sections=HALL)
async def seats_that_others_have(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1 A2")
    result = await book.sit("bia", "hold-0001", "hall", "A1 A3 A2")
    assert result["detail"] == {
        "section": "hall",
        "taken": [book.unit("hall", "A1"), book.unit("hall", "A2")],
    }
    # All or nothing.
    assert (await book.counts())["held"] == 2
    return result


@row("claim", "SEAT_TAKEN", line=False, sections=HALL)
async def an_order_of_seats_that_others_have(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1 A2")
    claim = {"buyer": buyer("bia"), "order_id": buyer("order")}
    first = await book.do("claim", **claim, items=[book.seat_item("hall", "A2 A3")])
    await book.of_order("release", "ana", "hold-0001", None)
    result = await book.do("claim", **claim, items=[book.seat_item("hall", "A2 A3")])
    assert result["detail"] == first["detail"]
    return result


@row("hold", "SEAT_RESERVED", **RELEASED)
async def a_wheelchairs_seat_for_anyone(book: Book) -> Result:
    result = await book.sit("ana", "hold-0001", "hall", "B1 A1 A5")
    assert result["detail"] == {
        "section": "hall",
        "seats": [book.unit("hall", "A1"), book.unit("hall", "A5")],
        "released_at": book.start + 10_000,
    }
    return result


@row("claim", "SEAT_RESERVED", **SPECIAL)
async def an_order_of_a_wheelchairs_seat(book: Book) -> Result:
    items = [book.seat_item("hall", "A1")]
    return await book.do("claim", buyer=buyer("ana"), order_id=buyer("order"), items=items)


@row("hold", "NOT_ADJACENT", line=False, sections=[*HALL, section("floor", 4)], limit=12)
async def no_seats_side_by_side(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A2 A5 B2 B5")
    result = await book.sit("bia", "hold-0001", "hall", 3, together=True)
    assert result["detail"] == {"section": "hall", "together": 2, "left.hall": 8, "left.floor": 4}
    return result


@row("claim", "NOT_ADJACENT", line=False, sections=HALL, limit=12)
async def an_order_of_more_than_a_row(book: Book) -> Result:
    items = [book.seat_item("hall", 7, together=True)]
    return await book.do("claim", buyer=buyer("ana"), order_id=buyer("order"), items=items)


@row("hold", "SECTION_SOLD_OUT", **SPECIAL)
async def only_wheelchairs_seats_are_left(book: Book) -> Result:
    for number, wanted in enumerate(("A3 A4", "B1 B2 B3", "B4 B5 B6")):
        await book.sit(f"guest {number}", "hold-0001", "hall", wanted)
    result = await book.sit("ana", "hold-0001", "hall", 1)
    assert result["detail"] == {"section": "hall", "left": 0, "left.floor": 4}
    return result


@row("hold", "SECTION_SOLD_OUT", **SPECIAL)
async def no_more_wheelchairs_seats(book: Book) -> Result:
    return await book.sit("ana", "hold-0001", "hall", 3, use="ACCESSIBLE")


@row("hold", "SOLD_OUT", **(SPECIAL | {"sections": SPECIAL["sections"][:1]}))
async def all_but_wheelchairs_seats_are_sold(book: Book) -> Result:
    for number, wanted in enumerate(("A3 A4", "B1 B2 B3", "B4 B5 B6")):
        await book.sit(f"guest {number}", "hold-0001", "hall", wanted)
    assert (await book.sit("bia", "hold-0001", "hall", 1, use="ACCESSIBLE"))["word"] == "HELD"
    return await book.sit("ana", "hold-0001", "hall", 1)


@row("call", "CALLED", sections=[seated("hall", "oooo", accessible=("A1", "A2"))], limit=2)
async def wheelchairs_seats_are_promised_to_nobody(book: Book) -> Result:
    result = await book.call("ana", "bia")
    assert (result["granted"], result["ledger"]["unpromised"]) == (1, 0)
    # Ana takes one of them instead: what she may have back is kept.
    await book.sit("ana", "hold-0001", "hall", 1, place=0, use="ACCESSIBLE")
    assert (await book.ledger())["unpromised"] == 0
    await book.of_order("release", "ana", "hold-0001", None)
    assert (await book.look("ana", 0))["promise"]["left"] == 2
    assert (await book.ledger())["unpromised"] == 0
    return result


# Ten seats, two of them for wheelchairs, and five tickets.
FEW_TICKETS = [seated("hall", "oooooooooo", accessible=("A1", "A2"), quotas={"full": 3, "half": 2})]


@row("call", "CALLED", sections=FEW_TICKETS)
async def whom_a_wheelchair_takes_no_ticket_from(book: Book) -> Result:
    await book.call("ana")
    await book.sit("ana", "hold-0001", "hall", 1, place=0, use="ACCESSIBLE")
    # Four of the five tickets are hers, and seats there are more than enough.
    result = await book.call("bia")
    assert (result["granted"], result["ledger"]["unpromised"]) == (1, 0)
    await book.of_order("release", "ana", "hold-0001", None)
    assert [
        (await book.look(name, place))["promise"]["left"] for place, name in enumerate(("ana", "bia"))
    ] == [4, 1]
    return result


@row("reacquire", "SOLD_OUT", sections=FEW_TICKETS)
async def a_wheelchairs_seat_whose_ticket_is_promised(book: Book) -> Result:
    await book.call("ana")
    paid = await book.sit("ana", "hold-0001", "hall", "A1", place=0, use="ACCESSIBLE")
    await book.claim("ana", "order", hold_id="hold-0001")
    await book.at(10 * MINUTE_MS)
    await book.call("bia", "caio")
    assert (await book.counts())["promised"] == 5
    units = paid["hold"]["units"]
    result = await book.of_order("reacquire", "ana", "hold-0001", "order", units=units)
    await book.do("lapse", buyer=buyer("caio"), place=2)
    again = await book.of_order("reacquire", "ana", "hold-0001", "order", units=units)
    assert (again["word"], (await book.ledger())["unpromised"]) == ("REACQUIRED", 0)
    return result


@row("block", "UNITS_IN_USE", sections=FEW_TICKETS)
async def seats_for_whoever_gives_a_wheelchairs_back(book: Book) -> Result:
    await book.call("ana", "bia")
    await book.sit("ana", "hold-0001", "hall", 1, place=0, use="ACCESSIBLE")
    # Eight seats are anyone's: five are kept for the five tickets.
    four = [book.seat_item("hall", "A3 A4 A5 A6")]
    result = await book.do("block", block_id="block-0001", items=four)
    three = [book.seat_item("hall", "A3 A4 A5")]
    assert (await book.do("block", block_id="block-0002", items=three))["word"] == "BLOCKED"
    await book.of_order("release", "ana", "hold-0001", None)
    ana = [
        {**book.seat_item("hall", 3), "ticket_type": "full"},
        {**book.seat_item("hall", 1), "ticket_type": "half"},
    ]
    assert (await book.do("hold", buyer=buyer("ana"), hold_id="hold-0002", items=ana, place=0))[
        "word"
    ] == "HELD"
    one = [{**book.seat_item("hall", 1), "ticket_type": "half"}]
    assert (await book.do("hold", buyer=buyer("bia"), hold_id="hold-0001", items=one, place=1))[
        "word"
    ] == "HELD"
    return result


@row("ledger", "LEDGER", **RELEASED)
async def what_is_released_later_is_told(book: Book) -> Result:
    assert (await book.ledger())["reserved"] == 4
    await book.sit("ana", "hold-0001", "hall", "A1", use="ACCESSIBLE")
    assert (await book.ledger())["reserved"] == 3
    await book.at(10_000)
    result = await book.do("ledger")
    # Eight seats that were anyone's and four places to stand, and three that are now.
    assert (result["ledger"]["reserved"], result["ledger"]["unpromised"]) == (0, 15)
    return result


# ---- the organiser's acts ----


def block(**items: int) -> dict[str, Any]:
    wanted = [{"section": name, "quantity": quantity} for name, quantity in items.items()]
    return {"block_id": "block-0001", "items": wanted}


@row("block", "BLOCKED")
async def units_of_a_standing_section(book: Book) -> Result:
    result = await book.do("block", **block(floor=2, balcony=1))
    assert (await book.counts())["blocked"] == 3
    assert (await book.ledger())["unpromised"] == 7
    assert (await book.acts())[-1] == "BLOCKED"
    return result


@row("block", "BLOCKED", line=False, sections=HALL)
async def seats_are_blocked(book: Book) -> Result:
    items = [book.seat_item("hall", "A3 A4")]
    result = await book.do("block", block_id="block-0001", items=items)
    assert book.seats(result) == ["A3", "A4"]
    assert (await book.sit("ana", "hold-0001", "hall", "A4"))["word"] == "SEAT_TAKEN"
    assert book.seats(await book.sit("ana", "hold-0001", "hall", 3)) == ["B1", "B2", "B3"]
    return result


@row("block", "BLOCKED")
async def blocked_again(book: Book) -> Result:
    first = await book.do("block", **block(floor=2))
    result = await book.do("block", **block(floor=2))
    assert result["block"] == first["block"]
    assert (await book.counts())["blocked"] == 2
    return result


@row("block", "UNITS_IN_USE")
async def what_is_promised_is_not_blocked(book: Book) -> Result:
    await book.call("ana", "bia")
    result = await book.do("block", **block(floor=1, balcony=2))
    assert result["detail"] == {"section": "balcony", "free": 1}
    assert (await book.counts())["blocked"] == 0
    return result


@row("block", "UNITS_IN_USE", line=False)
async def what_is_held_or_claimed_is_not_blocked(book: Book) -> Result:
    await book.hold("ana", "hold-0001", ("floor", 3))
    await book.claim("bia", "order", ("floor", 2))
    result = await book.do("block", **block(floor=2))
    assert result["detail"] == {"section": "floor", "free": 1}
    return result


@row("block", "UNITS_IN_USE", line=False, sections=HALL)
async def a_seat_that_is_held_is_not_blocked(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1")
    result = await book.do("block", block_id="block-0001", items=[book.seat_item("hall", "A1 A2")])
    assert result["detail"] == {"section": "hall", "free": 11, "taken": [book.unit("hall", "A1")]}
    return result


@row("block", "SECTION_NOT_FOUND")
async def nothing_is_blocked_of_no_section(book: Book) -> Result:
    return await book.do("block", **block(cellar=1))


@row("block", "IDEMPOTENCY_KEY_REUSED")
async def another_block_under_the_same_id(book: Book) -> Result:
    await book.do("block", **block(floor=2))
    return await book.do("block", **block(floor=3))


@row("unblock", "UNBLOCKED", line=False)
async def units_go_back_to_the_sale(book: Book) -> Result:
    await book.do("block", **block(floor=6, balcony=4))
    assert (await book.hold("ana", "hold-0001", ("floor", 1)))["word"] == "SOLD_OUT"
    await book.do("unblock", block_id="block-0001")
    result = await book.do("unblock", block_id="block-0001")
    assert not result["block"]["blocked"]
    assert (await book.acts())[1:] == ["UNBLOCKED"]
    assert (await book.hold("ana", "hold-0001", ("floor", 4)))["word"] == "HELD"
    return result


@row("unblock", "UNBLOCKED", line=False, sections=HALL)
async def seats_go_back_to_the_sale(book: Book) -> Result:
    await book.do("block", block_id="block-0001", items=[book.seat_item("hall", "A3 A4")])
    result = await book.do("unblock", block_id="block-0001")
    assert book.seats(await book.sit("ana", "hold-0001", "hall", 2)) == ["A3", "A4"]
    return result


@row("unblock", "BLOCK_NOT_FOUND")
async def nothing_was_blocked(book: Book) -> Result:
    return await book.do("unblock", block_id="block-0001")


# ---- reading ----


@row("map", "MAP", line=False, sections=[*HALL, section("floor", 4)])
async def all_states_of_all_seats(book: Book) -> Result:
    await book.sit("ana", "hold-0001", "hall", "A1")
    asked = {"buyer": buyer("bia"), "hold_id": "hold-0001", "items": [book.seat_item("hall", "B6")]}
    # What the same run did before is in it.
    _, result = await book.run({"op": "hold", **asked}, {"op": "map"})
    states = result["states"]["hall"].encode("utf-8", "surrogateescape")
    assert set(result["states"]) == {"hall"}
    assert len(states) == 3
    held = [unit for unit in range(12) if states[unit // 4] >> (6 - 2 * (unit % 4)) & 3 == 1]
    assert held == sorted((book.unit("hall", "A1"), book.unit("hall", "B6")))
    assert [counts["held"] for counts in result["sections"]] == [2, 0]
    return result


@row("map", "UNCHANGED", line=False, sections=HALL)
async def nothing_changed_since(book: Book) -> Result:
    first = await book.do("map")
    seen = {"since": first["sequence"], "epoch": first["epoch"]}
    assert (await book.do("map", **seen | {"epoch": 2}))["word"] == "MAP"
    return await book.do("map", **seen)


@row("define", "DEFINITION_FIXED", line=False, sections=HALL)
async def other_seats_for_the_same_section(book: Book) -> Result:
    changed = seated("hall", "oooooo", "oooooo", accessible=("A1",))
    result = await book.define(book.content | {"sections": [changed]})
    assert result["detail"] == {"path": "sections.hall.seats"}
    return result


@row("define", "DEFINED", line=False)
async def a_seated_section_that_comes_later(book: Book) -> Result:
    result = await book.define(book.content | {"sections": [*book.content["sections"], *HALL]})
    assert book.seats(await book.sit("ana", "hold-0001", "hall", 2)) == ["A3", "A4"]
    return result
