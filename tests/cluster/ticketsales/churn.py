"""Sales defined, changed, opened, closed and deleted in fast motion, and what that costs the operator.

    python -m tests.cluster.ticketsales.churn --minutes 30

It runs the services, a control plane and the operator, prints a report, and ends with 1 where a sale did not
come to its end, memory grew or a sale cost too many calls.
"""

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from local.parts import SERVICES, HttpProcess
from local.stack import Stack
from tests.cluster.estate import Estate, manifest, samples
from tests.cluster.plane.api import Api, Json, Refused
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.crds import apply_crd
from tests.cluster.plane.waiting import NeverCame, eventually
from tests.cluster.ticketsales.costs import Costs, Sample, asked

AT_ONCE = 8
# Tokens and the operator's rights are good for an hour.
MOST_MINUTES = 55.0
PATIENCE_S = 60.0
# How long one watch lasts before everything is listed again.
ROUND_S = 20
SCALING = {
    "leadTime": "1s",
    "warmUpSteps": 2,
    "cooldown": "1s",
    "services": {"queue": {"floor": 1, "peak": 2, "max": 4}, "checkout": {"floor": 1, "peak": 1, "max": 4}},
}
FAR = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}
SHORT = {"lobby_s": 1.0, "opens_s": 2.5, "closes_s": 5.0}


class Board:
    """A namespace's sales as a watch tells of them, for many who wait at once."""

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self._path = path
        self._sales: dict[str, Json] = {}
        self._news = threading.Condition()
        self._over = threading.Event()

    @contextmanager
    def followed(self) -> Iterator["Board"]:
        """Follow for the block."""
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()

    def until(self, name: str, holds: Callable[[Json | None], bool]) -> None:
        """Wait until the sale is so; it is None where there is none. Raises NeverCame."""
        with self._news:
            if not self._news.wait_for(lambda: holds(self._sales.get(name)), PATIENCE_S):
                raise NeverCame(f"{name}: not within {PATIENCE_S:g} s; seen last: {self._sales.get(name)!r}")

    def _follow(self) -> None:
        while not self._over.is_set():
            try:
                listed = self._api.get(self._path)
                self._saw({each["metadata"]["name"]: each for each in listed["items"]})
                version = listed["metadata"]["resourceVersion"]
                for event in self._api.watch(self._path, ROUND_S, resourceVersion=version):
                    name = event["object"]["metadata"]["name"]
                    known = {each: body for each, body in self._sales.items() if each != name}
                    self._saw(known if event["type"] == "DELETED" else {**known, name: event["object"]})
                    if self._over.is_set():
                        return
            except (Refused, OSError, HTTPException):
                self._over.wait(0.2)

    def _saw(self, sales: dict[str, Json]) -> None:
        with self._news:
            self._sales = sales
            self._news.notify_all()


def says(kind: str, reason: str) -> Callable[[Json | None], bool]:
    """Whether a sale's condition has this reason."""

    def holds(body: Json | None) -> bool:
        found = (body or {}).get("status", {}).get("conditions", [])
        return any(each["type"] == kind and each["reason"] == reason for each in found)

    return holds


