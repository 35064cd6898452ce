"""What Redis, NATS and Postgres have in common: a port, secrets in files, a start that is retried."""

import abc
import socket
import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

from local.authority import Certificate
from local.private import kept_secret
from local.servers import ports
from local.servers.process import Process, StartFailed

PORT_TRIES = 5
PROBE_TIMEOUT_S = 1.0


class Server(Process):
    """A server on 127.0.0.1 with its data under one folder. `url` carries credentials."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.port = ports.reserve()
        self._settled = False
        self._moves = 0

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Address and credentials in one URL. Never log it."""

    @property
    def address(self) -> str:
        return f"{ports.HOST}:{self.port}"

    def launch(self, timeout_s: float = 60.0) -> None:
        """Start and wait. Until it was ready once, it moves on if somebody else took its port meanwhile."""
        while True:
            self.start()
            try:
                self.wait_ready(timeout_s)
            except StartFailed as failure:
                self._move_or_raise(failure)
            else:
                self._settled = True
                return

    async def up(self, timeout_s: float = 60.0) -> None:
        """As `launch`, without blocking the event loop."""
        while True:
            try:
                await super().up(timeout_s)
            except StartFailed as failure:
                self._move_or_raise(failure)
            else:
                self._settled = True
                return

    def _move_or_raise(self, failure: StartFailed) -> None:
        self._moves += 1
        if self._settled or not failure.port_was_taken or self._moves > PORT_TRIES:
            raise failure
        ports.release(self.port)
        self.port = ports.reserve()

    def connect(self) -> socket.socket:
        """A plain TCP connection for the probe."""
        return socket.create_connection((ports.HOST, self.port), PROBE_TIMEOUT_S)


def connection_to(address: str, certificate: Certificate | None) -> HTTPConnection:
    """A connection for a probe of HTTP, with TLS where the server has a certificate."""
    if certificate is None:
        return HTTPConnection(address, timeout=PROBE_TIMEOUT_S)
    context = ssl.create_default_context(cafile=str(certificate.ca))
    return HTTPSConnection(address, timeout=PROBE_TIMEOUT_S, context=context)


class Store(Server):
    """A server with users: `url` is its owner's, who may do everything, and is for no service."""

    @abc.abstractmethod
    def url_for(self, user: str) -> str:
        """Address and credentials of a user with the rights it needs. Never log it."""

    def password_of(self, user: str) -> str:
        """The user's password, made at first use and kept in a file that only the server's owner may read."""
        return kept_secret(self.folder / "secrets" / f"{self.name}-{user}")
