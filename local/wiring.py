"""What each process of the stack is told through its environment: addresses, keys, credentials."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local.authority import Certificate
from local.issuer.clients import make_clients
from local.issuer.tokens import AUDIENCE, Minter, write_service_token
from local.parts import CheckoutProcess, GrpcProcess, Part, PythonProcess, QueueProcess
from local.prepare import GRANTS
from local.private import kept_secret, signing_keys, symmetric_keys, write_private
from local.servers.envoy import Upstreams
from services.kit.rights import NATS, REDIS

SANDBOX_SECRET_BYTES = 24
OWNER = "owner"
# Who uses a server, beside its owner.
USERS: Mapping[str, Sequence[str]] = {
    "redis": tuple(REDIS),
    "nats": tuple(NATS),
    "postgres": tuple(GRANTS),
}
# Twice as long as the edge takes between two questions for a replica's health.
LAME_DUCK_S = 2


@dataclass(frozen=True)
class Keys:
    """The key files of a stack, below its data folder."""

    folder: Path

    @property
    def files(self) -> dict[str, Path]:
        """Each file by its purpose."""
        names = {
            "buyer_hash": "buyer-hash.json",
            "admission": "admission.json",
            "ticket": "ticket.json",
            "receipt": "receipt.json",
            "issuer": "issuer.json",
            "clients": "clients.json",
            "sandbox": "sandbox.json",
            "service_token": "service-token.jwt",
        }
        return {purpose: self.folder / name for purpose, name in names.items()}

    @property
    def issuer_secret_file(self) -> Path:
        """Has what a client of the issuer's development grant has to know."""
        return self.folder / "issuer-secret"

    @property
    def issuer_secret(self) -> str:
        """The secret itself, made if missing."""
        return kept_secret(self.issuer_secret_file)

    def make(self, issuer: str) -> None:
        """Make the files that are missing, and a new token for the services: the issuer's address is new."""
        files = self.files
        kept_secret(self.issuer_secret_file)
        symmetric_keys(files["buyer_hash"])
        symmetric_keys(files["admission"])
        signing_keys(files["ticket"])
        signing_keys(files["receipt"])
        make_clients(files["clients"])
        if not files["sandbox"].exists():
            api_key, webhook_secret = (secrets.token_hex(SANDBOX_SECRET_BYTES) for _ in range(2))
            write_private(
                files["sandbox"], json.dumps({"api_key": api_key, "webhook_secret": webhook_secret})
            )
        write_service_token(files["service_token"], Minter(files["issuer"], issuer))

    def variables_of_issuer(self, address: str, url: str) -> dict[str, str]:
        """The environment of an issuer that listens at `address` and is reached under `url`."""
        return {
            "CATRACA_ISSUER_LISTEN": address,
            "CATRACA_ISSUER_KEY_FILE": str(self.files["issuer"]),
            "CATRACA_ISSUER_CLIENTS_FILE": str(self.files["clients"]),
            "CATRACA_ISSUER_SECRET_FILE": str(self.issuer_secret_file),
            "CATRACA_SERVICE_TOKEN_FILE": str(self.files["service_token"]),
            "CATRACA_OIDC_ISSUER": url,
        }


