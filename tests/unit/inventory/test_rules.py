"""What a request must look like before it reaches the ledger, and what the script sees of a sale."""

from typing import Any

import pytest
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2

from services.inventory import rules
from services.kit.errors import Refusal

BUYER = "a" * 26
ORDER = "b" * 26
ITEM = pb.HoldItem(section="floor", quantity=2)
CALLEE = pb.Callee(place=3, buyer=BUYER, joined_at_ms=5)


def call(start: int = 0, **fields: Any) -> pb.Command:
    command = pb.CallCommand(**({"to": 9, "callees": [CALLEE]} | fields))
    setattr(command, "from", start)
    return pb.Command(call=command)


CALLED = {"buyer": BUYER, "place": 3, "joined_at_ms": 5}
GOOD = [
    (call(), {"op": "call", "from": 0, "to": 9, "callees": [CALLED]}),
    (
        call(callees=[pb.Callee(place=3, buyer=BUYER, joined_at_ms=5, want=2)]),
        {"op": "call", "from": 0, "to": 9, "callees": [CALLED | {"want": 2}]},
    ),
    (
        pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER, items=[ITEM], place=0)),
        {
            "op": "claim",
            "buyer": BUYER,
            "order_id": ORDER,
            "place": 0,
            "items": [{"section": "floor", "quantity": 2}],
        },
    ),
    (
        pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER, hold_id="hold-0001")),
        {"op": "claim", "buyer": BUYER, "order_id": ORDER, "hold_id": "hold-0001"},
    ),
    (
        pb.Command(hold=pb.HoldCommand(hold_id="hold-0001", buyer=BUYER, items=[ITEM])),
        {
            "op": "hold",
            "buyer": BUYER,
            "hold_id": "hold-0001",
            "items": [{"section": "floor", "quantity": 2}],
        },
    ),
    (
        pb.Command(hold=pb.HoldCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER)),
        {"op": "hold", "buyer": BUYER, "hold_id": ORDER, "order_id": ORDER},
    ),
    (
        pb.Command(pin=pb.PinCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER, until_ms=7)),
        {"op": "pin", "buyer": BUYER, "hold_id": ORDER, "order_id": ORDER, "until_ms": 7},
    ),
    (
        pb.Command(release=pb.ReleaseCommand(hold_id=ORDER, buyer=BUYER)),
        {"op": "release", "buyer": BUYER, "hold_id": ORDER},
    ),
    (
        pb.Command(release=pb.ReleaseCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER)),
        {"op": "release", "buyer": BUYER, "hold_id": ORDER, "order_id": ORDER},
    ),
    (
        pb.Command(commit=pb.CommitCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER)),
        {"op": "commit", "buyer": BUYER, "hold_id": ORDER, "order_id": ORDER},
    ),
    (
        pb.Command(
            **{
                "return": pb.ReturnCommand(
                    hold_id=ORDER, buyer=BUYER, order_id=ORDER, units=[pb.UnitRef(section="floor", unit=1)]
                )
            }
        ),
        {
            "op": "return",
            "buyer": BUYER,
            "hold_id": ORDER,
            "order_id": ORDER,
            "units": [{"section": "floor", "unit": 1}],
        },
    ),
    (
        pb.Command(lapse=pb.LapseCommand(buyer=BUYER, place=0)),
        {"op": "lapse", "buyer": BUYER, "place": 0},
    ),
    (pb.Command(look=pb.LookCommand(buyer=BUYER, place=4)), {"op": "look", "buyer": BUYER, "place": 4}),
]


@pytest.mark.parametrize(("command", "expected"), GOOD, ids=[each[1]["op"] for each in GOOD])
def test_a_good_command_is_translated(command: pb.Command, expected: dict[str, Any]) -> None:
    assert rules.command_of(command) == expected


