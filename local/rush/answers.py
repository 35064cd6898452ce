"""Translates what the services answer into what a simulated buyer understands."""

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from google.protobuf.timestamp_pb2 import Timestamp

from local.client import item
from local.rush.record import Admitted, Answer, Placed, Refused, Stood, View
from local.rush.shop import Item
from services.kit.errors import Refusal

STATES = {
    value.number: value.name.removeprefix("ORDER_STATE_") for value in checkout.OrderState.DESCRIPTOR.values
}
LEFT = "left."


def seconds(timestamp: Timestamp) -> float:
    """Seconds since 1970."""
    return timestamp.seconds + timestamp.nanos / 1e9


def stood(place: queue.Place) -> Stood:
    """Where the buyer stands."""
    return Stood(place.index, place.place if place.HasField("place") else None)


def place_answer(result: queue.PlaceResult) -> Answer:
    """One item of a batch of joins."""
    return Refused(result.refusal, {}) if result.refusal else stood(result.place)


def admitted(admission: queue.Admission) -> Admitted:
    """The admission, as its buyer understands it."""
    return Admitted(admission.token, admission.allowance, seconds(admission.turn_ends_at), admission.place)


def admission_answer(result: queue.AdmissionResult) -> Answer:
    """One item of a batch of entries."""
    return Refused(result.refusal, {}) if result.refusal else admitted(result.admission)


def order_answer(result: checkout.OrderResult) -> Answer:
    """One item of a batch of orders."""
    return Refused(result.refusal, {}) if result.refusal else Placed(result.order.order_id)


def refused(refusal: Refusal) -> Refused:
    """A refusal with what it says is left."""
    left = {
        name.removeprefix(LEFT): int(value)
        for name, value in refusal.metadata.items()
        if name.startswith(LEFT) and value.isdigit()
    }
    section = refusal.metadata.get("section")
    if section and refusal.metadata.get("left", "").isdigit():
        left[section] = int(refusal.metadata["left"])
    return Refused(refusal.word, left)


def wanted(items: list[Item]) -> list[inventory.HoldItem]:
    """What is asked for."""
    return [item(section, quantity, ticket_type) for section, ticket_type, quantity in items]


def view(order: checkout.Order, decided_at_ms: int) -> View:
    """An order as the stream tells it."""
    return View(
        order_id=order.order_id,
        key=order.idempotency_key,
        state=STATES.get(order.state, "UNSPECIFIED"),
        version=order.version,
        reason=order.reason,
        url=order.payment.url if order.state == checkout.ORDER_STATE_AWAITING_PAYMENT else "",
        pay_until=seconds(order.payment.pay_until),
        units=len(order.tickets),
        amount=order.amount,
        decided_at=decided_at_ms / 1000,
    )
