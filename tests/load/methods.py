"""The methods of the contract that are called under load."""

from dataclasses import dataclass
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue

DEADLINE_S = 10


@dataclass(frozen=True)
class Method:
    """One method, and where it is served."""

    service: str
    path: str
    answer: Any
    """The class of its answer, or of each message of it."""
    streams: bool = False
    takes_stream: bool = False


QUEUE = "/catraca.queue.v1.QueueService/"
INVENTORY = "/catraca.inventory.v1.InventoryService/"
ORDERS = "/catraca.checkout.v1.OrderService/"
NOTIFIER = "/catraca.notifier.v1.NotifierService/"

JOIN = Method("queue", f"{QUEUE}Join", queue.JoinResponse)
GET_PLACE = Method("queue", f"{QUEUE}GetPlace", queue.GetPlaceResponse)
ENTER = Method("queue", f"{QUEUE}Enter", queue.EnterResponse)
WATCH = Method("queue", f"{QUEUE}Watch", queue.WatchResponse, streams=True)
HOLD = Method("inventory", f"{INVENTORY}Hold", inventory.HoldResponse)
RELEASE = Method("inventory", f"{INVENTORY}Release", inventory.ReleaseResponse)
GET_AVAILABILITY = Method("inventory", f"{INVENTORY}GetAvailability", inventory.GetAvailabilityResponse)
PLACE_ORDER = Method("checkout", f"{ORDERS}PlaceOrder", checkout.PlaceOrderResponse)
GET_ORDER = Method("checkout", f"{ORDERS}GetOrder", checkout.GetOrderResponse)
SUBSCRIBE = Method("notifier", f"{NOTIFIER}Subscribe", notifier.SubscribeResponse, streams=True)

GET_PLACES = Method("queue", f"{QUEUE}GetPlaces", queue.GetPlacesResponse)
JOIN_MANY = Method("queue", f"{QUEUE}JoinMany", queue.JoinManyResponse, streams=True, takes_stream=True)
ENTER_MANY = Method("queue", f"{QUEUE}EnterMany", queue.EnterManyResponse, streams=True, takes_stream=True)
PLACE_ORDERS = Method(
    "checkout", f"{ORDERS}PlaceOrders", checkout.PlaceOrdersResponse, streams=True, takes_stream=True
)
