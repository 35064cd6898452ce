"""Metrics that a test sets, served as `external.metrics.k8s.io` for the autoscaler to read.

Only the API server's aggregator may ask: whoever else connects has no certificate of the front proxy.
"""

import base64
import json
import ssl
import sys
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from local.servers import ports
from tests.cluster.plane.api import Api, Json
from tests.cluster.plane.certificates import Authority, Pair

GROUP = "external.metrics.k8s.io"
VERSION = "v1beta1"
PREFIX = f"/apis/{GROUP}/{VERSION}"
SERVICE = "external-metrics"
NAMESPACE = "kube-system"
RIGHTS = "rbac.authorization.k8s.io"


class ExternalMetrics:
    """A server with a value for each (namespace, metric) that was set. A metric not set has no items."""

    def __init__(self, serving: Pair, front_proxies: Authority) -> None:
        self._values: dict[tuple[str, str], str] = {}
        self._server = _Server((ports.HOST, 0), self._handler())
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(front_proxies.certificate))
        context.load_cert_chain(serving.certificate, serving.key)
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name=SERVICE, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self._server.server_address[1])

    def set(self, namespace: str, metric: str, value: float | str) -> None:
        """What the autoscaler reads from now on; text is a quantity such as `250m`."""
        self._values[namespace, metric] = str(value)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> Json | None:
        """The object at a path; None where there is none."""
        if path == PREFIX:
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{GROUP}/{VERSION}",
                "resources": [],
            }
        match path.removeprefix(f"{PREFIX}/").split("/"):
            case ["namespaces", namespace, metric]:
                return self._listed(namespace, metric)
        return None

    def _listed(self, namespace: str, metric: str) -> Json:
        value = self._values.get((namespace, metric))
        timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        item: Json = {"metricName": metric, "metricLabels": {}, "timestamp": timestamp, "value": value}
        return {
            "kind": "ExternalMetricValueList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {},
            "items": [item] if value is not None else [],
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_GET(self) -> None:
                found = metrics.answer(self.path.partition("?")[0])
                body = json.dumps(found or {}).encode()
                self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """The API server asks every second: nobody wants to read that."""

        return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """The aggregator drops connections as it likes; any other error is ours and is shown."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def register(api: Api, port: int, authority_pem: bytes) -> None:
    """Tell the API server of the metrics on a port, and let the autoscaler read them."""
    spec = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    metadata = {"name": SERVICE, "namespace": NAMESPACE}
    services = f"/api/v1/namespaces/{NAMESPACE}/services"
    api.create(services, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    registration = {
        "group": GROUP,
        "version": VERSION,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {**metadata, "port": port},
        "caBundle": base64.b64encode(authority_pem).decode(),
    }
    _create(api, "apiregistration.k8s.io", "APIService", f"{VERSION}.{GROUP}", {"spec": registration})
    rules = [{"apiGroups": [GROUP], "resources": ["*"], "verbs": ["get", "list"]}]
    _create(api, RIGHTS, "ClusterRole", SERVICE, {"rules": rules})
    account = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": NAMESPACE}
    role = {"apiGroup": RIGHTS, "kind": "ClusterRole", "name": SERVICE}
    _create(api, RIGHTS, "ClusterRoleBinding", SERVICE, {"roleRef": role, "subjects": [account]})


def _create(api: Api, group: str, kind: str, name: str, content: Json) -> None:
    head = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}}
    api.create(f"/apis/{group}/v1/{kind.lower()}s", {**head, **content})
