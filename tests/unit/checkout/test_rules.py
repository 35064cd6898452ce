"""What a request must look like, and what an order needs next."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from catraca.sale.v1.sale_pb2 import SECTION_KIND_SEATED, SaleSpec, Section, TicketType

from services.checkout import rules
from services.checkout.records import Item, Order
from services.checkout.rules import Step
from services.checkout.states import OrderState, PaymentState
from services.kit.errors import Refusal

OrderIn = Callable[..., Order]
ONE = (Item("floor", "full", 1),)
KEY = "click-0001"


@pytest.mark.parametrize(
    ("key", "items", "hold_id", "word", "field"),
    [
        ("short", ONE, "", "INVALID_FIELD", "idempotency_key"),
        ("x" * 65, ONE, "", "INVALID_FIELD", "idempotency_key"),
        ("has a space", ONE, "", "INVALID_FIELD", "idempotency_key"),
        ("dots.and.stars*", ONE, "", "INVALID_FIELD", "idempotency_key"),
        ("trailing-newline\n", ONE, "", "INVALID_FIELD", "idempotency_key"),
        (KEY, (), "", "INVALID_FIELD", "items"),
        (KEY, ONE * 11, "", "INVALID_FIELD", "items"),
        (KEY, ONE, "my-hold-1", "INVALID_FIELD", "items"),
        (KEY, (), "short", "INVALID_FIELD", "hold_id"),
        (KEY, (), "Capital-Hold", "INVALID_FIELD", "hold_id"),
        (KEY, (Item("", "full", 1),), "", "INVALID_FIELD", "items[0].section"),
        (KEY, (*ONE, Item("Floor", "", 1)), "", "INVALID_FIELD", "items[1].section"),
        (KEY, (Item("floor", "f.u.l.l", 1),), "", "INVALID_FIELD", "items[0].ticket_type"),
        (KEY, (Item("floor", "", 0),), "", "INVALID_QUANTITY", "items[0].quantity"),
        (KEY, (Item("floor", "", -1),), "", "INVALID_QUANTITY", "items[0].quantity"),
        (KEY, (Item("floor", "", 101),), "", "INVALID_QUANTITY", "items[0].quantity"),
        (KEY, (Item("hall", "", 2, ("A1",)),), "", "INVALID_QUANTITY", "items[0].quantity"),
        (KEY, (Item("hall", "", 2, ("A1", "A1")),), "", "INVALID_FIELD", "items[0].seats"),
        (KEY, (Item("hall", "", 2, ("A1", "")),), "", "INVALID_FIELD", "items[0].seats"),
        (KEY, (Item("hall", "", 1, ("A" * 101,)),), "", "INVALID_FIELD", "items[0].seats"),
        (KEY, (Item("hall", "", 1, use=3),), "", "INVALID_FIELD", "items[0].use"),
        (KEY, (Item("hall", "", 1), Item("hall", "", 1, use=2)), "", "INVALID_FIELD", "items[1].use"),
    ],
)
def test_a_malformed_request_is_refused_by_field(
    key: str, items: tuple[Item, ...], hold_id: str, word: str, field: str
) -> None:
    with pytest.raises(Refusal) as refused:
        rules.check_request(key, items, hold_id)

    assert (refused.value.word, refused.value.metadata["field"]) == (word, field)


@pytest.mark.parametrize(
    ("key", "items", "hold_id"),
    [
        ("A-Za-z0_9", ONE, ""),
        ("x" * 64, (Item("floor", "", 100),) * 10, ""),
        (KEY, (), "hold-of-mine"),
        (KEY, (Item("floor", "", 2, (), True),), ""),
    ],
)
def test_a_sound_request_passes(key: str, items: tuple[Item, ...], hold_id: str) -> None:
    rules.check_request(key, items, hold_id)


@pytest.mark.parametrize("sale", ["", "-a", "a-", "A", "a.b", "a>b", "a*", "x" * 64, "a\n"])
def test_what_can_be_no_sale_is_refused(sale: str) -> None:
    with pytest.raises(Refusal) as refused:
        rules.sale_id(sale)
    assert refused.value.word == "INVALID_FIELD"


def test_one_key_names_one_order_of_one_buyer_in_one_sale() -> None:
    ids = {
        rules.order_id_of(sale, buyer, key)
        for sale in ("jazz", "rock")
        for buyer in ("ada", "bob")
        for key in ("click-0001", "click-0002")
    }
    assert len(ids) == 8
    assert rules.order_id_of("jazz", "ada", "click-0001") in ids
    # Lengths are part of the hash: moving a border makes another order.
    assert rules.order_id_of("jazza", "da", "click-0001") not in ids


@pytest.mark.parametrize(
    "other",
    [
        ("jazz", "ada", KEY, (Item("floor", "full", 2),), ""),
        ("jazz", "ada", KEY, (Item("floor", "", 1),), ""),
        ("jazz", "ada", KEY, (Item("stand", "full", 1),), ""),
        ("jazz", "ada", KEY, (Item("floor", "full", 1, ("A1",)),), ""),
        ("jazz", "ada", KEY, (Item("floor", "full", 1, (), True),), ""),
        ("jazz", "ada", KEY, ONE * 2, ""),
        ("jazz", "ada", KEY, (), "my-hold-1"),
        ("jazz", "bob", KEY, ONE, ""),
    ],
)
def test_another_request_has_another_hash(other: tuple[str, str, str, tuple[Item, ...], str]) -> None:
    asked = ("jazz", "ada", KEY, ONE, "")
    assert rules.request_hash(*asked) == rules.request_hash(*asked)
    assert rules.request_hash(*other) != rules.request_hash(*asked)


@pytest.mark.parametrize(
    ("state", "now_ms", "step"),
    [
        (OrderState.ACCEPTED, 0, Step.WAIT),
        (OrderState.HELD, 59_999, Step.OPEN_PAYMENT),
        (OrderState.HELD, 60_000, Step.EXPIRE),
        (OrderState.AWAITING_PAYMENT, 59_999, Step.WAIT),
        (OrderState.AWAITING_PAYMENT, 60_000, Step.LOOK_UP),
        (OrderState.AUTHORIZED, 99_999, Step.SELL),
        (OrderState.CAPTURING, 99_999, Step.CAPTURE),
        (OrderState.VOIDING, 0, Step.VOID),
        (OrderState.CONFIRMED, 0, Step.REST),
        (OrderState.REJECTED, 0, Step.REST),
        (OrderState.EXPIRED, 0, Step.REST),
        (OrderState.CANCELLED, 0, Step.REST),
        (OrderState.PAYMENT_FAILED, 0, Step.REST),
    ],
)
def test_the_next_step_follows_from_the_record(
    state: OrderState, now_ms: int, step: Step, order_in: OrderIn
) -> None:
    assert rules.next_step(order_in(state), now_ms) is step


def test_what_is_free_of_charge_needs_no_payment(order_in: OrderIn) -> None:
    assert rules.next_step(order_in(OrderState.HELD, amount=0), 99_999) is Step.SELL


@pytest.mark.parametrize(
    ("owes_units", "payment_state", "step"),
    [
        (True, PaymentState.VOIDING, Step.GIVE_BACK),
        (False, PaymentState.VOIDING, Step.VOID),
        (False, PaymentState.REFUNDING, Step.REFUND),
        (True, PaymentState.AUTHORIZED, Step.GIVE_BACK),
        (False, PaymentState.AUTHORIZED, Step.REACQUIRE),
        (False, PaymentState.VOIDED, Step.REST),
        (False, PaymentState.LAPSED, Step.REST),
    ],
)
def test_an_ended_order_puts_right_what_it_left_behind(
    owes_units: bool, payment_state: PaymentState, step: Step, order_in: OrderIn
) -> None:
    payment = order_in(OrderState.AWAITING_PAYMENT).payment
    assert payment is not None
    ended = order_in(
        OrderState.CANCELLED, owes_units=owes_units, payment=replace(payment, state=payment_state)
    )
    assert rules.next_step(ended, 0) is step


def test_seats_are_asked_of_seated_sections_only() -> None:
    seated = Section(id="hall", kind=SECTION_KIND_SEATED, ticket_types=[TicketType(id="full")])
    spec = SaleSpec(sections=[seated, Section(id="floor", ticket_types=[TicketType(id="full")])])
    rules.check_offered(
        [Item("hall", "full", 1, ("A1",)), Item("hall", "", 1, use=1), Item("floor", "", 1)], spec
    )
    for item, field in (
        (Item("floor", "", 1, ("A1",)), "items.seats"),
        (Item("floor", "", 1, use=1), "items.use"),
    ):
        with pytest.raises(Refusal, match="INVALID_FIELD") as refused:
            rules.check_offered([item], spec)
        assert refused.value.metadata["field"] == field
