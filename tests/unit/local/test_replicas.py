"""How many replicas: read from the option, and refused by name where it cannot be."""

import argparse
from pathlib import Path

import pytest

from local.commands import rush
from local.replicas import MOST, parse
from local.stack import Stack


def options(*arguments: str) -> argparse.Namespace:
    """The rush's options as the command line gives them."""
    parser = argparse.ArgumentParser()
    rush.add_parser(parser.add_subparsers())
    return parser.parse_args(["rush", *arguments])


def test_each_service_has_its_number() -> None:
    assert parse("queue=2, inventory=3") == {"queue": 2, "inventory": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("queue=0", ["queue=0", "1 to 9"]),
        ("inventory=10", ["inventory=10", "1 to 9"]),
        ("queue=two", ["'queue=two'", "1 to 9"]),
        ("queue=-1", ["'queue=-1'", "1 to 9"]),
        ("queue", ["'queue'", "1 to 9"]),
        ("", ["''", "1 to 9"]),
        ("redis=2", ["'redis' is no service", "queue, inventory, checkout, notifier"]),
        ("queue=2,queue=3", ["queue is named twice"]),
    ],
)
def test_what_cannot_be_is_refused_by_name(text: str, words: list[str]) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)

    assert [word for word in words if word not in str(caught.value)] == []


def test_the_stack_refuses_the_same(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"notifier={MOST + 1}"):
        Stack(tmp_path, replicas={"notifier": MOST + 1})


def test_the_command_line_refuses_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        options("--replicas", "queue=99")

    assert caught.value.code == 2
    assert "queue=99: a service has 1 to 9 replicas" in capsys.readouterr().err


def test_who_is_alone_cannot_be_restarted_unnoticed() -> None:
    two = "queue=2,inventory=2,checkout=2,notifier=2"

    assert rush.contradiction(options("--replicas", two, "--rolling-restart")) == ""
    assert "notifier=2" in rush.contradiction(
        options("--replicas", "queue=2,inventory=2,checkout=2", "--rolling-restart")
    )
    assert "--stack" in rush.contradiction(options("--stack", "somewhere", "--replicas", two))


def test_a_sale_lasts_as_long_as_the_restart() -> None:
    three = "queue=3,inventory=3,checkout=3,notifier=3"

    hurried = rush.settings(options("--tickets", "5000", "--replicas", three))
    rolling = rush.settings(options("--tickets", "5000", "--replicas", three, "--rolling-restart"))

    assert hurried.rate == 0
    assert 5000 / rolling.rate / rush.UNITS_PER_BUYER >= 12 * rush.RESTART_S_PER_REPLICA
