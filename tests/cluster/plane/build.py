"""Builds the control plane's programs from their Go modules into the cache: `make plane`.

One build at a time, by a lock; a group of programs appears in the cache whole or not at all, so a test run
never sees half of one. What is there already is not built again.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from local.servers.process import guarded
from tests.cluster.plane.programs import ENVIRONMENT, FLAGS, GROUPS, Group, cache_folder, failure_note
from tests.cluster.plane.toolchain import NoGo, find_go

REPORT_EVERY_S = 15.0
TAIL_LINES = 12
UNREACHABLE = (
    "the Go modules of the control plane could not be fetched: they come from a Go module proxy, "
    "and this machine reaches none"
)
# Go says so of modules that it got and does not trust; anything else means that it did not get them.
_NOT_THE_NETWORK = ("SECURITY ERROR", "checksum mismatch", "updates to go.mod needed", "missing go.sum entry")


class BuildFailed(Exception):
    """A group of programs could not be built; the message says why."""


def build_all() -> None:
    """Build what is not in the cache yet. Raises BuildFailed or NoGo."""
    if all(group.built for group in GROUPS):
        return
    with _alone():
        missing = [group for group in GROUPS if not group.built]
        if not missing:
            return
        for draft in cache_folder().glob(".*"):
            shutil.rmtree(draft)  # of a build that was killed
        print(f"Building {', '.join(group.name for group in missing)} into {cache_folder()}", flush=True)
        print("This is done once and takes several minutes of all cores.", flush=True)
        go = find_go()
        with _go_environment(go) as environment:
            for group in missing:
                build(group, go, environment)


def build(group: Group, go: Path, environment: Mapping[str, str]) -> None:
    """Fetch a group's modules, compile its programs, put them into the cache in one step."""
    began = time.monotonic()
    packages = _fetch(group, go, environment)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix=f".{group.name}-") as draft:
        out = Path(draft) / "programs"
        out.mkdir()
        for name, package in group.packages.items():
            command = [
                str(go),
                "build",
                "-v",
                *FLAGS,
                "-ldflags",
                group.linking,
                "-o",
                str(out / name),
                package,
            ]
            _compile(name, command, group, environment, packages)
        out.replace(group.folder)
    print(f"{group.name} {group.version}: built in {time.monotonic() - began:.0f} s", flush=True)


def _fetch(group: Group, go: Path, environment: Mapping[str, str]) -> int:
    """Have Go download what the programs are made of; how many packages that is."""
    print(f"{group.name} {group.version}: fetching modules", flush=True)
    command = [str(go), "list", "-deps", "-mod=readonly", *group.packages.values()]
    done = subprocess.run(
        command, cwd=group.module, env=dict(environment), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-TAIL_LINES:])
        if any(words in done.stderr for words in _NOT_THE_NETWORK):
            raise BuildFailed(f"Go refuses the modules of {group.name}:\n{said}")
        raise BuildFailed(f"{UNREACHABLE}.\n{said}")
    return len(done.stdout.splitlines())


def _compile(
    name: str, command: list[str], group: Group, environment: Mapping[str, str], packages: int
) -> None:
    began = reported = time.monotonic()
    compiled = 0
    tail: list[str] = []
    with subprocess.Popen(
        guarded(command), cwd=group.module, env=dict(environment), stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr is not None
        # Go writes a line per package that it compiles, then nothing while it links.
        for line in child.stderr:
            compiled += 1
            tail = [*tail, line.rstrip()][-TAIL_LINES:]
            if time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                print(f"  {name}: {compiled} of at most {packages} packages", flush=True)
    if child.returncode != 0:
        raise BuildFailed("\n".join([f"Go could not build {name}:", *tail]))
    print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)


@contextlib.contextmanager
def _go_environment(go: Path) -> Iterator[dict[str, str]]:
    """What Go is run with. A Go of ours leaves nothing behind: some 4 GB of sources and objects."""
    environment = {**os.environ, **ENVIRONMENT}
    if not go.is_relative_to(cache_folder()):
        yield environment
        return
    # Kept when a build breaks off, so that the next try goes on from there.
    scratch = cache_folder() / "go-scratch"
    yield {**environment, "GOMODCACHE": str(scratch / "modules"), "GOCACHE": str(scratch / "objects")}
    for folder, _, _ in os.walk(scratch):
        os.chmod(folder, 0o700)  # noqa: PTH101 - os.walk gives text; Go makes its sources read-only
    shutil.rmtree(scratch)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the cache's lock. The kernel drops it with the process, whatever its end."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another build is running: waiting for its end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Build, and leave word for the tests if that fails. Returns the exit status."""
    try:
        build_all()
    except (BuildFailed, NoGo) as failure:
        failure_note().parent.mkdir(parents=True, exist_ok=True)
        failure_note().write_text(str(failure))
        print(failure, file=sys.stderr)
        return 1
    failure_note().unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
