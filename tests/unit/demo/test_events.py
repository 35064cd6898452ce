"""Events as a person reads them."""

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.events.v1 import events_pb2 as events
from catraca.inventory.v1 import inventory_pb2 as inventory

from local.demo.events import lines

AT_MS = 3_600_000
BUYER = "abcdefghijklmnopqrstuvwxyz"


def test_changes_of_units_say_how_many_and_whose() -> None:
    batch = events.InventoryBatch(
        changes=[
            events.InventoryChange(at_ms=AT_MS, act=events.INVENTORY_ACT_CALLED, buyer=BUYER, quantity=4),
            events.InventoryChange(
                at_ms=AT_MS,
                act=events.INVENTORY_ACT_HELD,
                buyer=BUYER,
                units=[inventory.HeldUnit(unit=1), inventory.HeldUnit(unit=2)],
            ),
        ]
    )
    assert list(lines("catraca.inventory.a-sale.units", batch.SerializeToString())) == [
        "01:00:00 inventory  called 4 by abcdefgh",
        "01:00:00 inventory  held 2 by abcdefgh",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            events.QueueChange(act=events.QUEUE_ACT_JOINED, index=7, buyers=b"x" * 48),
            "joined 3 from number 7",
        ),
        (events.QueueChange(act=events.QUEUE_ACT_FROZEN, cohort=9), "frozen with 9 buyers"),
        (events.QueueChange(act=events.QUEUE_ACT_SERVING, serving=5), "serving up to place 5"),
        (events.QueueChange(act=events.QUEUE_ACT_SOLD_OUT), "sold out"),
    ],
)
def test_changes_of_the_line(change: events.QueueChange, said: str) -> None:
    change.at_ms = AT_MS
    payload = events.QueueBatch(changes=[change]).SerializeToString()
    assert list(lines("catraca.queue.a-sale.line", payload)) == [f"01:00:00 queue      {said}"]


def test_orders_say_their_state_and_why() -> None:
    order = checkout.Order(order_id=BUYER, state=checkout.ORDER_STATE_REJECTED, reason="SOLD_OUT")
    payload = events.OrderChanged(order=order, decided_at_ms=AT_MS).SerializeToString()
    assert list(lines(f"catraca.checkout.a-sale.order.{BUYER}.{BUYER}", payload)) == [
        "01:00:00 checkout   order abcdefgh REJECTED (SOLD_OUT)"
    ]


def test_what_cannot_be_read_is_shown_all_the_same() -> None:
    (line,) = lines("catraca.checkout.a-sale.order.b.o", b"\xff\xff\xff")
    assert "cannot be read" in line


def test_other_subjects_are_not_for_people() -> None:
    assert list(lines("catraca.dead.some-consumer", b"")) == []