BAD = [
    ("command", pb.Command()),
    ("from", call(start=-1)),
    ("to", call(to=2**53)),
    ("callees", call(callees=[CALLEE] * 1001)),
    ("callees.buyer", call(callees=[pb.Callee(place=1, buyer="ana")])),
    ("callees.place", call(callees=[pb.Callee(place=-1, buyer=BUYER)])),
    ("callees.want", call(callees=[pb.Callee(place=1, buyer=BUYER, want=101)])),
    ("callees.joined_at_ms", call(callees=[pb.Callee(place=1, buyer=BUYER, joined_at_ms=-1)])),
    ("buyer", pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer="", items=[ITEM]))),
    ("order_id", pb.Command(claim=pb.ClaimCommand(order_id="", buyer=BUYER, items=[ITEM]))),
    ("items", pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER))),
    ("place", pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER, items=[ITEM], place=-1))),
    (
        "items",
        pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER, items=[ITEM], hold_id="hold-0001")),
    ),
    ("hold_id", pb.Command(claim=pb.ClaimCommand(order_id=ORDER, buyer=BUYER, hold_id="HOLD"))),
    ("hold_id", pb.Command(hold=pb.HoldCommand(hold_id="", buyer=BUYER, items=[ITEM]))),
    (
        "items",
        pb.Command(hold=pb.HoldCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER, items=[ITEM])),
    ),
    ("items", pb.Command(hold=pb.HoldCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER, place=0))),
    ("until_ms", pb.Command(pin=pb.PinCommand(hold_id=ORDER, buyer=BUYER, order_id=ORDER))),
    ("order_id", pb.Command(pin=pb.PinCommand(hold_id=ORDER, buyer=BUYER, until_ms=1))),
    ("order_id", pb.Command(release=pb.ReleaseCommand(hold_id=ORDER, buyer=BUYER, order_id="x"))),
    ("order_id", pb.Command(commit=pb.CommitCommand(hold_id=ORDER, buyer=BUYER))),
    ("place", pb.Command(look=pb.LookCommand(buyer=BUYER, place=-4))),
]


@pytest.mark.parametrize(("field", "command"), BAD)
def test_a_bad_command_names_its_field(field: str, command: pb.Command) -> None:
    with pytest.raises(Refusal) as refused:
        rules.command_of(command)

    assert (refused.value.word, refused.value.metadata["field"]) == ("INVALID_FIELD", field)


@pytest.mark.parametrize("quantity", [0, -1, 101])
def test_a_quantity_out_of_bounds_is_named(quantity: int) -> None:
    request = pb.HoldRequest(items=[ITEM, pb.HoldItem(section="floor", quantity=quantity)])

    with pytest.raises(Refusal) as refused:
        rules.items_of(request)

    assert refused.value.word == "INVALID_QUANTITY"
    assert refused.value.metadata == {"field": "items[1].quantity", "expected": "1 to 100"}


def sale() -> sale_pb2.Sale:
    """A sale with every field that the ledger goes by."""
    made = sale_pb2.Sale(sale="show")
    spec = made.spec
    section = spec.sections.add(id="floor", capacity=7)
    section.ticket_types.add(id="full", price=1000, quota=3)
    spec.window.lobby_opens_at.FromMilliseconds(1)
    spec.window.opens_at.FromMilliseconds(2)
    spec.window.closes_at.FromMilliseconds(3)
    spec.line.concurrency = 9
    spec.line.turn_duration.FromSeconds(4)
    spec.limits.per_buyer, spec.limits.holds_per_turn = 5, 6
    spec.holds.duration.FromMilliseconds(7)
    spec.orders.queue_max.FromMilliseconds(8)
    spec.paused = True
    spec.rehearsal = True
    return made


def test_the_script_sees_what_the_ledger_goes_by() -> None:
    assert rules.definition_for_script(sale(), {}) == {
        "line": True,
        "lobby_opens_ms": 1,
        "opens_ms": 2,
        "closes_ms": 3,
        "paused": True,
        "rehearsal": True,
        "concurrency": 9,
        "turn_ms": 4000,
        "limit": 5,
        "holds_per_turn": 6,
        "hold_ms": 7,
        "queue_max_ms": 8,
        "sections": [
            {"id": "floor", "capacity": 7, "types": [{"id": "full", "price": 1000, "quota": 3}]},
        ],
    }


def test_a_sale_without_a_line_has_none() -> None:
    made = sale()
    made.spec.line.kind = sale_pb2.LINE_KIND_NONE

    assert rules.definition_for_script(made, {})["line"] is False


def seated(made: sale_pb2.SaleSpec) -> None:
    made.sections[0].kind = sale_pb2.SECTION_KIND_SEATED


def empty(made: sale_pb2.SaleSpec) -> None:
    del made.sections[:]


@pytest.mark.parametrize(
    ("change", "path"),
    [(seated, "spec.sections[0].kind"), (empty, "spec.sections")],
)
def test_what_the_ledger_cannot_keep_is_named(change: Any, path: str) -> None:
    made = sale()
    change(made.spec)

    with pytest.raises(Refusal) as refused:
        rules.definition_for_script(made, {})

    assert (refused.value.word, refused.value.metadata["path"]) == ("DEFINITION_INVALID", path)
