"""What Locust's processes run: lanes that take calls as they fall due, send them, and note their latency.

Started by `tests.load.generator`, never by hand: the plan and this worker's number come from the environment.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import locust_plugins  # noqa: F401 - it judges the run by `--check-fail-ratio`
from gevent.event import Event
from grpc.experimental.gevent import init_gevent
from locust import LoadTestShape, User, events, task
from locust.runners import MasterRunner, WorkerRunner

# Locust patched the standard library for gevent before it read this file; gRPC follows before its first use.
init_gevent()

from tests.load.bffs import Crowd, Lane  # noqa: E402
from tests.load.buyers import Pool  # noqa: E402
from tests.load.over_grpc import OverGrpc  # noqa: E402
from tests.load.over_web import OverWeb  # noqa: E402
from tests.load.pacing import Arrival, Pacing  # noqa: E402
from tests.load.settings import Plan  # noqa: E402
from tests.load.tally import DEFECTS, OK, StepTally  # noqa: E402

PLAN = Plan.loads(Path(os.environ["CATRACA_LOAD_PLAN"]).read_text())
WORKER = int(os.environ.get("CATRACA_LOAD_WORKER", "0"))

# All workers have heard of the beginning by then, and their lanes stand ready.
LEAD_S = 2.0
# After the last step, for answers; whoever has none by then is counted as not answered.
REST_S = 3.0
FOREVER_S = 3600.0
UNANSWERED = "DEADLINE"
# The status of a worker whose own code failed; the traceback is in its log.
BROKEN = 1


class Run:
    """What the lanes of one worker share."""

    def __init__(self, environment: Any) -> None:
        items = PLAN.batch if PLAN.series == "bff" else 1
        self.environment = environment
        self.items = items
        self.pacing = Pacing(PLAN.steps, workers=PLAN.workers, worker=WORKER, items=items)
        self.tallies = [StepTally() for _ in PLAN.steps]
        self.under_way: set[Arrival] = set()
        self.begun = Event()
        self.began_at = 0.0
        seed = PLAN.seed * 1000 + WORKER
        grpc_calls = OverGrpc(PLAN.targets, PLAN.streams)
        self.over = OverWeb(PLAN.edge, PLAN.lanes, PLAN.streams) if PLAN.series == "grpc-web" else grpc_calls
        if PLAN.series == "bff":
            self.crowd = Crowd(WORKER, PLAN.first_buyer, seed)
        else:
            self.pool = Pool(PLAN.sale, PLAN.sections, PLAN.tokens[WORKER :: PLAN.workers], seed)

    def begin(self, at: float) -> None:
        """The run begins at this moment of the machine's monotonic clock."""
        self.began_at = at
        self.begun.set()

    def now_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began_at

    def note(self, arrival: Arrival, name: str, words: Mapping[str, int]) -> None:
        """Remember an answer, and tell Locust, for its own report."""
        self.under_way.discard(arrival)
        now_s = self.now_s()
        latency_s = now_s - arrival.due_s
        in_time = now_s <= PLAN.steps[arrival.step].ends_s
        self.tallies[arrival.step].note(name, words, latency_s, in_time=in_time)
        word = max(words, key=lambda each: words[each])
        self.environment.events.request.fire(
            request_type=PLAN.series,
            name=name if word == OK else f"{name} {word}",
            response_time=latency_s * 1000,
            response_length=0,
            context={},
            exception=RuntimeError(word) if word in DEFECTS else None,
        )

    def write(self) -> None:
        """Leave what was measured where the run's starter finds it."""
        for arrival in self.under_way:
            waited_s = self.now_s() - arrival.due_s
            self.tallies[arrival.step].note("any", {UNANSWERED: self.items}, waited_s, in_time=False)
        for step, tally, unsent in zip(PLAN.steps, self.tallies, self._unsent(), strict=True):
            for due_s in unsent:
                tally.note_unsent(step.ends_s - due_s, self.items)
        target = Path(PLAN.folder) / f"worker-{WORKER}.json"
        target.write_text(json.dumps([tally.to_json() for tally in self.tallies]))

    def _unsent(self) -> list[list[float]]:
        # What nobody came for is found by looking beyond the end.
        self.pacing.take(PLAN.seconds + FOREVER_S)
        return self.pacing.unsent


class Caller(User):
    """A lane: one call under way at most."""

    abstract = True
    run_of: Run

    def wait_time(self) -> float:
        """Seconds until the next call of this lane is due."""
        self.arrival = self.run_of.pacing.take(self.run_of.now_s())
        return FOREVER_S if self.arrival is None else max(self.arrival.due_s - self.run_of.now_s(), 0.0)

    def on_start(self) -> None:
        """Wait for the beginning, then for the first call."""
        self.run_of = RUN[0]
        self.prepare()
        self.run_of.begun.wait()
        gevent.sleep(self.wait_time())

    def prepare(self) -> None:
        """Make what the lane alone uses."""


class OneByOne(Caller):
    """Sends what the next buyer asks."""

    abstract = PLAN.series == "bff"

    @task
    def call(self) -> None:
        """One call."""
        self.run_of.under_way.add(self.arrival)
        ask = self.run_of.pool.next()
        word, answer = self.run_of.over.call(ask.method, ask.request, ask.token)
        ask.answered(word, answer)
        self.run_of.note(self.arrival, ask.name, {word: 1})


class InBatches(Caller):
    """Sends what many buyers of a BFF ask."""

    abstract = PLAN.series != "bff"

    def prepare(self) -> None:
        """Its own streams."""
        token = PLAN.tokens[WORKER]
        self.lane = Lane(self.run_of.over, self.run_of.crowd, PLAN.sale, PLAN.sections, token)

    @task
    def call(self) -> None:
        """One batch."""
        self.run_of.under_way.add(self.arrival)
        name, words = self.lane.send(PLAN.batch)
        self.run_of.note(self.arrival, name, words)


class Steps(LoadTestShape):
    """As many lanes all the time: the rate follows the pacing. Ends when the last answers must have come."""

    def tick(self) -> tuple[int, float] | None:
        """How many users, and how many more a second."""
        if self.get_run_time() > LEAD_S + PLAN.seconds + REST_S:
            return None
        users = PLAN.lanes * PLAN.workers
        return users, float(users)


RUN: list[Run] = []


@events.init.add_listener
def on_init(environment: Any, runner: Any, **_: Any) -> None:
    """Connect within the worker; the master only tells when it begins."""
    if isinstance(runner, WorkerRunner):
        RUN.append(Run(environment))
        runner.register_message("begin", lambda msg, **_: RUN[0].begin(msg.data["at"]))


@events.user_error.add_listener
def on_user_error(**_: Any) -> None:
    """A lane that fails is a defect of ours: what it did not send would be missing from every number."""
    RUN[0].environment.process_exit_code = BROKEN


@events.test_start.add_listener
def on_test_start(environment: Any, **_: Any) -> None:
    """The master names the beginning, to the workers and to whoever started it."""
    if isinstance(environment.runner, MasterRunner):
        at = time.monotonic() + LEAD_S
        environment.runner.send_message("begin", {"at": at})
        print(json.dumps({"began_at": at}), file=sys.stdout, flush=True)


@events.test_stop.add_listener
def on_test_stop(environment: Any, **_: Any) -> None:
    """Write down what was measured."""
    if RUN:
        RUN[0].write()
