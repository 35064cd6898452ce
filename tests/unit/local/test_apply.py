"""`catraca apply` tells every problem with its place, moves windows as asked, and says what changed."""

import argparse
from pathlib import Path

import pytest

from local.cli import parser
from local.commands.apply import differences, shift
from local.discovery import NotRunning
from services.kit.manifest import load_manifest

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(*words: str) -> int:
    arguments: argparse.Namespace = parser().parse_args(["apply", *words])
    status: int = arguments.run(arguments)
    return status


def test_every_problem_of_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sale.yaml"
    text = (EXAMPLES / "cinema.yaml").read_text()
    file.write_text(text.replace("duration: 30s", "duration: 3s").replace("price: 800", "price: cheap"))
    assert run("-f", str(file)) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: spec.sections[0].ticketTypes[1].price: must be a whole number",
        f"{file}: spec.holds.duration: must be from 5s to 24h",
    ]


@pytest.mark.parametrize(("text", "why"), [("", "there is no manifest in it"), ("a: [", "is not YAML")])
def test_a_file_without_a_sale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, why: str
) -> None:
    file = tmp_path / "sale.yaml"
    file.write_text(text)
    assert run("-f", str(file)) == 1
    assert why in capsys.readouterr().out


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-f", str(tmp_path / "none.yaml")) == 1
    assert "No such file" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["soon", "5", "-5s", ""])
def test_a_time_that_is_no_duration(text: str) -> None:
    with pytest.raises(SystemExit):
        run("-f", str(EXAMPLES / "cinema.yaml"), f"--opens-in={text}")


def test_the_whole_window_is_shifted() -> None:
    _, spec = load_manifest((EXAMPLES / "festival.yaml").read_text())
    window = spec.window
    spec.refunds.until.CopyFrom(window.closes_at)
    lobby_ms = window.opens_at.ToMilliseconds() - window.lobby_opens_at.ToMilliseconds()
    open_ms = window.closes_at.ToMilliseconds() - window.opens_at.ToMilliseconds()
    shift(spec, 1_700_000_000_000)
    assert window.opens_at.ToMilliseconds() == 1_700_000_000_000
    assert window.lobby_opens_at.ToMilliseconds() == 1_700_000_000_000 - lobby_ms
    assert window.closes_at.ToMilliseconds() == 1_700_000_000_000 + open_ms
    assert spec.refunds.until == window.closes_at


def test_a_time_that_is_not_given_stays_so() -> None:
    _, spec = load_manifest((EXAMPLES / "cinema.yaml").read_text())
    shift(spec, 1_700_000_000_000)
    assert not spec.window.HasField("lobby_opens_at")
    assert not spec.refunds.HasField("until")


def test_what_differs_is_told_field_by_field() -> None:
    before = {"title": "A", "line": {"rate": 5.0}, "sections": [{"id": "a", "capacity": 1}], "paused": True}
    after = {"title": "B", "line": {"rate": 5.0}, "sections": [{"id": "a", "capacity": 2}], "holds": {}}
    assert differences(before, after) == [
        "spec.title: A → B",
        "spec.sections[0].capacity: 1 → 2",
        "spec.paused: True → nothing",
        "spec.holds: nothing → {}",
    ]
    assert differences(before, before) == []


def test_what_only_kubernetes_heeds_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotRunning):
        run("-f", str(EXAMPLES / "stadium-final.yaml"), "--data", str(tmp_path))
    assert capsys.readouterr().out.splitlines() == [
        "stadium-final: spec.openPolicy has no effect on one machine, only in Kubernetes",
        "stadium-final: spec.scaling has no effect on one machine, only in Kubernetes",
    ]