class Lives:
    """Sales that come and go, each in one of the ways in which sales do, by turns."""

    def __init__(self, estate: Estate, board: Board, prefix: str, stopped: threading.Event) -> None:
        self.done: Counter[str] = Counter()
        """Sales that are gone as they should be, by way."""
        self.failures: list[str] = []
        self.changes = 0
        """What this side asked of the API server."""
        self._estate = estate
        self._board = board
        self._prefix = prefix
        self._stopped = stopped
        self._numbers = itertools.count()
        self._ways: dict[str, Callable[[str], None]] = {
            "whole life": self._whole,
            "changed twice": self._changed,
            "deleted before its lobby": self._early,
            "deleted in its lobby": self._in_lobby,
            "without a line, deleted while open": self._while_open,
            "refused by the services": self._refused,
        }

    def live(self, until: float) -> None:
        """One sale after the other until this moment of the monotonic clock."""
        while time.monotonic() < until and not self.failures and not self._stopped.is_set():
            number = next(self._numbers)
            name = f"{self._prefix}-{number}"
            way = list(self._ways)[number % len(self._ways)]
            try:
                self._ways[way](name)
                self._asked(self._estate.api.delete, self._estate.sale_path(name))
                self._board.until(name, lambda body: body is None)
            except (NeverCame, Refused, OSError) as error:
                self.failures.append(f"{way}: {error}")
            else:
                self.done[way] += 1

    def _whole(self, name: str) -> None:
        self._apply(manifest(name, **SHORT, scaling=SCALING))
        self._board.until(name, says("WindowOpen", "Open"))
        self._board.until(name, says("Drained", "Settled"))

    def _changed(self, name: str) -> None:
        made = manifest(name, **SHORT, scaling=SCALING)
        for generation, title in enumerate(("A title", "Another", "A third"), 1):
            made["spec"]["title"] = title
            self._apply(made)
            self._board.until(name, lambda body, at=generation: _heeded(body) >= at)
        self._board.until(name, says("WindowOpen", "Closed"))

    def _early(self, name: str) -> None:
        self._apply(manifest(name, **FAR, scaling=SCALING))
        self._board.until(name, says("SpecValid", "Defined"))

    def _in_lobby(self, name: str) -> None:
        self._apply(manifest(name, **{**FAR, "lobby_s": -1}))
        self._board.until(name, says("WindowOpen", "Lobby"))

    def _while_open(self, name: str) -> None:
        self._apply(manifest(name, **{**FAR, "lobby_s": 1, "opens_s": 1}, line={"kind": "None"}))
        self._board.until(name, says("WindowOpen", "Open"))

    def _refused(self, name: str) -> None:
        self._apply(manifest(name, lobby_s=-30, opens_s=-20, closes_s=-10))
        self._board.until(name, says("SpecValid", "DEFINITION_INVALID"))

    def _apply(self, made: Json) -> None:
        self._asked(self._estate.apply, made)

    def _asked(self, call: Callable[[Any], Json], what: Any) -> None:
        self.changes += 1
        call(what)


def _heeded(body: Json | None) -> int:
    return int((body or {}).get("status", {}).get("observedGeneration", 0))


def churn(
    stack: Stack,
    estate: Estate,
    operator: HttpProcess,
    minutes: float,
    prefix: str,
    stopped: threading.Event | None = None,
) -> Costs:
    """Let sales come and go, `AT_ONCE` of them at a time; what it cost.

    Blocks for so many minutes, or until it is stopped and the sales that there are have come to their ends.
    """
    stopped = stopped or threading.Event()
    began = time.monotonic()
    until = began + minutes * 60
    taken: list[Sample] = []

    def take() -> None:
        memory = {name: stack.parts[name].usage().memory for name in SERVICES}
        taken.append(Sample(time.monotonic() - began, samples(operator), memory))

    asked_before = asked(estate.api)
    with Board(estate.api, estate.sale_path("").rstrip("/")).followed() as board:
        lives = Lives(estate, board, prefix, stopped)
        take()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            ends = [pool.submit(lives.live, until) for _ in range(AT_ONCE)]
            every_s = min(10.0, minutes)
            while not all(end.done() for end in ends):
                time.sleep(every_s)
                take()
        for end in ends:
            end.result()
    eventually(lambda: samples(operator)["catraca_operator_sales"], lambda sales: sales == 0)
    take()
    return Costs(
        sales=dict(lives.done),
        failures=lives.failures,
        samples=taken,
        asked=asked(estate.api) - asked_before - lives.changes,
    )


async def main(minutes: float, most_mb: float) -> int:
    """Run everything, print the report. Returns 1 where something is wrong with it."""
    with tempfile.TemporaryDirectory(prefix="catraca-churn-") as folder:
        async with Stack(Path(folder) / "stack") as stack:
            with ControlPlane() as plane:
                apply_crd(plane.client())
                estate = Estate(plane, "default", stack.running, Path(folder))
                estate.lay_out()
                with estate.operated() as operator:
                    costs = await _until_stopped(stack, estate, operator, minutes)
    print(costs.report())
    problems = costs.problems(most_mb)
    for problem in problems:
        print(f"WRONG: {problem}")
    return 1 if problems else 0


async def _until_stopped(stack: Stack, estate: Estate, operator: HttpProcess, minutes: float) -> Costs:
    """SIGTERM and Ctrl-C stop everything, once the sales of the moment are gone."""
    stopped = threading.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return await asyncio.to_thread(churn, stack, estate, operator, minutes, "churn", stopped)


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most {MOST_MINUTES:g}")
    return value


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.ticketsales.churn", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=30.0, help="how long (30)")
    parser.add_argument("--most-mb", type=float, default=8.0, help="megabytes that memory may grow by (8)")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.minutes, given.most_mb)))
