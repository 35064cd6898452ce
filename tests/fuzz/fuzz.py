"""The fuzz itself: groups of calls, each judged by its answers and by what they left behind."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from local.audit.load import Sources
from local.audit.report import audit
from local.parts import CheckoutProcess, GrpcProcess, QueueProcess
from local.stack import Stack
from tests.fuzz.contract import methods
from tests.fuzz.judge import Watchman, moved, wrong_with, wrong_with_reply
from tests.fuzz.scene import FREE, FULL, LOBBY, OPEN, SCHEDULED, Scene, prepare
from tests.fuzz.shots import Shot, shots
from tests.fuzz.state import State, difference
from tests.fuzz.web import Browsed, Knock, browse, browsed, knock, knocks
from tests.fuzz.wire import Wire

# Reading all stores takes as long as many calls, and streams that say nothing are waited for side by side.
CALLS_PER_GROUP = 200
AT_ONCE = 50
CALLS_PER_EXAMPLE = 25
AUDITED = (OPEN, FULL, LOBBY, SCHEDULED, FREE)
# Streams that have nothing to say are left sooner with a heartbeat that comes sooner.
SETTINGS = {"CATRACA_HEARTBEAT_S": "0.2", "CATRACA_LOAD_WAIT_S": "0.2"}

Call = Shot | Browsed | Knock
ANY_CALL = st.one_of(*[shots()] * 8, browsed(), knocks())


class Finding(AssertionError):
    """Bad input that did harm, or was not refused as it must be."""


@dataclass
class Tally:
    """What was called, and what was answered."""

    calls: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    compared: int = 0
    """Times that calls were refused once more, all of them, with all stores read before and after."""

    @property
    def total(self) -> int:
        """All calls."""
        return self.calls.total()


class Fuzz:
    """Tries bad input on a running stack, on a loop of its own: hypothesis calls from outside of any."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.tally = Tally()
        self._runner.run(self._open())

    async def _open(self) -> None:
        running = self._stack.running
        self.scene: Scene = await prepare(running)
        self._wire = Wire(running.targets)
        self._state = await State(running).__aenter__()
        self._watchman = Watchman(self._stack)
        self._addresses = {
            "edge": self._stack.parts["edge"].addresses[0],
            "issuer": self._stack.parts["issuer"].addresses[0],
            **http_listeners(self._stack),
        }

    def close(self) -> None:
        """Lets go of the stack."""
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        await self._wire.__aexit__()
        await self._state.__aexit__()

    def run(self, calls: int, with_seed: int) -> None:
        """So many calls, in groups, as far as those that were drawn reach; then the audit. Raises Finding."""
        drawn = iter(_drawn(calls, with_seed))
        enough = self.tally.total + calls
        try:
            while self.tally.total < enough and (group := list(islice(drawn, CALLS_PER_GROUP))):
                self._runner.run(self.group(group))
            self._runner.run(self.end())
        except Finding as finding:
            raise Finding(f"seed {with_seed}:\n{finding}") from None

    async def group(self, group: Sequence[Call]) -> None:
        """Makes the calls, as many at once as a crowd would, and judges what came of them. Raises Finding.

        Those that were refused are made once more: they are refused again, and change nothing.
        """
        self.tally.groups += 1
        refused, problems = await self._made(group)
        problems += self._watchman.noticed()
        problems += await self._compared(refused)
        if problems:
            raise Finding("\n".join(problems))

    async def _compared(self, calls: Sequence[Call]) -> list[str]:
        """What is wrong where all that was refused is made again, with the stores read before and after."""
        before = await self._state.settled()
        refused, problems = await self._made(calls)
        problems += self._watchman.noticed()
        if len(refused) < len(calls):
            return problems
        changed = difference(before, await self._state.digest())
        self.tally.compared += 1
        if not changed:
            return problems
        guilty = [str(call) for call in calls if await self._changes(call)]
        return [*problems, *(f"nothing was accepted, and yet {each}" for each in changed), *guilty]

    async def _changes(self, call: Call) -> bool:
        """Whether a call is refused and changes something all the same."""
        before = await self._state.settled()
        refused, _ = await self._made([call])
        return bool(refused) and bool(difference(before, await self._state.digest()))

    async def _made(self, calls: Sequence[Call]) -> tuple[list[Call], list[str]]:
        """Those of the calls that can have changed nothing, and what was wrong with the answers."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(call: Call) -> tuple[str, bool]:
            async with room:
                return await self._one(call)

        outcomes = await asyncio.gather(*map(one, calls))
        told = list(zip(calls, outcomes, strict=True))
        refused = [call for call, (_, may_have_moved) in told if not may_have_moved]
        return refused, [f"{call}\n    {problem}" for call, (problem, _) in told if problem]

    async def _one(self, call: Call) -> tuple[str, bool]:
        """What is wrong with the answer to a call, and whether the call may have changed something."""
        if isinstance(call, Knock):
            reply = await knock(call, self.scene, self._addresses[call.listener])
            self.tally.calls[f"HTTP {call.listener}"] += 1
            self.tally.answers[f"HTTP {reply.status or 'closed'}"] += 1
            return wrong_with_reply(call, reply), call.signed and reply.status == 200
        shot = call.shot if isinstance(call, Browsed) else call
        if isinstance(call, Browsed):
            answer = await browse(shot, self.scene, self._addresses["edge"])
        else:
            method = methods()[shot.method]
            answer = await self._wire.call(method, shot.requests(self.scene), self.scene.callers[shot.caller])
        self.tally.calls[shot.method + (" at the edge" if isinstance(call, Browsed) else "")] += 1
        self.tally.answers[f"{answer.status.name} {answer.reason}".strip()] += 1
        problem = wrong_with(shot, answer)
        return f"{problem}: {answer}" if problem else "", moved(shot, answer)

    async def end(self) -> None:
        """Raises Finding unless everybody is healthy and every invariant holds."""
        problems = self._watchman.noticed()
        for part in self._stack.parts.values():
            for process in part.processes:
                if isinstance(process, GrpcProcess):
                    async with grpc.aio.insecure_channel(
                        process.address, [("grpc.enable_http_proxy", 0)]
                    ) as channel:
                        check = health_pb2_grpc.HealthStub(channel).Check
                        answer: Any = await check(health_pb2.HealthCheckRequest(), timeout=5)
                    if answer.status != health_pb2.HealthCheckResponse.SERVING:
                        problems.append(f"{process.name} is not SERVING")
        sources = Sources.of(self._stack.running)
        for name in AUDITED:
            verdict = await audit(sources, name)
            for finding in verdict.findings:
                problems += [f"{name} {finding.invariant}: {each}" for each in finding.violations[:3]]
        if problems:
            raise Finding("\n".join(problems))


def _drawn(calls: int, with_seed: int) -> list[Call]:
    """So many calls, the same for the same seed.

    They are only drawn by hypothesis, not tried by it: it would look for smaller groups, over and over, on a
    stack whose state goes on meanwhile. What is found names its call anyway.
    """
    drawn: list[Call] = []

    @seed(with_seed)
    @settings(
        max_examples=max(1, calls // CALLS_PER_EXAMPLE),
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(ANY_CALL, min_size=CALLS_PER_EXAMPLE, max_size=CALLS_PER_EXAMPLE))
    def draw(group: list[Call]) -> None:
        drawn.extend(group)

    draw()
    return drawn[:calls]


def http_listeners(stack: Stack) -> dict[str, str]:
    """Where the standing and the webhooks listen; of several replicas the last."""
    found = {}
    for part in stack.parts.values():
        for process in part.processes:
            if isinstance(process, QueueProcess):
                found["standing"] = process.standing_address
            elif isinstance(process, CheckoutProcess):
                found["webhook"] = process.webhook_address
    return found


def summary(tally: Tally, took_s: float) -> str:
    """What was tried, for a person."""
    rate = tally.total / max(took_s, 1.0)
    lines = [
        f"{tally.total:,} calls in {tally.groups:,} groups, {took_s:.0f} s, {rate:.0f} calls a second",
        f"{tally.compared:,} times many were refused once more, and the stores held what they had before",
    ]
    for title, counts in (("calls", tally.calls), ("answers", tally.answers)):
        lines.append(f"{title}:")
        lines += [
            f"  {count:>8,}  {name}" for name, count in sorted(counts.items(), key=lambda each: -each[1])
        ]
    return "\n".join(lines)
