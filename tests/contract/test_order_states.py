"""Orders, payments and tickets have the same words in the contract, in SQL and in Python."""

import re
from pathlib import Path

import pytest
from catraca.checkout.v1 import checkout_pb2
from catraca.errors.v1 import errors_pb2
from google.protobuf.descriptor import FileDescriptor

from services.checkout import states
from services.checkout.messages import state_value

CHECKOUT = Path(states.__file__).parent
MIGRATIONS = sorted((CHECKOUT / "sql" / "migrations").glob("*.sql"))


def words_of(file: FileDescriptor, enum: str, prefix: str) -> set[str]:
    """The contract's words of an enum, without prefix and without the unspecified one."""
    names = file.enum_types_by_name[enum].values_by_name
    return {name.removeprefix(prefix) for name in names} - {"UNSPECIFIED"}


def checked_in(table: str, column: str = "state") -> set[str]:
    """The words that a column's check allows, by its table's definition."""
    text = "\n".join(path.read_text() for path in MIGRATIONS)
    body = re.search(rf"create table {re.escape(table)} \((.*?)\n\);", text, re.DOTALL)
    assert body is not None
    check = re.search(rf"\b{column}\s+text[^,]*?check \({column} in \((.*?)\)\)", body[1], re.DOTALL)
    assert check is not None
    return set(re.findall(r"'(\w+)'", check[1]))


def test_orders() -> None:
    python = {state.value for state in states.OrderState}
    assert python == words_of(checkout_pb2.DESCRIPTOR, "OrderState", "ORDER_STATE_")
    assert python == checked_in("orders.orders")


def test_tickets() -> None:
    python = {state.value for state in states.TicketState}
    assert python == words_of(checkout_pb2.DESCRIPTOR, "TicketState", "TICKET_STATE_")
    assert python == checked_in("orders.tickets")


def test_payments() -> None:
    assert {state.value for state in states.PaymentState} == checked_in("payments.payments")


def test_the_ends_of_a_void() -> None:
    ends = {state.value for state in states.TRANSITIONS[states.OrderState.VOIDING]}
    assert ends == checked_in("orders.orders", "ends_as")


@pytest.mark.parametrize("state", states.OrderState)
def test_every_state_has_its_value(state: states.OrderState) -> None:
    assert checkout_pb2.OrderState.Name(state_value(state)) == f"ORDER_STATE_{state.value}"


def test_every_end_has_a_reason_of_the_list() -> None:
    """What the transitions and the saga write as an order's reason is in the one list."""
    text = "".join(
        (CHECKOUT / name).read_text() for name in ("transitions.py", "saga.py", "workers/intake.py")
    )
    named = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', text))
    reasons = words_of(errors_pb2.DESCRIPTOR, "Reason", "REASON_")

    assert {"PAYMENT_TIMEOUT", "PAYMENT_DECLINED", "CAPTURE_REFUSED", "CANCELLED_ON_REQUEST"} <= named
    assert named <= reasons
