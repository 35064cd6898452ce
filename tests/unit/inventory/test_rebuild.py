"""Who is right where published changes and orders tell different stories of a sale."""

from collections.abc import Iterable
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as api
from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem, UnitRef
from catraca.sale.v1 import sale_pb2

from services.inventory.filling import parts_of
from services.inventory.house import House
from services.inventory.rebuild import Rebuild
from services.inventory.replay import Replay
from services.kit.plans.layout import layouts
from tests.plans import hall, plan_of, seated_section, spec_of_seats

NOW = 1_000_000
STANDING = House()
SOON = NOW + 60_000


def unit(number: int) -> HeldUnit:
    return HeldUnit(section="floor", unit=number, ticket_type="full", price=1000)


def sale(*, line: bool = False, capacity: int = 10) -> sale_pb2.Sale:
    made = sale_pb2.Sale(sale="show", revision=7)
    section = made.spec.sections.add(id="floor", capacity=capacity, kind=sale_pb2.SECTION_KIND_STANDING)
    section.ticket_types.add(id="full", price=1000)
    made.spec.limits.per_buyer = 4
    made.spec.orders.queue_max.FromSeconds(60)
    made.spec.line.kind = sale_pb2.LINE_KIND_DRAW if line else sale_pb2.LINE_KIND_NONE
    return made


def replayed(*changes: dict[str, Any]) -> Replay:
    """The ledger after these changes: each by its act and its fields."""
    replay = Replay()
    for sequence, fields in enumerate([{"act": "DEFINED", "watermark": 7}, *changes], 1):
        act = pb.InventoryAct.Value(f"INVENTORY_ACT_{fields['act']}")
        rest = {name: value for name, value in fields.items() if name != "act"}
        replay.apply(pb.InventoryChange(sequence=sequence, at_ms=NOW - 1000, act=act, **rest))
    return replay


def held(buyer: str, *numbers: int, order: str = "", place: int | None = None) -> dict[str, Any]:
    made = {
        "act": "HELD",
        "buyer": buyer,
        "hold_id": order or f"hold of {buyer}",
        "order_id": order,
        "units": [unit(number) for number in numbers],
        "until_ms": SOON,
    }
    return made if place is None else made | {"place": place}


def called(buyer: str, place: int, quantity: int, until_ms: int = SOON) -> dict[str, Any]:
    return {
        "act": "CALLED",
        "buyer": buyer,
        "place": place,
        "quantity": quantity,
        "until_ms": until_ms,
        "watermark": place + 1,
    }


def order(order_id: str, buyer: str, state: str, *numbers: int, **more: Any) -> api.OrderUnits:
    units = [unit(number) for number in numbers]
    has_tickets = state in ("CAPTURING", "CONFIRMED")
    fields: dict[str, Any] = {
        "order_id": order_id,
        "buyer": buyer,
        "state": api.OrderState.Value(f"ORDER_STATE_{state}"),
        "hold_id": order_id,
        "items": [HoldItem(section="floor", quantity=len(numbers) or 2)],
        "units": units,
        "tickets": [UnitRef(section="floor", unit=number) for number in numbers] if has_tickets else [],
        "amount": 1000 * len(numbers),
        "accepted_at_ms": NOW - 500,
        "pin_until_ms": SOON if numbers else 0,
    }
    return api.OrderUnits(**(fields | more))


