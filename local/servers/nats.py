"""NATS with JetStream on disk."""

import json
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from local.authority import Certificate
from local.private import kept_secret, write_private
from local.server_users import nats_user
from local.servers import binaries, ports
from local.servers.server import Store
from services.kit.rights import NATS

USER = "catraca"
CONFIG = """\
server_name: "catraca"
listen: "{host}:{port}"
max_payload: 8MB
authorization {{ users: {users} }}
{tls}
jetstream {{
  store_dir: "{data}"
  {sync}
}}
"""


class Nats(Store):
    """A NATS server. `kill9` and `start` again keep port, passwords and streams.

    `url` is its owner's, who may do everything; each service has a user with the rights it needs. With a
    `certificate` it takes nobody without TLS.

    With `sync_always` (the default) a publish is answered when it is on disk: one node has no replica to fall
    back on. Without it JetStream syncs every two minutes and is about six times as fast.
    """

    def __init__(
        self,
        folder: Path,
        name: str = "nats",
        *,
        sync_always: bool = True,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(name, folder)
        self.data = folder / "nats"
        self.config = folder / "nats.conf"
        self._sync_always = sync_always
        self._certificate = certificate
        self._password = kept_secret(folder / "secrets" / "nats")

    @property
    def url(self) -> str:
        return f"{self._scheme}://{USER}:{self._password}@{self.address}"

    def url_for(self, user: str) -> str:
        """The URL of a user of `services.kit.rights.NATS`."""
        return f"{self._scheme}://{user}:{self.password_of(user)}@{self.address}"

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        write_private(self.config, self.configuration(ports.HOST, self.port, self.data))

    def configuration(self, host: str, port: int, data: Path) -> str:
        """The configuration file of a server that listens there and keeps its data there."""
        return CONFIG.format(
            host=host,
            port=port,
            # JSON is what this file format understands too.
            users=json.dumps(
                [
                    {"user": USER, "password": self._password},
                    *(nats_user(name, self.password_of(name)) for name in NATS),
                ]
            ),
            data=data,
            sync="sync_interval: always" if self._sync_always else "",
            tls=self._tls(),
        )

    @property
    def _scheme(self) -> str:
        return "nats" if self._certificate is None else "tls"

    def _tls(self) -> str:
        if self._certificate is None:
            return ""
        files = {"cert_file": str(self._certificate.cert), "key_file": str(self._certificate.key)}
        return f"tls: {json.dumps(files)}"

    def command(self) -> Sequence[str]:
        return [str(binaries.nats_server()), "--config", str(self.config)]

    def _greeted(self, connection: socket.socket, hello: bytes) -> bytes:
        """The first line of the answer."""
        if self._certificate is not None:
            context = ssl.create_default_context(cafile=str(self._certificate.ca))
            connection = context.wrap_socket(connection, server_hostname=ports.HOST)
        connection.sendall(hello)
        return connection.makefile("rb").readline()

    def probe(self) -> None:
        hello = {"user": USER, "pass": self._password, "verbose": False, "pedantic": False}
        with self.connect() as connection:
            lines = connection.makefile("rb")
            info = json.loads(lines.readline().removeprefix(b"INFO "))
            if not info.get("jetstream"):
                raise ConnectionError("JetStream is not enabled yet")
            answer = self._greeted(connection, f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
        if answer != b"PONG\r\n":
            raise ConnectionError(f"unexpected answer {answer!r}")
