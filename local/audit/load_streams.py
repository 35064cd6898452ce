"""Reads what JetStream holds of a sale: definitions, batches of changes, orders asked for and announced."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from catraca.checkout.v1 import checkout_pb2
from catraca.events.v1 import events_pb2
from catraca.sale.v1.sale_pb2 import Sale
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from local.audit.facts import Announced, Batch, Intake
from services.checkout.intake import read as read_intake
from services.checkout.states import OrderState
from services.kit.errors import Refusal
from services.kit.relay import LAST_SEQUENCE_HEADER
from services.kit.streams import RawMsg, kv_subject, read_all
from services.notifier.rules import key_and_order
from services.notifier.store import VERSION_HEADER
from services.queue.seeds import DrawSecrets, Seeds

Change = TypeVar("Change")

_STATES = {checkout_pb2.OrderState.Value(f"ORDER_STATE_{state}"): state for state in OrderState}


class SaleUnknown(Exception):
    """No sale with this id was ever defined."""


async def definitions(js: JetStreamContext, sale: str) -> dict[int, Sale]:
    """Every revision of the sale's definition that the bucket still has. Raises SaleUnknown."""
    found: dict[int, Sale] = {}
    async for message in read_all(js, "KV_sales", kv_subject("sales", sale)):
        if message.data:
            found[message.seq] = Sale.FromString(message.data)
    if not found:
        raise SaleUnknown(f"no sale {sale} was ever defined")
    return found


async def draw_secrets(js: JetStreamContext, sale: str) -> DrawSecrets | None:
    """What the sale's draw was made from; None for a sale without one."""
    try:
        return await Seeds(js).of(sale)
    except Refusal:
        return None


async def inventory(js: JetStreamContext, sale: str) -> tuple[list[Batch], list[events_pb2.InventoryChange]]:
    """The changes of units and promises, and the messages they came in."""
    messages = read_all(js, "INVENTORY", f"catraca.inventory.{sale}.units")
    return await _batches(messages, events_pb2.InventoryBatch.FromString)


async def queue(js: JetStreamContext, sale: str) -> tuple[list[Batch], list[events_pb2.QueueChange]]:
    """The changes of the line, and the messages they came in."""
    messages = read_all(js, "QUEUE", f"catraca.queue.{sale}.line")
    return await _batches(messages, events_pb2.QueueBatch.FromString)


async def _batches(
    messages: AsyncIterator[RawMsg], parse: Callable[[bytes], Any]
) -> tuple[list[Batch], list[Any]]:
    batches: list[Batch] = []
    changes: list[Any] = []
    async for message in messages:
        try:
            batch = parse(message.data)
        except DecodeError:
            batch = parse(b"")
        own = list(batch.changes)
        announced = message.headers.get(LAST_SEQUENCE_HEADER, "")
        batches.append(
            Batch(
                stream_seq=message.seq,
                epoch=batch.epoch,
                first=own[0].sequence if own else 0,
                last=own[-1].sequence if own else 0,
                announced_last=int(announced) if announced.isdecimal() else 0,
            )
        )
        changes += own
    return batches, changes


async def intake(js: JetStreamContext, sale: str) -> list[Intake]:
    """Every order as it was asked for."""
    messages = read_all(js, "INTAKE", f"catraca.intake.{sale}.>")
    return [Intake(message.seq, message.subject, read_intake(message.data)) async for message in messages]


async def announced(js: JetStreamContext, sale: str) -> dict[str, list[Announced]]:
    """Every state that buyers were told of, by order."""
    found: dict[str, list[Announced]] = {}
    async for message in read_all(js, "CHECKOUT", f"catraca.checkout.{sale}.order.>"):
        address = key_and_order(message.subject)
        order_id = address[1] if address else message.subject
        found.setdefault(order_id, []).append(_announced(message))
    return found


def _announced(message: RawMsg) -> Announced:
    try:
        order = events_pb2.OrderChanged.FromString(message.data).order
    except DecodeError:
        order = checkout_pb2.Order()
    version = message.headers.get(VERSION_HEADER, "")
    return Announced(
        stream_seq=message.seq,
        header_version=int(version) if version.isdecimal() else -1,
        version=order.version,
        state=_STATES.get(order.state),
        tickets=sum(
            ticket.state == checkout_pb2.TICKET_STATE_LIVE and bool(ticket.code) for ticket in order.tickets
        ),
    )
