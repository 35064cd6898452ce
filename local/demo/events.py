"""The events on JetStream, one readable line each."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.events.v1 import events_pb2 as events
from google.protobuf.message import DecodeError

SHORT = 8
"""Characters of an id that a person can tell apart."""


def lines(subject: str, payload: bytes) -> Iterator[str]:
    """What a message says; nothing for a subject that is not for people."""
    for prefix, read in READERS.items():
        if subject.startswith(prefix):
            try:
                yield from read(payload)
            except DecodeError:
                yield f"{subject}: {len(payload)} bytes that cannot be read"
            return


def _inventory(payload: bytes) -> Iterator[str]:
    for change in events.InventoryBatch.FromString(payload).changes:
        act = events.InventoryAct.Name(change.act).removeprefix("INVENTORY_ACT_").lower()
        count = len(change.units) or change.quantity
        who = f" by {change.buyer[:SHORT]}" if change.buyer else ""
        yield f"{_time(change.at_ms)} inventory  {act}{f' {count}' if count else ''}{who}"


def _queue(payload: bytes) -> Iterator[str]:
    for change in events.QueueBatch.FromString(payload).changes:
        act = events.QueueAct.Name(change.act).removeprefix("QUEUE_ACT_").lower().replace("_", " ")
        match change.act:
            case events.QUEUE_ACT_JOINED:
                what = f"{len(change.buyers) // 16} from number {change.index}"
            case events.QUEUE_ACT_FROZEN:
                what = f"with {change.cohort} buyers"
            case events.QUEUE_ACT_SERVING:
                what = f"up to place {change.serving}"
            case events.QUEUE_ACT_DRAWN:
                what = f"by the root {change.root[:SHORT]}…"
            case _:
                what = ""
        yield f"{_time(change.at_ms)} queue      {act} {what}".rstrip()


def _checkout(payload: bytes) -> Iterator[str]:
    changed = events.OrderChanged.FromString(payload)
    state = checkout.OrderState.Name(changed.order.state).removeprefix("ORDER_STATE_")
    reason = f" ({changed.order.reason})" if changed.order.reason else ""
    yield f"{_time(changed.decided_at_ms)} checkout   order {changed.order.order_id[:SHORT]} {state}{reason}"


def _intake(payload: bytes) -> Iterator[str]:
    order = events.OrderIntake.FromString(payload)
    count = sum(item.quantity for item in order.items)
    what = f"{count} units" if count else "a hold"
    yield f"{_time(order.accepted_at_ms)} intake     order {order.order_id[:SHORT]} for {what}"


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%H:%M:%S}"


READERS: dict[str, Callable[[bytes], Iterator[str]]] = {
    "catraca.inventory.": _inventory,
    "catraca.queue.": _queue,
    "catraca.checkout.": _checkout,
    "catraca.intake.": _intake,
}
