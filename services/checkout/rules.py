"""What a request to order must look like, and what an order needs next. Pure: no I/O, no clock."""

import hashlib
import re
from collections.abc import Sequence
from enum import Enum, auto

from catraca.inventory.v1.inventory_pb2 import SEAT_USE_ACCESSIBLE, SEAT_USE_COMPANION, SeatUse
from catraca.sale.v1.sale_pb2 import SECTION_KIND_SEATED, SaleSpec

from services.checkout.records import Item, Order
from services.checkout.states import OrderState, PaymentState
from services.kit.buyers import short_hash
from services.kit.errors import Refusal

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
IDEMPOTENCY_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
HOLD_ID = re.compile(r"[a-z0-9-]{8,64}")
HASH_ID = re.compile(r"[a-z2-7]{26}")
MAX_ITEMS = 10
MAX_QUANTITY = 100
MAX_SEAT_CHARS = 100


class Step(Enum):
    """What is to be done with an order now."""

    WAIT = auto()
    """Nothing before its due time, or somebody else's move."""
    OPEN_PAYMENT = auto()
    SELL = auto()
    """COMMIT the units at the ledger and write the tickets."""
    CAPTURE = auto()
    LOOK_UP = auto()
    """The payment's deadline passed: ask the provider how it stands."""
    EXPIRE = auto()
    """The deadline passed before there was a session."""
    VOID = auto()
    REFUND = auto()
    REACQUIRE = auto()
    """A payment came after the end: the units anew, or else the money back."""
    GIVE_BACK = auto()
    """RELEASE or RETURN the units at the ledger."""
    REST = auto()
    """The order ended and left nothing behind."""


def next_step(order: Order, now_ms: int) -> Step:
    """What an order needs next, judged from its record alone: so any process can take it up anywhere."""
    match order.state:
        case OrderState.HELD if order.amount == 0:
            return Step.SELL
        case OrderState.HELD:
            return Step.EXPIRE if now_ms >= order.pay_until_ms else Step.OPEN_PAYMENT
        case OrderState.AWAITING_PAYMENT:
            return Step.LOOK_UP if now_ms >= order.pay_until_ms else Step.WAIT
        case OrderState.AUTHORIZED:
            return Step.SELL
        case OrderState.CAPTURING:
            return Step.CAPTURE
        case OrderState.VOIDING:
            return Step.VOID
        case OrderState.ACCEPTED:
            return Step.WAIT
    return _left_behind(order)


def _left_behind(order: Order) -> Step:
    if order.owes_units:
        return Step.GIVE_BACK
    if order.payment is not None and order.payment.state is PaymentState.AUTHORIZED:
        return Step.REACQUIRE
    if order.payment is not None and order.payment.state is PaymentState.VOIDING:
        return Step.VOID
    if order.payment is not None and order.payment.state is PaymentState.REFUNDING:
        return Step.REFUND
    return Step.REST


def sale_id(sale: str) -> str:
    """The sale's id, if it can be one."""
    return _matching(DNS_LABEL, "sale", sale, "a DNS label: a–z, 0–9 and hyphens, at most 63 characters")


def order_id(text: str) -> str:
    """An order's id, if it can be one; what cannot be one names no order."""
    return _matching(HASH_ID, "order_id", text, "26 characters of a–z and 2–7")


def check_request(idempotency_key: str, items: Sequence[Item], hold_id: str) -> None:
    """Raise the refusal of a malformed order, before anything is stored."""
    _matching(
        IDEMPOTENCY_KEY, "idempotency_key", idempotency_key, "8 to 64 of a–z, A–Z, 0–9, hyphen, underscore"
    )
    if hold_id:
        _matching(HOLD_ID, "hold_id", hold_id, "8 to 64 of a–z, 0–9 and hyphen")
        if items:
            raise _invalid("items", "no items beside a hold_id")
        return
    if not 1 <= len(items) <= MAX_ITEMS:
        raise _invalid("items", f"1 to {MAX_ITEMS} items, or a hold_id")
    for index, item in enumerate(items):
        _check_item(f"items[{index}]", item)
    uses = [item.use for item in items]
    if SEAT_USE_COMPANION in uses and SEAT_USE_ACCESSIBLE not in uses:
        # As the ledger says too, but before the order is kept.
        path = f"items[{uses.index(SEAT_USE_COMPANION)}].use"
        raise _invalid(path, "an accessible item in the same request")


