"""Postgres on loopback TCP with SCRAM passwords and a database `catraca`."""

import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from local.private import kept_secret
from local.servers import binaries, ports
from local.servers.process import StartFailed, guarded
from local.servers.server import Store

USER = "catraca"
DATABASE = "catraca"
PROTOCOL_3_0 = 196_608
# Postgres refuses to run as root. In a user namespace it is user 1000 while the files stay root's own.
UNPRIVILEGED = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
SETTINGS = {
    "listen_addresses": ports.HOST,
    "unix_socket_directories": "",  # a socket's path may have 107 characters at most: temp folders exceed it
    "fsync": "on",
    "max_connections": "100",
    "timezone": "UTC",
    "jit": "off",  # compiling a short query takes longer than running it
    "dynamic_shared_memory_type": "mmap",  # leaves nothing in /dev/shm after a kill -9
}


class Postgres(Store):
    """A Postgres server. `kill9` and `start` again keep port, password and data."""

    # Fast shutdown: open connections are ended, the rest is checkpointed.
    stop_signal = signal.SIGINT
    stop_timeout_s = 30.0

    def __init__(self, folder: Path, name: str = "postgres") -> None:
        super().__init__(name, folder)
        self.data = folder / "postgres"
        self._password_file = folder / "secrets" / "postgres"
        self._password = kept_secret(self._password_file)

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database on this server."""
        return f"postgresql://{USER}:{self._password}@{self.address}/{database}"

    def url_for(self, user: str) -> str:
        """The URL of a user that `local.prepare` makes."""
        return f"postgresql://{user}:{self.password_of(user)}@{self.address}/{DATABASE}"

    def create_database(self, database: str) -> str:
        """Create an empty database and return its URL."""
        self._psql(f'CREATE DATABASE "{database}"')
        return self.url_of(database)

    def drop_database(self, database: str) -> None:
        """Drop a database, ending whoever is connected to it."""
        self._psql(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._forget_dead_postmaster()

    def command(self) -> Sequence[str]:
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        return _as_allowed_user("postgres", "-D", str(self.data), "-p", str(self.port), *settings)

    def environment(self) -> Mapping[str, str]:
        return _without_pg_variables()

    def probe(self) -> None:
        # A server that is still recovering answers the start-up message with an error, a ready one asks for
        # the password: so no password and no client library is needed to know.
        parameters = f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        with self.connect() as connection:
            connection.sendall(struct.pack("!ii", len(parameters) + 8, PROTOCOL_3_0) + parameters)
            answer = connection.recv(512)
        if not answer.startswith(b"R"):
            raise ConnectionError(f"not accepting connections yet: {answer[5:].decode(errors='replace')!r}")

    def _initialise(self) -> None:
        # Made beside and renamed when complete: an interrupted first start leaves nothing half done.
        draft = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(draft, ignore_errors=True)
        self._run(
            _as_allowed_user(
                "initdb",
                *("-D", str(draft), "-U", USER, "-E", "UTF8", "--locale=C", "--no-instructions"),
                *("-A", "scram-sha-256", f"--pwfile={self._password_file}"),
            )
        )
        self._run(
            _as_allowed_user("postgres", "--single", "-D", str(draft), "postgres"),
            stdin=f"CREATE DATABASE {DATABASE}\n",
        )
        shutil.rmtree(self.data, ignore_errors=True)
        draft.rename(self.data)

    def _forget_dead_postmaster(self) -> None:
        """Drop the lock file of a killed server: its id may belong to another program by now, and Postgres
        would refuse to start for it."""
        lock = self.data / "postmaster.pid"
        try:
            holder = psutil.Process(int(lock.read_text().split()[0]))
            if holder.name() == "postgres" and str(self.data) in holder.cmdline():
                return
        except FileNotFoundError:
            return
        except (psutil.Error, ValueError, IndexError):
            pass
        lock.unlink(missing_ok=True)

    def _psql(self, statement: str) -> None:
        self._run(
            [
                str(binaries.postgres("psql")),
                *("-h", ports.HOST, "-p", str(self.port), "-U", USER, "-d", DATABASE),
                *("-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement),
            ],
            PGPASSWORD=self._password,
        )

    def _run(self, command: Sequence[str], stdin: str = "", **variables: str) -> None:
        done = subprocess.run(
            guarded(command),
            input=stdin,
            env=_without_pg_variables() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            program = next(part for part in command if part not in UNPRIVILEGED)
            raise StartFailed(self.name, f"{Path(program).name} failed", (done.stdout + done.stderr).strip())


def _as_allowed_user(program: str, *arguments: str) -> list[str]:
    command = [str(binaries.postgres(program)), *arguments]
    if os.geteuid() != 0:
        return command
    if sys.platform != "linux" or not _namespaces_allowed():
        raise StartFailed(
            "postgres",
            "it refuses to run as root, and this machine allows no user namespace to root: "
            "run as another user, or set CATRACA_POSTGRES_URL to a running server",
            "",
        )
    return UNPRIVILEGED + command


def _namespaces_allowed() -> bool:
    try:
        return subprocess.run([*UNPRIVILEGED, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _without_pg_variables() -> dict[str, str]:
    # A PGPORT or PGDATA of the person at the keyboard is about another server.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
