"""Who may ask for tokens: public clients (browsers) and those with a secret (services, BFFs)."""

import json
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2.rfc6749 import ClientMixin

from local.issuer.tokens import DEFAULT_NAMESPACE
from local.private import write_private

PLAIN_SCOPES = ("openid", "profile", "offline_access")
SECRET_BYTES = 24
CALLBACKS = [
    "http://127.0.0.1/",
    "http://127.0.0.1/callback",
    "http://localhost/",
    "http://localhost/callback",
]


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc]
    """A program that asks for tokens. One with a secret acts for itself, one without for whoever signs in."""

    id: str
    roles: list[str]
    """What its tokens may carry; each is also a scope."""
    namespace: str = DEFAULT_NAMESPACE
    redirect_uris: list[str] = field(default_factory=list)
    """Where a browser may be sent back to. On the loopback address any port will do (RFC 8252, 7.3)."""
    secret: str = field(default="", repr=False)

    def get_client_id(self) -> str:
        """As the library asks."""
        return self.id

    def get_default_redirect_uri(self) -> str | None:
        """None: whoever asks says where to."""
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        """Of what was asked for, what this client may have; its roles where it asked for none of them."""
        asked = [each for each in (scope or "").split() if each in PLAIN_SCOPES or each in self.roles]
        if not any(each in self.roles for each in asked):
            asked += self.roles
        return " ".join(dict.fromkeys(asked))

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether it is registered, character by character but for the port of a loopback address."""
        return _without_loopback_port(redirect_uri) in self.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether it is this client's."""
        return bool(self.secret) and secrets.compare_digest(self.secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A client with a secret shows it."""
        return (method == "none") == (not self.secret)

    def check_response_type(self, response_type: str) -> bool:
        """Browsers ask for a code."""
        return response_type == "code" and not self.secret

    def check_grant_type(self, grant_type: str) -> bool:
        """What the token endpoint does for it."""
        return grant_type in (
            ("client_credentials",) if self.secret else ("authorization_code", "refresh_token")
        )


def registered(path: Path) -> dict[str, Client]:
    """The clients in a file, by id."""
    return {entry["id"]: Client(**entry) for entry in json.loads(path.read_text())}


def make_clients(path: Path) -> None:
    """A file with the clients that a development stack has, unless there is one."""
    if not path.exists():
        write_private(path, json.dumps(development_clients(), indent=2))


def development_clients() -> list[dict[str, Any]]:
    """Two clients for browsers, one BFF and one service, with new secrets."""
    front, service = (secrets.token_hex(SECRET_BYTES) for _ in range(2))
    return [
        {"id": "storefront", "roles": ["buyer"], "redirect_uris": CALLBACKS},
        {"id": "control-room", "roles": ["organiser", "staff"], "redirect_uris": CALLBACKS},
        {"id": "front", "roles": ["bff"], "namespace": "shop", "secret": front},
        {"id": "service", "roles": ["service"], "secret": service},
    ]


def _without_loopback_port(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return uri
    if port is None or parts.netloc != f"{host}:{port}" or not _loopback(host):
        return uri
    return uri.replace(parts.netloc, host, 1)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
