"""The wheel, in an environment that has it and the locked requirements of an image, and nothing else."""

import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.delivery.commands import ROOT, modules, told_nothing

# Installing forty packages, and a sale from beginning to end.
pytestmark = pytest.mark.timeout(300)


def done(command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What the command printed. A status other than 0 fails the test and shows it."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


def built(source: Path, into: Path, *targets: str) -> list[Path]:
    """What hatchling makes of a source tree."""
    done([sys.executable, "-m", "hatchling", "build", "-d", into, *targets], source)
    return sorted(into.iterdir())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel of this checkout."""
    sdist, wheel = built(ROOT, tmp_path_factory.mktemp("dist"), "-t", "sdist", "-t", "wheel")[::-1]
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, packages: tuple[Path, Path]) -> Path:
    """A clean virtual environment with the wheel; shared, as installing takes a while."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    done([sys.executable, "-m", "venv", "--without-pip", venv], venv.parent)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "--quiet", "--no-compile"]
    locked = ROOT / "requirements/runtime.txt"
    # Everything is in the lock, so there is nothing to resolve.
    pip.append("--no-deps")
    done([*pip, "--require-hashes", "--only-binary", ":all:", "--requirement", locked], venv.parent)
    done([*pip, "--no-index", packages[1]], venv.parent)
    # That it is complete pip says: nothing is missing, nothing is of another version.
    done([sys.executable, "-m", "pip", "--python", venv / "bin/python", "check"], venv.parent)
    return venv


@pytest.fixture
def bare(environment: Path) -> dict[str, str]:
    """The variables of somebody who has set none."""
    return {"PATH": f"{environment / 'bin'}:{os.defpath}"}


def test_the_same_wheel_comes_from_the_sdist(packages: tuple[Path, Path], tmp_path: Path) -> None:
    sdist, wheel = packages
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")

    (again,) = built(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "dist", "-t", "wheel")

    assert again.name == wheel.name
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()


def test_every_command_starts_and_names_the_setting_that_it_lacks(
    bare: dict[str, str], tmp_path: Path
) -> None:
    assert {"services.queue", "services.checkout", "catraca_operator", "local.issuer"} <= set(modules())

    assert told_nothing([], bare, tmp_path) == {}


def test_the_command_line_is_whole(environment: Path, bare: dict[str, str], tmp_path: Path) -> None:
    asked = (
        "import argparse; from local.cli import parser\n"
        "for action in parser()._actions:\n"
        "    if isinstance(action, argparse._SubParsersAction): print(*action.choices)"
    )
    listed = done([environment / "bin/python", "-P", "-c", asked], tmp_path, bare).split()

    # Each module of commands has one of its own name at least.
    expected = {file.stem for file in (ROOT / "local/commands").glob("[a-z]*.py")}
    assert expected - {name.replace("-", "_") for name in listed} == set()
    assert "usage: catraca" in done([environment / "bin/catraca", "--help"], tmp_path, bare)


def test_a_server_that_is_not_installed_is_named(
    environment: Path, bare: dict[str, str], tmp_path: Path
) -> None:
    ended = subprocess.run(
        [environment / "bin/catraca", "up", "--data", tmp_path / "data"],
        env=bare | {"PATH": str(environment / "bin")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert re.search(r"catraca: [\w-]+ is neither in this environment nor on PATH", ended.stderr)


def test_a_sale_sells_out_from_the_wheel(environment: Path, bare: dict[str, str], tmp_path: Path) -> None:
    # The servers' wheels are large, so those of this environment serve: behind all that is installed there.
    site = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    servers = Path(site) / "servers.pth"
    servers.write_text(sysconfig.get_path("purelib"))
    path = {"PATH": f"{bare['PATH']}:{sysconfig.get_path('scripts')}"}
    try:
        printed = done(
            [environment / "bin/catraca", "rush", "--buyers", "60", "--tickets", "12"], tmp_path, bare | path
        )
    finally:
        servers.unlink()
    assert "PASSED" in printed
