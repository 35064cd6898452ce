"""Buyers who call one by one: what each asks next follows from the mix and from how far it has come."""

import random
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue

from tests.load import methods
from tests.load.methods import Method

MIX = (
    ("GetPlace", 36),
    ("Join", 12),
    ("Enter", 8),
    ("GetAvailability", 8),
    ("Hold", 9),
    ("Release", 6),
    ("PlaceOrder", 6),
    ("GetOrder", 12),
    ("Watch", 2),
    ("Subscribe", 1),
)
"""In a hundred calls. Most of what people do is look how they stand."""
ORDERS_KEPT = 500


@dataclass(slots=True)
class Buyer:
    """One buyer. Each is in one of the pool's queues, or under way."""

    token: str
    admission: str = ""
    hold_id: str = ""


class Ask(NamedTuple):
    """One call, and what its answer changes."""

    method: Method
    name: str
    request: Any
    token: str
    answered: Callable[[str, Any], None]


class Pool:
    """The buyers of one worker, by how far they have come. Who is taken comes back with the answer."""

    def __init__(self, sale: str, sections: Sequence[str], tokens: Sequence[str], seed: int) -> None:
        self._sale = sale
        self._sections = sections
        self._random = random.Random(seed)
        self._tokens = tokens
        self._outside = deque(Buyer(token) for token in tokens)
        self._waiting: deque[Buyer] = deque()
        self._admitted: deque[Buyer] = deque()
        self._holding: deque[Buyer] = deque()
        self._orders: deque[tuple[str, str]] = deque(maxlen=ORDERS_KEPT)
        self._joined: list[str] = []
        """Tokens of all who stand or stood in line: who only looks is not kept from anything else."""
        self._makers: dict[str, Callable[[], Ask | None]] = {
            "GetPlace": self._get_place,
            "Join": self._join,
            "Enter": self._enter,
            "GetAvailability": self._get_availability,
            "Hold": self._hold,
            "Release": self._release,
            "PlaceOrder": self._place_order,
            "GetOrder": self._get_order,
            "Watch": self._watch,
            "Subscribe": self._subscribe,
        }
        self._names = [name for name, _ in MIX]
        self._weights = [weight for _, weight in MIX]

    def next(self) -> Ask:
        """The next call of the mix. Where nobody has come far enough, somebody joins or looks instead."""
        (name,) = self._random.choices(self._names, self._weights)
        ask = self._makers[name]() or self._join()
        return ask or self._get_availability()

    # ---- the line ----

    def _join(self) -> Ask | None:
        if not self._outside:
            return self._join_again()
        buyer = self._outside.popleft()

        def answered(word: str, _: Any) -> None:
            if word == "OK":
                self._joined.append(buyer.token)
            (self._waiting if word == "OK" else self._outside).append(buyer)

        return self._ask(methods.JOIN, queue.JoinRequest(sale=self._sale), buyer.token, answered)

    def _join_again(self) -> Ask | None:
        """Reload the page: the same place is answered."""
        if not self._joined:
            return None
        return self._ask(methods.JOIN, queue.JoinRequest(sale=self._sale), self._somebody())

    def _get_place(self) -> Ask | None:
        if not self._joined:
            return None
        return self._ask(methods.GET_PLACE, queue.GetPlaceRequest(sale=self._sale), self._somebody())

    def _watch(self) -> Ask | None:
        if not self._joined:
            return None
        return self._ask(methods.WATCH, queue.WatchRequest(sale=self._sale), self._somebody())

    def _enter(self) -> Ask | None:
        if not self._waiting:
            return None
        buyer = self._waiting.popleft()

        def answered(word: str, answer: Any) -> None:
            if word == "OK":
                buyer.admission = answer.admission.token
            (self._admitted if word == "OK" else self._waiting).append(buyer)

        return self._ask(methods.ENTER, queue.EnterRequest(sale=self._sale), buyer.token, answered)

    # ---- units ----

    def _get_availability(self) -> Ask:
        token = self._random.choice(self._tokens)
        return self._ask(methods.GET_AVAILABILITY, inventory.GetAvailabilityRequest(sale=self._sale), token)

    def _hold(self) -> Ask | None:
        if not self._admitted:
            return None
        buyer = self._admitted.popleft()
        buyer.hold_id = f"hold-{secrets.token_hex(8)}"
        request = inventory.HoldRequest(
            sale=self._sale, hold_id=buyer.hold_id, items=[self._one()], admission=buyer.admission
        )

        def answered(word: str, _: Any) -> None:
            (self._holding if word == "OK" else self._admitted).append(buyer)

        return self._ask(methods.HOLD, request, buyer.token, answered)

    def _release(self) -> Ask | None:
        if not self._holding:
            return None
        buyer = self._holding.popleft()
        request = inventory.ReleaseRequest(sale=self._sale, hold_id=buyer.hold_id)
        return self._ask(methods.RELEASE, request, buyer.token, lambda *_: self._admitted.append(buyer))

    # ---- orders ----

    def _place_order(self) -> Ask | None:
        """Half of the orders name a hold, the others what is wanted."""
        from_hold = bool(self._holding) and self._random.random() < 0.5
        if not from_hold and not self._admitted:
            return None
        buyer = self._holding.popleft() if from_hold else self._admitted.popleft()
        request = checkout.PlaceOrderRequest(
            sale=self._sale,
            idempotency_key=f"click-{secrets.token_hex(8)}",
            items=[] if from_hold else [self._one()],
            hold_id=buyer.hold_id if from_hold else "",
            admission=buyer.admission,
        )

        def answered(word: str, answer: Any) -> None:
            if word == "OK":
                self._orders.append((buyer.token, answer.order.order_id))
            self._admitted.append(buyer)

        return self._ask(methods.PLACE_ORDER, request, buyer.token, answered)

    def _get_order(self) -> Ask | None:
        if not self._orders:
            return None
        token, order_id = self._random.choice(self._orders)
        request = checkout.GetOrderRequest(sale=self._sale, order_id=order_id)
        return self._ask(methods.GET_ORDER, request, token)

    def _subscribe(self) -> Ask | None:
        if not self._orders:
            return None
        token, _ = self._random.choice(self._orders)
        return self._ask(methods.SUBSCRIBE, notifier.SubscribeRequest(sale=self._sale), token)

    # ---- parts ----

    def _one(self) -> inventory.HoldItem:
        return inventory.HoldItem(section=self._random.choice(self._sections), quantity=1)

    def _somebody(self) -> str:
        return self._random.choice(self._joined)

    @staticmethod
    def _ask(
        method: Method, request: Any, token: str, answered: Callable[[str, Any], None] = lambda *_: None
    ) -> Ask:
        return Ask(method, method.path.rpartition("/")[2], request, token, answered)
