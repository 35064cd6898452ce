"""Calls over gRPC, directly to the services; only within a process of Locust's, whose gRPC runs on gevent."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import grpc

from tests.load.methods import DEADLINE_S, Method
from tests.load.words import DETAILS_KEY, word_of

OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy is for the world outside.
    ("grpc.enable_http_proxy", 0),
]


class OverGrpc:
    """One connection to each service."""

    def __init__(self, targets: Mapping[str, str], streams: int) -> None:
        """`streams` is how many stay open."""
        self._channels = {name: grpc.insecure_channel(target, OPTIONS) for name, target in targets.items()}
        self._calls: dict[str, Any] = {}
        self._open: deque[Any] = deque()
        self._streams = streams

    def call(self, method: Method, request: Any, token: str) -> tuple[str, Any]:
        """The word of the answer, and the answer; of a stream, the first message."""
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            if method.streams:
                return "OK", self._first(method, request, metadata)
            return "OK", self._callable(method)(request, timeout=DEADLINE_S, metadata=metadata)
        except grpc.RpcError as error:
            return word_of_error(error), None

    def batches(self, method: Method, requests: Any, token: str) -> Any:
        """The answers to a stream of requests."""
        return self._callable(method)(requests, metadata=(("authorization", f"Bearer {token}"),))

    def _first(self, method: Method, request: Any, metadata: Any) -> Any:
        call = self._callable(method)(request, metadata=metadata)
        first = next(call)
        self._open.append(call)
        if len(self._open) > self._streams:
            self._open.popleft().cancel()
        return first

    def _callable(self, method: Method) -> Any:
        known = self._calls.get(method.path)
        if known is None:
            channel = self._channels[method.service]
            make = {
                (False, False): channel.unary_unary,
                (False, True): channel.unary_stream,
                (True, True): channel.stream_stream,
            }[method.takes_stream, method.streams]
            known = make(
                method.path,
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=method.answer.FromString,
            )
            self._calls[method.path] = known
        return known


def word_of_error(error: Any) -> str:
    """The word that a call was refused with."""
    details = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    return word_of(error.code().value[0], details)
