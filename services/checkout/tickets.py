"""Tickets' codes: what a QR code holds, signed so that a door can check it without asking anyone."""

import base64
import binascii
from collections.abc import Mapping

from catraca.checkout.v1.checkout_pb2 import TicketClaims
from google.protobuf.message import DecodeError

from services.checkout.records import Order, Ticket
from services.kit.signing import SigningKey, verifies


class TicketInvalid(Exception):
    """A code that no door may let in; the text says why."""


def codes_of(order: Order, key: SigningKey, issued_at_ms: int) -> dict[str, str]:
    """The signed code of each of the order's tickets, by ticket id."""
    return {ticket.ticket_id: _code(order, ticket, key, issued_at_ms) for ticket in order.tickets}


def verify_ticket(code: str, keys: Mapping[str, bytes], *, sale: str = "") -> TicketClaims:
    """What a ticket's code says, checked with the public keys of GetTicketKeys by id, without revoked ones.

    Needs no network. Raises TicketInvalid for a code that is malformed, forged, or not of the `sale` given.
    Whether the ticket was given back or came in before, only a list at the door can know.
    """
    body, _, signature = code.partition(".")
    message = _decoded(body)
    try:
        claims = TicketClaims.FromString(message)
    except DecodeError:
        raise TicketInvalid("the code's body is not a ticket's") from None
    public = keys.get(claims.key_id)
    if public is None:
        raise TicketInvalid(f"signed with a key that is not known: {claims.key_id!r}")
    if not verifies(public, _decoded(signature), message):
        raise TicketInvalid("the signature is not of this ticket")
    if sale and claims.sale != sale:
        raise TicketInvalid(f"a ticket of another sale: {claims.sale}")
    return claims


def _code(order: Order, ticket: Ticket, key: SigningKey, issued_at_ms: int) -> str:
    body = TicketClaims(
        sale=order.sale,
        ticket_id=ticket.ticket_id,
        section=ticket.section,
        unit=ticket.unit,
        ticket_type=ticket.ticket_type,
        order_id=order.order_id,
        key_id=key.id,
        issued_at_ms=issued_at_ms,
        seat=ticket.seat,
    ).SerializeToString()
    return f"{_encoded(body)}.{_encoded(key.sign(body))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    """Only the one spelling that `_encoded` makes is taken: a code cannot be varied and stay valid."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise TicketInvalid("the code is not base64url") from None
    if _encoded(data) != text:
        raise TicketInvalid("the code is not in its one spelling")
    return data