def rebuilt(
    replay: Replay,
    orders: Iterable[api.OrderUnits],
    *,
    line: bool = False,
    capacity: int = 10,
    house: House = STANDING,
) -> tuple[list[str], Rebuild]:
    """The acts that lead on from the changes, without REBUILT; every part of the result can be filled in."""
    made = Rebuild(replay, sale(line=line, capacity=capacity), house, 2, NOW)
    made.follow({each.order_id: each for each in orders})
    assert list(parts_of(replay, {each.order_id: each for each in orders}, house, 1))[-1]["last"]["sequence"]
    acts = [pb.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_") for change in made.changes]
    assert acts[0] == "REBUILT"
    assert replay.promised >= 0 and all(has.total >= 0 for has in replay.has.values())
    return acts[1:], made


@pytest.mark.parametrize(
    ("state", "more", "acts", "ends_as"),
    [
        ("CONFIRMED", {}, ["COMMITTED"], "SOLD"),
        ("CAPTURING", {}, ["COMMITTED"], "SOLD"),
        ("AUTHORIZED", {}, ["COMMITTED"], "SOLD"),
        ("HELD", {"amount": 0}, ["COMMITTED"], "SOLD"),
        ("HELD", {}, ["PINNED"], "HELD"),
        ("AWAITING_PAYMENT", {}, ["PINNED"], "HELD"),
        ("ACCEPTED", {}, [], "HELD"),
        ("VOIDING", {}, [], "HELD"),
        ("EXPIRED", {}, ["RELEASED"], "RELEASED"),
        ("CANCELLED", {"owes_units": True}, ["RELEASED"], "RELEASED"),
        ("REJECTED", {}, ["RELEASED"], "RELEASED"),
    ],
)
def test_a_hold_becomes_what_its_order_says(
    state: str, more: dict[str, Any], acts: list[str], ends_as: str
) -> None:
    replay = replayed(held("ana", 3, 4, order="one"))

    found, _ = rebuilt(replay, [order("one", "ana", state, 3, 4, **more)])

    assert found == acts
    assert replay.holds["ana", "one"].state == ends_as


@pytest.mark.parametrize(
    ("state", "acts"),
    [
        ("CONFIRMED", ["HELD", "COMMITTED"]),
        ("AUTHORIZED", ["HELD", "COMMITTED"]),
        ("AWAITING_PAYMENT", ["HELD", "PINNED"]),
        ("EXPIRED", []),
    ],
)
def test_a_hold_that_nobody_published_is_made_again(state: str, acts: list[str]) -> None:
    replay = replayed()

    found, _ = rebuilt(replay, [order("one", "ana", state, 3, 4)])

    assert found == acts
    assert set(replay.taken) == ({("floor", 3), ("floor", 4)} if acts else set())


def test_a_hold_without_an_order_is_lost_and_its_promise_restored() -> None:
    replay = replayed(called("ana", 0, 4), held("ana", 0, 1, place=0))

    found, made = rebuilt(replay, [], line=True)

    assert found == ["LOST"]
    assert (made.changes[1].restored, replay.promises["ana"].left, replay.promised) == (2, 4, 4)


def test_a_hold_that_an_order_was_placed_for_is_the_orders() -> None:
    replay = replayed(held("ana", 0, 1))

    found, _ = rebuilt(replay, [order("one", "ana", "ACCEPTED", hold_id="hold of ana", items=[])])

    assert found == ["BOUND"]
    assert replay.holds["ana", "hold of ana"].order_id == "one"


def test_tickets_come_before_money_and_money_before_who_only_holds() -> None:
    """One unit, three stories: its last owner by the changes, one who has paid, one who has the ticket."""
    replay = replayed(held("ana", 5, order="one"))

    found, made = rebuilt(
        replay,
        [
            order("one", "ana", "AWAITING_PAYMENT", 5),
            order("two", "bia", "AUTHORIZED", 5),
            order("three", "caio", "CONFIRMED", 5),
        ],
    )

    assert found[:3] == ["RELEASED", "HELD", "COMMITTED"]
    assert replay.taken == {("floor", 5): ("caio", "three")}
    assert made.conflicts == ["two"]


def test_promises_that_the_stock_no_longer_covers_go_the_last_called_first() -> None:
    """In what was lost, one of them lapsed and the units went to somebody who paid."""
    replay = replayed(called("ana", 0, 4), called("bia", 1, 4))

    found, _ = rebuilt(replay, [order("one", "caio", "CONFIRMED", 6, 7)], line=True, capacity=8)

    assert found == ["LAPSED", "HELD", "COMMITTED"]
    assert [replay.promises[name].state for name in ("ana", "bia")] == ["PROMISED", "LAPSED"]


def test_an_accepted_order_has_its_claim_if_it_still_can() -> None:
    replay = replayed(called("ana", 0, 4), called("bia", 1, 1))

    found, _ = rebuilt(
        replay,
        [
            order("one", "ana", "ACCEPTED", place=0),
            # Beyond the allowance: it was refused, or will be when the worker asks.
            order("two", "bia", "ACCEPTED", place=1),
            # Its time in the queue is over.
            order("three", "ana", "ACCEPTED", place=0, accepted_at_ms=NOW - 90_000),
        ],
        line=True,
    )

    assert found == ["CLAIMED"]
    assert set(replay.claims) == {"one"}
    assert replay.promises["ana"].left == 2


def test_what_was_returned_is_free_and_what_is_owed_is_the_orders_to_return() -> None:
    sold = [
        held("ana", 0, 1, order="one"),
        {"act": "COMMITTED", "buyer": "ana", "hold_id": "one", "order_id": "one"},
    ]

    owed = replayed(*sold)
    assert rebuilt(owed, [order("one", "ana", "EXPIRED", 0, 1, owes_units=True)])[0] == []
    done = replayed(*sold)
    assert rebuilt(done, [order("one", "ana", "EXPIRED", 0, 1)])[0] == ["RETURNED"]
    refunded = replayed(*sold)
    one_ticket = [UnitRef(section="floor", unit=1)]
    assert rebuilt(refunded, [order("one", "ana", "CONFIRMED", 0, 1, tickets=one_ticket)])[0] == ["RETURNED"]
    assert set(refunded.taken) == {("floor", 1)}


# ---- seats ----

STALLS = layouts(
    spec_of_seats(seated_section("stalls", "Hall", accessible=("A1",), companion=("A2",))),
    plan_of(hall("oooooo")),
)["stalls"]
HOUSE = House({"stalls": STALLS})


def seat(name: str) -> HeldUnit:
    return HeldUnit(section="stalls", unit=STALLS.units[name], ticket_type="full", price=1000)


def claimed_seats(order_id: str, buyer: str, *names: str) -> dict[str, Any]:
    return {
        "act": "CLAIMED",
        "buyer": buyer,
        "order_id": order_id,
        "quantity": len(names),
        "until_ms": SOON,
        "items": [HoldItem(section="stalls", ticket_type="full", quantity=len(names))],
        "units": [seat(name) for name in names],
    }


def ordered_seats(order_id: str, buyer: str, state: str, *names: str) -> api.OrderUnits:
    made = order(order_id, buyer, state)
    made.amount = 1000
    made.units.extend(seat(name) for name in names)
    if state == "CONFIRMED":
        made.tickets.extend(UnitRef(section="stalls", unit=seat(name).unit) for name in names)
    return made


def test_a_seat_that_a_claim_keeps_goes_to_who_has_the_ticket() -> None:
    """The claim ended, and the seat was sold, in what was lost."""
    replay = replayed(claimed_seats("one", "ana", "A4", "A5"))

    found, _ = rebuilt(replay, [ordered_seats("two", "bia", "CONFIRMED", "A4")], house=HOUSE)

    assert found == ["UNCLAIMED", "HELD", "COMMITTED"]
    assert (replay.claims["one"].state, replay.kept) == ("RELEASED", {})


def test_a_claim_becomes_the_hold_of_its_own_seats() -> None:
    replay = replayed(claimed_seats("one", "ana", "A4", "A5"))

    found, _ = rebuilt(replay, [ordered_seats("one", "ana", "AWAITING_PAYMENT", "A5", "A4")], house=HOUSE)

    assert found == ["HELD", "PINNED"]
    assert (replay.claims["one"].state, replay.kept, replay.claimed["stalls"]) == ("SPENT", {}, 0)


def test_a_claim_of_other_seats_than_its_order_has_is_given_up() -> None:
    replay = replayed(claimed_seats("one", "ana", "A4"))

    found, _ = rebuilt(replay, [ordered_seats("one", "ana", "AWAITING_PAYMENT", "A6")], house=HOUSE)

    assert found == ["UNCLAIMED", "HELD", "PINNED"]
    assert set(replay.taken) == {("stalls", STALLS.units["A6"])}


def test_a_block_is_given_back_whole_where_one_of_its_seats_was_sold() -> None:
    blocked = {"act": "BLOCKED", "block_id": "block-0001", "units": [seat("A3"), seat("A4")]}
    replay = replayed(blocked)

    found, made = rebuilt(replay, [ordered_seats("one", "ana", "CONFIRMED", "A4")], house=HOUSE)

    assert found == ["UNBLOCKED", "HELD", "COMMITTED"]
    assert (made.changes[1].block_id, len(made.changes[1].units)) == ("block-0001", 2)
    assert (replay.blocked, replay.blocks["block-0001"].state) == ({}, "UNBLOCKED")


@pytest.mark.parametrize(("release_at_s", "acts"), [(None, ["LAPSED"]), (NOW // 1000, [])])
def test_seats_that_are_for_few_cover_no_promise_until_they_are_released(
    release_at_s: int | None, acts: list[str]
) -> None:
    """Six seats are free, four of them for anyone, and five are promised."""
    replay = replayed(called("ana", 0, 4), called("bia", 1, 1))
    of_seats = seated_sale(release_at_s)
    made = Rebuild(replay, of_seats, HOUSE, 2, NOW)

    made.follow({})

    found = [pb.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_") for change in made.changes]
    assert found[1:] == acts


def test_a_promise_that_a_seat_for_few_was_taken_from_may_come_back() -> None:
    """Ana spent one of her four on a wheelchair's seat: the fourth is kept for her."""
    accessible = {**held("ana", order="one", place=0), "units": [seat("A1")]}
    replay = replayed(called("ana", 0, 4), accessible, called("bia", 1, 1))
    made = Rebuild(replay, seated_sale(None), HOUSE, 2, NOW)

    made.follow({"one": ordered_seats("one", "ana", "AWAITING_PAYMENT", "A1")})

    assert [replay.promises[name].state for name in ("ana", "bia")] == ["PROMISED", "LAPSED"]


def test_of_few_tickets_a_seat_for_few_keeps_its_own() -> None:
    """Of three tickets Ana has one for a wheelchair's seat and may have another, and the last is Bia's."""
    few = seated_sale(None)
    few.spec.sections[0].ticket_types[0].quota = 3
    accessible = {**held("ana", order="one", place=0), "units": [seat("A1")]}
    replay = replayed(called("ana", 0, 2), accessible, called("bia", 1, 1))
    made = Rebuild(replay, few, HOUSE, 2, NOW)

    made.follow({"one": ordered_seats("one", "ana", "AWAITING_PAYMENT", "A1")})

    assert [replay.promises[name].state for name in ("ana", "bia")] == ["PROMISED", "PROMISED"]


def seated_sale(release_at_s: int | None) -> sale_pb2.Sale:
    """A line before six seats, two of which are for few."""
    made = sale(line=True)
    del made.spec.sections[:]
    section = made.spec.sections.add(id="stalls", capacity=6, kind=sale_pb2.SECTION_KIND_SEATED)
    section.ticket_types.add(id="full", price=1000)
    if release_at_s is not None:
        made.spec.seating_plan.release_at.FromSeconds(release_at_s)
    return made


def test_a_rebuild_of_a_rebuild_changes_nothing() -> None:
    orders = [
        order("one", "ana", "CONFIRMED", 0, 1),
        order("two", "bia", "AWAITING_PAYMENT", 2, 3),
        order("three", "caio", "ACCEPTED"),
        order("four", "davi", "REJECTED", reason="SOLD_OUT"),
    ]
    replay = replayed(held("eva", 8, 9))
    rebuilt(replay, orders)

    assert rebuilt(replay, orders)[0] == []
