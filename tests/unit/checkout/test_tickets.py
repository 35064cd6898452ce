"""Tickets' codes: signed once, checked anywhere."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from local.private import signing_keys
from services.checkout.records import Order
from services.checkout.states import OrderState
from services.checkout.tickets import TicketInvalid, codes_of, verify_ticket
from services.checkout.transitions import Steps
from services.kit.signing import SigningKey, load_signing_ring

OrderIn = Callable[..., Order]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """A key to sign with."""
    return load_signing_ring(signing_keys(tmp_path / "ticket.json"), "ticket_key_file").signing


@pytest.fixture
def codes(order_in: OrderIn, steps: Steps, key: SigningKey) -> list[str]:
    """The codes of an order's two tickets."""
    order = steps.capturing(order_in(OrderState.AUTHORIZED), 1000)
    return list(codes_of(order, key, 2000).values())


def test_a_code_says_what_it_is_for(codes: list[str], key: SigningKey) -> None:
    claims = [verify_ticket(code, {key.id: key.public}, sale="jazz") for code in codes]

    assert [(each.section, each.unit, each.ticket_type) for each in claims] == [
        ("floor", 7, "full"),
        ("floor", 8, "full"),
    ]
    assert {each.order_id for each in claims} == {"a" * 26}
    assert claims[0].ticket_id != claims[1].ticket_id
    assert claims[0].issued_at_ms == 2000


def test_a_code_of_another_sale_is_refused(codes: list[str], key: SigningKey) -> None:
    with pytest.raises(TicketInvalid, match="another sale"):
        verify_ticket(codes[0], {key.id: key.public}, sale="rock")


def test_a_code_of_an_unknown_key_is_refused(codes: list[str], key: SigningKey, tmp_path: Path) -> None:
    other = load_signing_ring(signing_keys(tmp_path / "other.json"), "ticket_key_file").signing
    with pytest.raises(TicketInvalid, match="key"):
        verify_ticket(codes[0], {other.id: other.public})
    # Also if somebody lists their own key under our key's id.
    with pytest.raises(TicketInvalid, match="signature"):
        verify_ticket(codes[0], {key.id: other.public})


def test_no_byte_of_a_code_can_be_changed(codes: list[str], key: SigningKey) -> None:
    body, signature = codes[0].split(".")
    for part, other in ((body, signature), (signature, body)):
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        for index in range(len(raw)):
            changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
            forged = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
            code = f"{forged}.{other}" if part is body else f"{other}.{forged}"
            with pytest.raises(TicketInvalid):
                verify_ticket(code, {key.id: key.public})


def test_signatures_cannot_be_swapped(codes: list[str], key: SigningKey) -> None:
    (body, _), (_, signature) = (code.split(".") for code in codes)
    with pytest.raises(TicketInvalid, match="signature"):
        verify_ticket(f"{body}.{signature}", {key.id: key.public})


@pytest.mark.parametrize("spoil", ["", ".", "x", "é.é", "{code}=", " {code}", "{code}.", "{code}\n"])
def test_a_code_has_one_spelling(spoil: str, codes: list[str], key: SigningKey) -> None:
    with pytest.raises(TicketInvalid):
        verify_ticket(spoil.format(code=codes[0]), {key.id: key.public})
