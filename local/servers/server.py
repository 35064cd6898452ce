"""What Redis, NATS and Postgres have in common: a port, secrets in files, a start that is retried."""

import secrets
import socket
from pathlib import Path

from local.servers import ports
from local.servers.process import Process, StartFailed

PORT_TRIES = 5
PROBE_TIMEOUT_S = 1.0


class Server(Process):
    """A server on 127.0.0.1 with its data under one folder. `url` carries credentials."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.port = ports.reserve()

    @property
    def url(self) -> str:
        """Address and credentials in one URL. Never log it."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Address without credentials, to show."""
        return f"{ports.HOST}:{self.port}"

    def launch(self, timeout_s: float = 60.0) -> None:
        """Start for the first time and wait: if somebody else was faster at the port, take another."""
        for attempt in range(PORT_TRIES):
            self.start()
            try:
                self.wait_ready(timeout_s)
                return
            except StartFailed as failure:
                if not failure.port_was_taken or attempt == PORT_TRIES - 1:
                    raise
                ports.release(self.port)
                self.port = ports.reserve()

    def connect(self) -> socket.socket:
        """A plain TCP connection for the probe."""
        return socket.create_connection((ports.HOST, self.port), PROBE_TIMEOUT_S)


def kept_secret(path: Path) -> str:
    """The secret in the file, made at first use. Only its owner may read it."""
    if not path.exists():
        write_private(path, secrets.token_hex(24))
    return path.read_text()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.replace(path)
