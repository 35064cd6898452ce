"""Redis 6.2 or newer with an append-only file synced at every write, as inventory and queue expect it."""

from collections.abc import Sequence
from pathlib import Path

from local.private import kept_secret, write_private
from local.server_users import redis_user
from local.servers import binaries, ports
from local.servers.server import Store
from services.kit.rights import REDIS

CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir "{data}"
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
loglevel notice
{users}
"""


class Redis(Store):
    """A Redis server. `kill9` and `start` again keep port, passwords and data.

    `url` is its owner's, who may do everything; each service has a user with the rights it needs.
    """

    def __init__(self, folder: Path, name: str = "redis") -> None:
        super().__init__(name, folder)
        self.data = folder / "redis"
        self.config = folder / "redis.conf"
        self._password = kept_secret(folder / "secrets" / "redis")

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{self.address}/0"

    def url_for(self, user: str) -> str:
        """The URL of a user of `services.kit.rights.REDIS`."""
        return f"redis://{user}:{self.password_of(user)}@{self.address}/0"

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        write_private(self.config, self.configuration(ports.HOST, self.port, self.data))

    def configuration(self, host: str, port: int, data: Path) -> str:
        """The configuration file of a server that listens there and keeps its data there."""
        return CONFIG.format(
            host=host,
            port=port,
            password=self._password,
            data=data,
            users="\n".join(f"user {redis_user(name, self.password_of(name))}" for name in REDIS),
        )

    def command(self) -> Sequence[str]:
        return [str(binaries.redis_server()), str(self.config)]

    def probe(self) -> None:
        # While the append-only file is loaded, PING is answered with an error.
        with self.connect() as connection:
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                received = connection.recv(256)
                if not received:
                    break
                answer += received
        if answer != b"+OK\r\n+PONG\r\n":
            raise ConnectionError(f"unexpected answer {answer!r}")
