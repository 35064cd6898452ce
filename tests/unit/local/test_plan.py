"""`catraca plan check` tells what is in a plan, or everything that is wrong with it."""

import argparse
import json
from pathlib import Path

import pytest

from local.cli import parser
from local.discovery import NotRunning
from tests.plans import THEATRE, hall, plan_of, theatre


def run(*words: str) -> int:
    arguments: argparse.Namespace = parser().parse_args(["plan", *words])
    status: int = arguments.run(arguments)
    return status


def test_what_is_in_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(THEATRE)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Teatro da Rua Nova: 55 seats in 7 rows",
        "  Stalls: 38",
        "  Balcony: 16",
        "  Technical: 1",
        f"digest: {plan_of(theatre()).digest}",
    ]


def test_what_is_wrong_with_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, file = hall("oo"), tmp_path / "plan.json"
    document["zones"][0]["rows"][0]["seats"][1]["category"] = "Gold"
    file.write_text(json.dumps(document))
    for command in ("check", "push"):
        assert run(command, str(file)) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"{file}: zones[0].rows[0].seats[1].category: 'Gold' is none of the plan's categories"
        ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", str(tmp_path / "none.json")) == 1
    assert "No such file" in capsys.readouterr().out


def test_pushing_needs_a_stack(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        run("push", str(THEATRE), "--data", str(tmp_path))
