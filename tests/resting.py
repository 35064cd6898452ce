"""Stacks that rest: once the tests of its folder are over, a shared stack leaves the cores to the others.

A stack lives as long as the run, and every open sale that tests left behind costs it a little all the time;
together they would take a core away from the tests that come after.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from local.parts import SERVICES
from local.stack import Stack

_STACKS = pytest.StashKey[dict[Path, Stack]]()
_RESTING = pytest.StashKey[set[Path]]()


@contextmanager
def resting_after(folder: Path, stack: Stack, config: pytest.Config) -> Iterator[None]:
    """Halts the services of `stack` while no test in `folder` is next; they go on at the end of the block."""
    config.stash.setdefault(_STACKS, {})[folder] = stack
    try:
        yield
    finally:
        _wake(folder, stack, config)
        del config.stash[_STACKS][folder]


def wake(item: pytest.Item) -> None:
    """Lets the stacks of the test's folders go on."""
    for folder, stack in item.config.stash.get(_STACKS, {}).items():
        if folder in item.path.parents:
            _wake(folder, stack, item.config)


def rest(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Halts the stacks of the folders that the next test is not in."""
    resting = item.config.stash.setdefault(_RESTING, set())
    for folder, stack in item.config.stash.get(_STACKS, {}).items():
        if nextitem is not None and folder not in nextitem.path.parents and folder not in resting:
            resting.add(folder)
            _send(stack, signal.SIGSTOP)


def _wake(folder: Path, stack: Stack, config: pytest.Config) -> None:
    resting = config.stash.setdefault(_RESTING, set())
    if folder in resting:
        resting.remove(folder)
        _send(stack, signal.SIGCONT)


def _send(stack: Stack, number: signal.Signals) -> None:
    for name in SERVICES:
        for pid in stack.running.pids[name]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
