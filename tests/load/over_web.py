"""The same calls over gRPC-web through the edge, as a browser makes them: HTTP/1.1, a connection per call."""

import base64
import binascii
from collections import deque
from typing import Any

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPSocketResponse

from tests.load.frames import HEAD, TRAILERS, framed, opened, trailers_of
from tests.load.methods import DEADLINE_S, Method
from tests.load.words import DETAILS_KEY, word_of

CONTENT = "application/grpc-web+proto"


class OverWeb:
    """A pool of connections to the edge."""

    def __init__(self, edge: str, lanes: int, streams: int) -> None:
        """`lanes` calls at once, and beside them `streams` that stay open."""
        host, _, port = edge.rpartition(":")
        self._http = HTTPClient(
            host, int(port), concurrency=lanes + streams + 1, network_timeout=DEADLINE_S, disable_ipv6=True
        )
        self._open: deque[HTTPSocketResponse] = deque()
        self._streams = streams

    def call(self, method: Method, request: Any, token: str) -> tuple[str, Any]:
        """The word of the answer, and the answer; of a stream, the first message."""
        headers = {
            "content-type": CONTENT,
            "accept": CONTENT,
            "x-grpc-web": "1",
            "grpc-timeout": f"{DEADLINE_S}S",
            "authorization": f"Bearer {token}",
        }
        if method.streams:
            # Its time is not bounded, as in a browser.
            del headers["grpc-timeout"]
        try:
            response = self._http.request(
                "POST", method.path, framed(request.SerializeToString()), headers=headers
            )
            return self._first(method, response) if method.streams else self._whole(method, response)
        except TimeoutError:
            return "DEADLINE", None
        except OSError:
            return "UNAVAILABLE", None

    def _whole(self, method: Method, response: HTTPSocketResponse) -> tuple[str, Any]:
        message, trailers = opened(bytes(response.read()))
        # A refusal without a message has its trailers among the headers.
        word = _word(trailers or {name.lower(): value for name, value in response.items()})
        return word, method.answer.FromString(message) if word == "OK" else None

    def _first(self, method: Method, response: HTTPSocketResponse) -> tuple[str, Any]:
        head = bytes(response.read(HEAD.size))
        if len(head) < HEAD.size:
            return _word({name.lower(): value for name, value in response.items()}), None
        kind, length = HEAD.unpack(head)
        body = bytes(response.read(length))
        if kind & TRAILERS:
            return _word(trailers_of(body)), None
        self._open.append(response)
        if len(self._open) > self._streams:
            # What is dropped unread closes its connection, which is how a browser leaves.
            self._open.popleft()
        return "OK", method.answer.FromString(body)


def _word(trailers: dict[str, str]) -> str:
    text = trailers.get(DETAILS_KEY)
    try:
        details = base64.b64decode(text + "=" * (-len(text) % 4)) if text else None
        return word_of(int(trailers["grpc-status"]), details)
    except (KeyError, ValueError, binascii.Error):
        return "UNKNOWN"
