"""A BFF under load: batches of many buyers on streams that stay open; the rate counts items."""

import random
import secrets
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
import grpc
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from gevent.queue import SimpleQueue

from tests.load import methods
from tests.load.methods import DEADLINE_S, Method
from tests.load.over_grpc import OverGrpc, word_of_error
from tests.load.tally import OK

MIX = (("GetPlaces", 50), ("JoinMany", 20), ("EnterMany", 18), ("PlaceOrders", 12))
"""In a hundred batches."""


class Crowd:
    """The buyers of one worker's BFF, by how far they have come."""

    def __init__(self, worker: int, first: int, seed: int) -> None:
        self._prefix = f"{worker}-"
        self._next = first
        self._random = random.Random(seed)
        self.waiting: deque[str] = deque()
        self.admitted: deque[tuple[str, str]] = deque()
        """Subjects and their admissions."""

    def newcomers(self, count: int) -> list[str]:
        """Subjects that nobody has used."""
        first, self._next = self._next, self._next + count
        return [f"{self._prefix}{number}" for number in range(first, self._next)]

    def next(self, count: int) -> str:
        """The next batch of the mix that enough buyers have come far enough for."""
        (name,) = self._random.choices([name for name, _ in MIX], [weight for _, weight in MIX])
        ready = {
            "EnterMany": len(self.waiting),
            "GetPlaces": len(self.waiting),
            "PlaceOrders": len(self.admitted),
        }
        return name if ready.get(name, count) >= count else "JoinMany"


class Lane:
    """One lane of the BFF with a stream of its own for each method, opened again when it breaks."""

    def __init__(self, over: OverGrpc, crowd: Crowd, sale: str, sections: Sequence[str], token: str) -> None:
        self._over = over
        self._crowd = crowd
        self._sale = sale
        self._sections = sections
        self._token = token
        self._streams: dict[str, tuple[SimpleQueue[Any], Any]] = {}

    def send(self, count: int) -> tuple[str, Mapping[str, int]]:
        """One batch of so many items: its name, and how often each word came back."""
        name = self._crowd.next(count)
        return name, {
            "GetPlaces": self._look,
            "JoinMany": self._join,
            "EnterMany": self._enter,
            "PlaceOrders": self._order,
        }[name](count)

    def _join(self, count: int) -> Mapping[str, int]:
        subjects = self._crowd.newcomers(count)
        request = queue.JoinManyRequest(
            sale=self._sale, items=[queue.JoinItem(subject=subject) for subject in subjects]
        )
        word, answer = self._exchange(methods.JOIN_MANY, request)
        if word != OK:
            return {word: count}
        joined = [s for s, result in zip(subjects, answer.results, strict=True) if not result.refusal]
        self._crowd.waiting.extend(joined)
        return _words(answer)

    def _look(self, count: int) -> Mapping[str, int]:
        subjects = [self._crowd.waiting[number] for number in range(count)]
        request = queue.GetPlacesRequest(sale=self._sale, subjects=subjects)
        word, answer = self._over.call(methods.GET_PLACES, request, self._token)
        return _words(answer) if word == OK else {word: count}

    def _enter(self, count: int) -> Mapping[str, int]:
        subjects = [self._crowd.waiting.popleft() for _ in range(count)]
        request = queue.EnterManyRequest(sale=self._sale, subjects=subjects)
        word, answer = self._exchange(methods.ENTER_MANY, request)
        if word != OK:
            self._crowd.waiting.extend(subjects)
            return {word: count}
        for subject, result in zip(subjects, answer.results, strict=True):
            if result.refusal:
                self._crowd.waiting.append(subject)
            else:
                self._crowd.admitted.append((subject, result.admission.token))
        return _words(answer)

    def _order(self, count: int) -> Mapping[str, int]:
        buyers = [self._crowd.admitted.popleft() for _ in range(count)]
        items = [
            checkout.PlaceOrderItem(
                subject=subject,
                idempotency_key=f"click-{secrets.token_hex(8)}",
                items=[inventory.HoldItem(section=self._sections[number % len(self._sections)], quantity=1)],
                admission=admission,
            )
            for number, (subject, admission) in enumerate(buyers)
        ]
        word, answer = self._exchange(
            methods.PLACE_ORDERS, checkout.PlaceOrdersRequest(sale=self._sale, items=items)
        )
        return _words(answer) if word == OK else {word: count}

    def _exchange(self, method: Method, request: Any) -> tuple[str, Any]:
        requests, answers = self._streams.get(method.path) or self._open(method)
        requests.put(request)
        try:
            with gevent.Timeout(DEADLINE_S):
                return OK, next(answers)
        except gevent.Timeout:
            word = "DEADLINE"
        except grpc.RpcError as error:
            word = word_of_error(error)
        except StopIteration:
            word = "UNAVAILABLE"
        del self._streams[method.path]
        requests.put(None)
        answers.cancel()
        return word, None

    def _open(self, method: Method) -> tuple["SimpleQueue[Any]", Any]:
        requests: SimpleQueue[Any] = SimpleQueue()
        stream = (requests, self._over.batches(method, iter(requests.get, None), self._token))
        self._streams[method.path] = stream
        return stream


def _words(answer: Any) -> Mapping[str, int]:
    return Counter(result.refusal or OK for result in answer.results)
