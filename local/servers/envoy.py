"""Envoy as the edge: gRPC-web, CORS, rate limits, the first look at tokens; set up by the chart's file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from string import Template

from local.private import write_private
from local.servers import binaries, ports
from local.servers.server import PROBE_TIMEOUT_S, Server

# In a checkout the template lies in the chart; an installed wheel has it beside this module.
_BESIDE = Path(__file__).with_name("envoy.yaml")
TEMPLATE = _BESIDE if _BESIDE.exists() else Path(__file__).parents[2] / "charts/catraca/files/envoy.yaml"

WORKERS = 2
REQUESTS_PER_S = 20_000
# A crowd on one machine has one address.
CLIENT_REQUESTS_PER_S = 20_000
BFF_REQUESTS_PER_S = 20_000


@dataclass(frozen=True)
class Upstreams:
    """Whom the edge speaks for. Addresses are host:port, one per replica."""

    issuer: str
    """The `iss` of valid tokens."""
    jwks_url: str
    audience: str
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """What the template asks for of them."""
        issuer = self.jwks_url.split("/")[2]
        return {
            "OIDC_ISSUER": self.issuer,
            "AUDIENCE": self.audience,
            "JWKS_URL": self.jwks_url,
            "DISCOVERY": "STATIC",
            "ISSUER_ENDPOINTS": endpoints([issuer]),
            **{f"{name.upper()}_ENDPOINTS": endpoints(listed) for name, listed in self.services.items()},
        }


class Envoy(Server):
    """An Envoy in front of the services. Give it `upstreams` before it starts; every start reads them."""

    def __init__(
        self,
        folder: Path,
        name: str = "edge",
        *,
        requests_per_s: int = REQUESTS_PER_S,
        client_requests_per_s: int = CLIENT_REQUESTS_PER_S,
        bff_requests_per_s: int = BFF_REQUESTS_PER_S,
        trusted_hops: int = 0,
    ) -> None:
        """Limits are calls a second: of all, of one address, of one BFF; `trusted_hops` as in the file."""
        super().__init__(name, folder)
        self.config = folder / f"{name}.yaml"
        self.admin_port = ports.reserve()
        self.upstreams: Upstreams | None = None
        self._numbers = {
            "TRUSTED_HOPS": str(trusted_hops),
            "BFF_REQUESTS_PER_S": str(bff_requests_per_s),
            "REQUESTS_PER_S": str(requests_per_s),
            "CLIENT_REQUESTS_PER_S": str(client_requests_per_s),
        }

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def prepare(self) -> None:
        if self.upstreams is None:
            raise RuntimeError(f"{self.name} was told of no upstreams")
        values = {
            "LISTEN_ADDRESS": ports.HOST,
            "LISTEN_PORT": str(self.port),
            "ADMIN_ADDRESS": ports.HOST,
            "ADMIN_PORT": str(self.admin_port),
            # Pages of this machine only, whatever their port: the storefront while one works on it.
            "ALLOWED_ORIGINS": json.dumps(
                [{"safe_regex": {"regex": r"http://(localhost|127\.0\.0\.1)(:[0-9]+)?"}}]
            ),
            **self._numbers,
            **self.upstreams.values(),
        }
        write_private(self.config, render(TEMPLATE.read_text(), values))

    def command(self) -> Sequence[str]:
        return [
            str(binaries.envoy()),
            *("--config-path", str(self.config)),
            *("--concurrency", str(WORKERS)),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ]

    def probe(self) -> None:
        # Its listener opens once every upstream was asked for its health and the issuer for its keys.
        connection = HTTPConnection(self.address, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise ConnectionError(f"/healthz answered {answer.status}")
        finally:
            connection.close()


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with its words replaced. Raises KeyError for a word without a value."""
    return Template(template).substitute(values)


def endpoints(addresses: Sequence[str]) -> str:
    """Addresses, host:port each, as the JSON list of lb_endpoints that the template wants."""
    listed = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        socket = {"address": host, "port_value": int(port)}
        listed.append({"endpoint": {"address": {"socket_address": socket}}})
    return json.dumps(listed)
