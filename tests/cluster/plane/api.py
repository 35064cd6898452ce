"""The API server's HTTP interface in plain values: objects are mappings, refusals are exceptions."""

import json
import ssl
from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

TIMEOUT_S = 30.0
# Who owns the fields that are applied, where a test does not say otherwise.
MANAGER = "catraca-tests"

Json = dict[str, Any]


class Refused(Exception):
    """The API server said no. `status` is its Status object."""

    def __init__(self, status: Json) -> None:
        super().__init__(f"{status.get('code')} {status.get('reason')}: {status.get('message')}")
        self.status = status

    @property
    def code(self) -> int:
        """The HTTP status."""
        return int(self.status.get("code", 0))

    @property
    def causes(self) -> list[tuple[str, str]]:
        """The fields at fault with what is wrong with each, as the server names them."""
        causes = (self.status.get("details") or {}).get("causes") or []
        return [(each.get("field", ""), each.get("message", "")) for each in causes]


class Api:
    """Calls with the identity of a kubeconfig that this package wrote. One connection per call."""

    def __init__(self, kubeconfig: Path) -> None:
        content = json.loads(kubeconfig.read_text())
        cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
        self._address = cluster["server"].removeprefix("https://")
        self._trust = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            self._trust.load_cert_chain(user["client-certificate"], user["client-key"])

    def get(self, path: str, **query: Any) -> Json:
        """An object or a list."""
        return self._call("GET", path, query)

    def text(self, path: str) -> str:
        """What is not JSON, such as the server's own metrics."""
        with closing(self._connect(TIMEOUT_S)) as connection:
            connection.request("GET", path, headers={**self._headers, "Accept": "text/plain"})
            return _accepted(connection.getresponse()).read().decode()

    def create(self, path: str, body: Json, **query: Any) -> Json:
        """Create an object in the collection at `path`; what was stored."""
        return self._call("POST", path, query, body, "application/json")

    def merge(self, path: str, body: Json, **query: Any) -> Json:
        """Merge into the object at `path`: lists are replaced whole, a null takes a field away."""
        return self._call("PATCH", path, query, body, "application/merge-patch+json")

    def apply(self, path: str, body: Json, **query: Any) -> Json:
        """Server-side apply to the object at `path`, which is created where there is none."""
        query = {"fieldManager": MANAGER, **query}
        return self._call("PATCH", path, query, body, "application/apply-patch+yaml")

    def delete(self, path: str, body: Json | None = None) -> Json:
        """Delete the object at `path`."""
        return self._call("DELETE", path, {}, body, "application/json")

    def watch(self, path: str, timeout_s: int, **query: Any) -> Iterator[Json]:
        """Events of a collection until the server ends the watch. Raises Refused when it breaks off."""
        asked = {**query, "watch": "true", "timeoutSeconds": timeout_s}
        with closing(self._connect(timeout_s + TIMEOUT_S)) as connection:
            connection.request("GET", _with_query(path, asked), headers=self._headers)
            for line in _accepted(connection.getresponse()):
                event = cast("Json", json.loads(line))
                if event["type"] == "ERROR":
                    raise Refused(event["object"])
                yield event

    def _call(self, method: str, path: str, query: Json, body: Json | None = None, kind: str = "") -> Json:
        headers = {**self._headers, "Content-Type": kind} if body is not None else self._headers
        content = json.dumps(body) if body is not None else None
        with closing(self._connect(TIMEOUT_S)) as connection:
            connection.request(method, _with_query(path, query), content, headers)
            return cast("Json", json.load(_accepted(connection.getresponse())))

    def _connect(self, timeout_s: float) -> HTTPSConnection:
        return HTTPSConnection(self._address, timeout=timeout_s, context=self._trust)


def _accepted(response: HTTPResponse) -> HTTPResponse:
    if response.status < HTTPStatus.BAD_REQUEST:
        return response
    text = response.read().decode(errors="replace")
    try:
        status = json.loads(text)
    except ValueError:
        status = {"code": response.status, "reason": response.reason, "message": text}
    raise Refused(status)


def _with_query(path: str, query: Json) -> str:
    return f"{path}?{urlencode(query)}" if query else path
