"""Envoy as the edge: gRPC-web, CORS, rate limits, the first look at tokens; set up by the chart's file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Any

from local.authority import Certificate
from local.private import write_private
from local.servers import binaries, ports
from local.servers.server import Server, connection_to

# In a checkout the template lies in the chart; an installed wheel has it beside this module.
_BESIDE = Path(__file__).with_name("envoy.yaml")
TEMPLATE = _BESIDE if _BESIDE.exists() else Path(__file__).parents[2] / "charts/catraca/files/envoy.yaml"

WORKERS = 2
CALLED = ("queue", "inventory", "checkout", "notifier")
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
    certificate: Certificate | None = None
    """What the edge shows, to browsers and to services, and whom it believes; None for no TLS anywhere."""

    def values(self, folder: Path) -> dict[str, str]:
        """What the template asks for of them. What Envoy watches for new certificates lies in the folder."""
        issuer = self.jwks_url.split("/")[2]
        return {
            "OIDC_ISSUER": self.issuer,
            "AUDIENCE": self.audience,
            "JWKS_URL": self.jwks_url,
            "DISCOVERY": "STATIC",
            "ISSUER_ENDPOINTS": endpoints([issuer]),
            "ISSUER_TRANSPORT": PLAIN,
            **self._transports(folder),
            **{f"{name.upper()}_ENDPOINTS": endpoints(listed) for name, listed in self.services.items()},
        }

    def _transports(self, folder: Path) -> dict[str, str]:
        names = [f"{service.upper()}_TRANSPORT" for service in CALLED]
        if self.certificate is None:
            return dict.fromkeys(["LISTEN_TRANSPORT", *names], PLAIN)
        files = secrets_files(folder, self.certificate)
        hosts = {address.rpartition(":")[0] for listed in self.services.values() for address in listed}
        return {
            "LISTEN_TRANSPORT": listening(files),
            **dict.fromkeys(names, calling(files, sorted(hosts))),
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
        ciphered = self.upstreams is not None and self.upstreams.certificate is not None
        return f"{'https' if ciphered else 'http'}://{self.address}"

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
            **self.upstreams.values(self.folder),
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
        connection = connection_to(self.address, self.upstreams.certificate if self.upstreams else None)
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


_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets"
PLAIN = json.dumps(
    {"name": "plain", "typed_config": {"@type": f"{_TYPES}.raw_buffer.v3.RawBuffer"}}, separators=(",", ":")
)


def listening(files: Mapping[str, Path]) -> str:
    """The transport socket of a listener: TLS for whoever comes, with HTTP/2 where they can."""
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [_watched("identity", files)],
    }
    return _socket("DownstreamTlsContext", {"common_tls_context": common})


def calling(files: Mapping[str, Path], names: Sequence[str]) -> str:
    """The transport socket to a service whose certificate bears one of these names or addresses."""
    kinds = {name: "DNS" if any(letter.isalpha() for letter in name) else "IP_ADDRESS" for name in names}
    believed = [{"san_type": kind, "matcher": {"exact": name}} for name, kind in kinds.items()]
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "alpn_protocols": ["h2"],
        "tls_certificate_sds_secret_configs": [_watched("identity", files)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": believed},
            "validation_context_sds_secret_config": _watched("authorities", files),
        },
    }
    return _socket("UpstreamTlsContext", {"common_tls_context": common})


def secrets_files(folder: Path, certificate: Certificate) -> dict[str, Path]:
    """Files that tell Envoy which certificates to read, and to read them again when their folder changes."""
    chain, key = ({"filename": str(file)} for file in (certificate.cert, certificate.key))
    watched = {"path": str(certificate.cert.parent)}
    told = {
        "identity": {
            "tls_certificate": {"certificate_chain": chain, "private_key": key, "watched_directory": watched}
        },
        "authorities": {
            "validation_context": {
                "trusted_ca": {"filename": str(certificate.ca)},
                "watched_directory": {"path": str(certificate.ca.parent)},
            }
        },
    }
    files = {}
    for name, secret in told.items():
        files[name] = folder / f"edge-{name}.json"
        resource = {"@type": f"{_TYPES}.tls.v3.Secret", "name": name, **secret}
        write_private(files[name], json.dumps({"resources": [resource]}))
    return files


def _watched(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    return {"name": name, "sds_config": {"path_config_source": {"path": str(files[name])}}}


def _socket(kind: str, content: Mapping[str, Any]) -> str:
    typed = {"@type": f"{_TYPES}.tls.v3.{kind}", **content}
    return json.dumps({"name": "tls", "typed_config": typed}, separators=(",", ":"))


def endpoints(addresses: Sequence[str]) -> str:
    """Addresses, host:port each, as the JSON list of lb_endpoints that the template wants."""
    listed = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        socket = {"address": host, "port_value": int(port)}
        listed.append({"endpoint": {"address": {"socket_address": socket}}})
    return json.dumps(listed)
