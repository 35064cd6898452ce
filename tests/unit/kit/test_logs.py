"""Logs: one JSON object a line, with the ids that were bound, also from libraries."""

import json
import logging
from typing import Any

import pytest
import structlog

from services.kit import logs


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_names_service_part_level_and_the_bound_ids(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("queue", "info")
    log = logs.get_logger("leader")
    log.debug("unheard")
    with logs.bind(sale="s1", buyer="b1"):
        log.info("called", places=3)
    log.warning("after")
    called, after = lines(capsys)
    assert called.items() >= {
        "service": "queue", "part": "leader", "level": "info", "event": "called",
        "sale": "s1", "buyer": "b1", "places": 3,
    }.items()  # fmt: skip
    assert "sale" not in after


def test_binding_without_with_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("queue")
    logs.bind(order="o1")
    logs.get_logger("x").info("first")
    logs.get_logger("x").info("second")
    assert [line["order"] for line in lines(capsys)] == ["o1", "o1"]


def test_an_exception_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("queue")
    try:
        raise ValueError("broken")
    except ValueError:
        logs.get_logger("x").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: broken" in line["exception"]


def test_libraries_are_heard_from_warning_on_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("queue", "debug")
    logging.getLogger("lib").info("chatter")
    with logs.bind(sale="s1"):
        logging.getLogger("lib").warning("lost %s", "it")
    (line,) = lines(capsys)
    assert line.items() >= {"event": "lost it", "logger": "lib", "service": "queue", "sale": "s1"}.items()
