"""The Dockerfile takes everything that the wheel is made of, and what is locked for it is what was tested."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
COPIED = [
    source
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    for source in line.split()[:-1]
]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+?)(?: ;.*)? \\$", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """The locked versions of a file of requirements."""
    return dict(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text()))


def below(path: str, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


@pytest.mark.parametrize(
    "path",
    [
        *WHEEL["packages"],
        *WHEEL["force-include"],
        *(PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"),
    ],
)
def test_what_the_wheel_is_made_of_is_copied(path: str) -> None:
    assert (ROOT / path).exists()
    assert below(path, COPIED)


def test_what_is_copied_is_not_ignored() -> None:
    assert IGNORED[0] == "*"
    kept = [line[1:] for line in IGNORED if line.startswith("!")]

    assert [source for source in COPIED if not below(source, kept)] == []
    assert [path for path in kept if not below(path, COPIED)] == [], "nothing more is sent to the builder"


def test_it_runs_as_nobody_and_lets_probes_ask() -> None:
    user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user and all(int(number) >= 10_000 for number in user[-1])
    assert not re.search(r"^HEALTHCHECK", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ARG BASE=", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", ["runtime", "build"])
def test_what_is_shipped_is_what_was_tested(name: str) -> None:
    tested = pins("dev")

    assert len(pins(name)) > 2
    assert {package: (version, tested.get(package)) for package, version in pins(name).items()} == {
        package: (version, version) for package, version in pins(name).items()
    }


def test_every_requirement_of_the_image_is_locked_and_no_server_is() -> None:
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["cluster"]]
    names = {re.split(r"[\[>=<]", requirement)[0] for requirement in wanted}

    assert names - set(pins("runtime")) == set()
    servers = {re.split(r"[\[>=<]", each)[0] for each in PROJECT["project"]["optional-dependencies"]["local"]}
    assert (servers - names) & set(pins("runtime")) == set()
    assert set(PROJECT["project"]["optional-dependencies"]["operator"]) <= set(wanted)
