"""The line's changes as messages: as the script wrote them, and as the script takes them in again."""

from collections.abc import Iterable

from catraca.events.v1 import events_pb2
from nats.js import JetStreamContext

from services.kit import relay
from services.kit.lua import raw
from services.kit.relay import Change

SUBJECT = "catraca.queue.{sale}.line"


def subject_of(sale: str) -> str:
    """The subject of a sale's line."""
    return SUBJECT.format(sale=sale)


async def last_published(js: JetStreamContext, sale: str) -> int:
    """Sequence of the last change of a line that JetStream has; 0 where it has none."""
    return await relay.last_published(js, subject_of(sale))


def fill_change(message: events_pb2.QueueChange, change: Change) -> None:
    """One change as the script wrote it; the fields have the message's names."""
    for name, value in change.items():
        if name == "act":
            message.act = events_pb2.QueueAct.Value(f"QUEUE_ACT_{value}")
        elif name in ("buyers", "codes"):
            setattr(message, name, raw(value))
        elif name == "beacon_round":
            if value:
                message.beacon_round.ParseFromString(raw(value))
        else:
            setattr(message, name, value)


def act_of(change: events_pb2.QueueChange) -> str:
    """The act's name as the script has it."""
    return events_pb2.QueueAct.Name(change.act).removeprefix("QUEUE_ACT_")


def batch_of(sale: str, epoch: int, changes: Iterable[Change]) -> events_pb2.QueueBatch:
    """The message for consecutive changes that were made under one epoch."""
    message = events_pb2.QueueBatch(sale=sale, epoch=epoch)
    for change in changes:
        fill_change(message.changes.add(), change)
    return message
