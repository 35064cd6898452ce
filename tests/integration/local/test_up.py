"""`catraca up` from the outside: however it ends, no process is left."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.servers.process import wait_gone

PATIENCE_S = 60.0


class Up:
    """A running `catraca up` and what it prints."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.data = folder / "data"
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local.cli", "up", "--data", str(self.data)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables},
            )

    def wait_for(self, words: str) -> None:
        """Block until it printed something that matches."""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(words, self.output.read_text()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{words!r} did not appear in:\n{self.output.read_text()}")
            time.sleep(0.02)

    def family(self) -> list[psutil.Process]:
        """Everything below it, and every process that works in its data folder."""
        children = {child.pid: child for child in psutil.Process(self.process.pid).children(recursive=True)}
        return list({**children, **{process.pid: process for process in self.at_work()}}.values())

    def at_work(self) -> list[psutil.Process]:
        """The processes of the whole machine whose working folder is below the data folder."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.data):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `catraca up`, and ends it if the test did not."""
    started: list[Up] = []

    def start(**variables: str) -> Up:
        started.append(Up(tmp_path, **variables))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_polite_end_leaves_no_process(start: Callable[..., Up], number: signal.Signals) -> None:
    up = start()
    up.wait_for("Catraca is up")
    family = up.family()
    assert len(family) >= 9

    up.process.send_signal(number)

    assert up.process.wait(PATIENCE_S) == 0
    assert wait_gone(family, 0) == []
    assert up.at_work() == []
    assert "Everything is stopped" in up.output.read_text()
    assert not (up.data / "stack.json").exists()


def test_an_interrupted_start_leaves_no_process(start: Callable[..., Up]) -> None:
    up = start()
    up.wait_for("redis +ready|nats +ready|postgres +starting")
    family = up.family()
    assert family

    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(PATIENCE_S) == 0
    assert wait_gone(family, 0) == []
    assert up.at_work() == []


def test_a_second_interrupt_does_not_wait(start: Callable[..., Up]) -> None:
    up = start()
    up.wait_for("Catraca is up")
    stuck = psutil.Process(json.loads((up.data / "stack.json").read_text())["pids"]["queue"][0])
    stuck.suspend()
    family = up.family()

    up.process.send_signal(signal.SIGINT)
    up.wait_for("queue +stopping")
    asked = time.monotonic()
    up.process.send_signal(signal.SIGINT)

    assert up.process.wait(PATIENCE_S) == 0
    # Without force it would have waited for the suspended process as long as its stop may take.
    assert time.monotonic() - asked < 10
    assert wait_gone(family, 0) == []


def test_a_killed_parent_leaves_no_process_and_the_next_takes_up_what_it_left(
    start: Callable[..., Up],
) -> None:
    first = start()
    first.wait_for("Catraca is up")
    family = first.family()
    assert len(family) >= 9

    first.process.kill()
    first.process.wait()

    assert wait_gone(family, PATIENCE_S) == []
    assert first.at_work() == []

    second = start()
    second.wait_for("Catraca is up")

    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(PATIENCE_S) == 0


def test_a_failed_start_says_which_part_and_leaves_no_process(start: Callable[..., Up]) -> None:
    up = start(CATRACA_DRAIN_S="forever")

    assert up.process.wait(PATIENCE_S) == 1

    assert re.search(
        r"catraca: (queue|inventory|checkout|notifier): ended with status", up.output.read_text()
    )
    assert "CATRACA_DRAIN_S" in up.output.read_text()
    assert up.at_work() == []


def test_fresh_never_removes_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")

    refused = subprocess.run(
        [sys.executable, "-m", "local.cli", "up", "--fresh", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1
    assert "leaves it alone" in refused.stderr
    assert precious.read_text() == "years of work"
