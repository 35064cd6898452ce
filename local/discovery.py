"""How a command in another terminal finds the running stack: a file in the data folder, and a lock."""

import fcntl
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from local.failure import Failure
from local.issuer.tokens import Minter
from local.private import write_private

DEFAULT_DATA = Path(".catraca")
FILE = "stack.json"
LOCK = "stack.lock"


class NotRunning(Failure):
    """No stack runs in this data folder."""


class AlreadyRunning(Failure):
    """Another stack runs in this data folder."""


@dataclass(frozen=True)
class RunningStack:
    """Where the parts of a running stack are. Its file is private: the URLs hold passwords."""

    data: str
    """The data folder, absolute."""
    pid: int
    """The process that supervises the parts."""
    redis_url: str = field(repr=False)
    nats_url: str = field(repr=False)
    postgres_url: str = field(repr=False)
    auditor: dict[str, str] = field(repr=False)
    """The servers' URLs for who only reads, as an audit does; those above are the owner's."""
    issuer: str
    """The `iss` of valid tokens, which is also the issuer's URL."""
    jwks_url: str
    issuer_secret: str = field(repr=False)
    """What POST /token asks for, as a bearer token."""
    sandbox_url: str
    """The sandbox payment provider."""
    edge_url: str
    """Where browsers reach the services, over gRPC-web."""
    certificate: dict[str, str]
    """Files `cert`, `key` and `ca` for who speaks to the services; empty where there is no TLS."""
    targets: dict[str, str]
    """gRPC target by service."""
    metrics: dict[str, list[str]]
    """Where Prometheus reads each service's replicas."""
    pids: dict[str, list[int]]
    """Process ids by part, one per replica."""
    keys: dict[str, str]
    """Key files by purpose, as `local.wiring.Keys` names them."""

    def minter(self) -> Minter:
        """Mints tokens that the running services accept."""
        return Minter(Path(self.keys["issuer"]), self.issuer)

    def write(self) -> None:
        """Announce the stack."""
        write_private(Path(self.data) / FILE, json.dumps(asdict(self), indent=2))


def find(data: Path) -> RunningStack:
    """The stack that runs in this data folder. Raises NotRunning if there is none."""
    hint = f"no stack runs in {data}: start one with `catraca up --data {data}`"
    if not (data / FILE).exists() or not (data / LOCK).exists():
        raise NotRunning(hint)
    try:
        lock(data).close()
    except AlreadyRunning:
        return RunningStack(**json.loads((data / FILE).read_text()))
    raise NotRunning(hint)


def lock(data: Path) -> IO[str]:
    """Claim the data folder until the returned file is closed, or its process ends in whatever way."""
    data.mkdir(parents=True, exist_ok=True)
    file = (data / LOCK).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise AlreadyRunning(f"a stack already runs in {data}") from None
    return file


def forget(data: Path) -> None:
    """Withdraw what `RunningStack.write` announced."""
    (data / FILE).unlink(missing_ok=True)