@dataclass(frozen=True)
class Wiring:
    """Everything that one process has to know about the others."""

    data: Path
    keys: Keys
    urls: Mapping[str, Mapping[str, str]] = field(repr=False)
    """Each server's URL with credentials, by user."""
    issuer_url: str
    """Also the `iss` of every token."""
    sandbox_url: str
    services: Mapping[str, Part]
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """By the name of who shows it; empty where nobody speaks TLS."""

    @property
    def jwks_url(self) -> str:
        """Where the key that verifies tokens is found."""
        return f"{self.issuer_url}/jwks.json"

    @property
    def targets(self) -> dict[str, str]:
        """gRPC target by service."""
        return {name: part.target for name, part in self.services.items()}

    @property
    def upstreams(self) -> Upstreams:
        """Whom the edge speaks for."""
        addresses = {name: part.addresses for name, part in self.services.items()}
        queues = (
            process for process in self.services["queue"].processes if isinstance(process, QueueProcess)
        )
        addresses["standing"] = [process.standing_address for process in queues]
        return Upstreams(self.issuer_url, self.jwks_url, AUDIENCE, addresses, self.certificates.get("edge"))

    def variables(self, name: str, process: PythonProcess) -> dict[str, str]:
        """The environment of one process of the named part."""
        if name == "issuer":
            return self.keys.variables_of_issuer(process.address, self.issuer_url)
        if name == "sandbox":
            return self._of_sandbox(process)
        variables = self._of_every_service(process) | self._of_one_service(name, process)
        variables |= self._of_servers(name) | self._of_certificate(name)
        if isinstance(process, GrpcProcess):
            variables["CATRACA_METRICS_LISTEN"] = process.metrics_address
            # A replica that is alone has nobody to hand its callers to.
            alone = len(self.services[name].processes) == 1
            variables["CATRACA_LAME_DUCK_S"] = "0" if alone else str(LAME_DUCK_S)
        return variables

    def _of_servers(self, service: str) -> dict[str, str]:
        """Files with the URLs of the servers that this service uses, in place of what we were told."""
        variables = {f"CATRACA_{server.upper()}_URL": "" for server in self.urls}
        for server, urls in self.urls.items():
            if service in urls:
                file = self.keys.folder.parent / "secrets" / f"url-{server}-{service}"
                write_private(file, urls[service])
                variables[f"CATRACA_{server.upper()}_URL_FILE"] = str(file)
        return variables

    def _of_certificate(self, name: str) -> dict[str, str]:
        certificate = self.certificates.get(name)
        if certificate is None:
            return {}
        return {
            "CATRACA_TLS_CERT_FILE": str(certificate.cert),
            "CATRACA_TLS_KEY_FILE": str(certificate.key),
            "CATRACA_TLS_CA_FILE": str(certificate.ca),
            "CATRACA_TLS_CLIENT_CERT_REQUIRED": "true",
        }

    def _of_sandbox(self, process: PythonProcess) -> dict[str, str]:
        called = self.certificates.get("checkout")
        return {
            # By whom it believes where it sends webhooks.
            "CATRACA_TLS_CA_FILE": "" if called is None else str(called.ca),
            "CATRACA_SANDBOX_LISTEN": process.address,
            "CATRACA_SANDBOX_URL": self.sandbox_url,
            "CATRACA_SANDBOX_LEDGER": str(self.data / "sandbox.sqlite"),
            "CATRACA_SANDBOX_KEY_FILE": str(self.keys.files["sandbox"]),
        }

    def _of_every_service(self, process: PythonProcess) -> dict[str, str]:
        files = self.keys.files
        return {
            "CATRACA_LISTEN": process.address,
            # `local.prepare` has made them.
            "CATRACA_STORES_PREPARED": "true",
            "CATRACA_OIDC_ISSUER": self.issuer_url,
            "CATRACA_JWKS_URL": self.jwks_url,
            "CATRACA_AUDIENCE": AUDIENCE,
            "CATRACA_BUYER_HASH_KEY_FILE": str(files["buyer_hash"]),
            "CATRACA_ADMISSION_KEY_FILE": str(files["admission"]),
            "CATRACA_SERVICE_TOKEN_FILE": str(files["service_token"]),
            **{f"CATRACA_{service.upper()}_TARGET": target for service, target in self.targets.items()},
        }

    def _of_one_service(self, name: str, process: PythonProcess) -> dict[str, str]:
        """What only this service needs: a private key goes to the one that signs with it."""
        files = self.keys.files
        if isinstance(process, QueueProcess):
            return {
                "CATRACA_RECEIPT_KEY_FILE": str(files["receipt"]),
                "CATRACA_STANDING_LISTEN": process.standing_address,
            }
        if isinstance(process, CheckoutProcess):
            return {
                "CATRACA_TICKET_KEY_FILE": str(files["ticket"]),
                "CATRACA_WEBHOOK_LISTEN": process.webhook_address,
                "CATRACA_WEBHOOK_URL": f"http{'s' * bool(self.certificates)}://{process.webhook_address}",
                "CATRACA_SANDBOX_URL": self.sandbox_url,
                "CATRACA_SANDBOX_KEY_FILE": str(files["sandbox"]),
            }
        return {}