def _check_item(path: str, item: Item) -> None:
    label = "a DNS label: a–z, 0–9 and hyphens, at most 63 characters"
    _matching(DNS_LABEL, f"{path}.section", item.section, label)
    if item.ticket_type:
        _matching(DNS_LABEL, f"{path}.ticket_type", item.ticket_type, label)
    if not 1 <= item.quantity <= MAX_QUANTITY:
        expected = f"1 to {MAX_QUANTITY}"
        raise Refusal("INVALID_QUANTITY", field=f"{path}.quantity", expected=expected)
    if not all(0 < len(seat) <= MAX_SEAT_CHARS and seat.isprintable() for seat in item.seats):
        raise _invalid(f"{path}.seats", f"ids of seats, 1 to {MAX_SEAT_CHARS} characters each")
    if len(set(item.seats)) < len(item.seats):
        raise _invalid(f"{path}.seats", "each seat once")
    if len(item.seats) not in (0, item.quantity):
        raise Refusal("INVALID_QUANTITY", field=f"{path}.quantity", expected="as many as seats")
    if item.use not in SeatUse.values():
        raise _invalid(f"{path}.use", "one of the uses")


def check_offered(items: Sequence[Item], spec: SaleSpec) -> None:
    """Raise SECTION_NOT_FOUND or TICKET_TYPE_NOT_FOUND for an item that the sale does not have."""
    for item in items:
        section = next((each for each in spec.sections if each.id == item.section), None)
        if section is None:
            raise Refusal("SECTION_NOT_FOUND", section=item.section)
        if item.ticket_type and all(each.id != item.ticket_type for each in section.ticket_types):
            raise Refusal("TICKET_TYPE_NOT_FOUND", section=item.section, ticket_type=item.ticket_type)
        if section.kind != SECTION_KIND_SEATED and (item.seats or item.use):
            # As the ledger says too, but before the order is kept.
            raise _invalid("items.seats" if item.seats else "items.use", "none: the section is standing")


def order_id_of(sale: str, buyer: str, idempotency_key: str) -> str:
    """The one order that a buyer's key names in a sale (26 characters)."""
    return short_hash(sale, buyer, idempotency_key)


def request_hash(sale: str, buyer: str, idempotency_key: str, items: Sequence[Item], hold_id: str) -> bytes:
    """SHA-256 over what was asked for, the admission left out: a turn's token may be fetched anew."""
    digest = hashlib.sha256()
    parts = [sale, buyer, idempotency_key, hold_id]
    for item in items:
        parts += [item.section, item.ticket_type, str(item.quantity), str(item.together)]
        parts += [str(len(item.seats)), *item.seats]
        if item.use:
            parts.append(f"use {item.use}")
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.digest()


def intake_subject(sale: str, buyer: str, order: str) -> str:
    """Where an order is taken in. The last token is the order's id, a hash of sale, buyer and key: there is
    one subject per key, and an order is found by its id."""
    return f"catraca.intake.{sale}.{buyer}.{order}"


def order_subject(order: Order) -> str:
    """Where an order's states are published."""
    return f"catraca.checkout.{order.sale}.order.{order.buyer}.{order.order_id}"


def _matching(pattern: re.Pattern[str], field: str, text: str, expected: str) -> str:
    if not pattern.fullmatch(text):
        raise _invalid(field, expected)
    return text


def _invalid(field: str, expected: str) -> Refusal:
    return Refusal("INVALID_FIELD", f"{field} must be {expected}.", field=field, expected=expected)
