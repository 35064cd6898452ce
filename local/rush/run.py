"""One rush from the first process to the verdict: the stack, the sale, the crowd, the audit, the report."""

import asyncio
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as inventory
from rich.console import Console

from local.audit.load import Sources
from local.audit.report import Verdict, audit
from local.client import Connection, Organiser, Targets
from local.discovery import RunningStack, find
from local.rush.process import CrowdProcess
from local.rush.progress import Progress
from local.rush.sale import described, spec
from local.rush.settings import Plan, RushSettings
from local.rush.upheaval import Upheaval
from local.rush.usage import Meter
from local.stack import Stack
from services.kit.tasks import stop

Report = dict[str, Any]

TITLE = "A release night"
SETTLED_WITHIN_S, AUDIT_PAUSE_S = 20.0, 2.0


@dataclass
class Ground:
    """The stack that a rush runs on."""

    running: RunningStack
    folder: Path
    """Where the crowd's log goes."""
    is_ours: bool
    stack: Stack | None
    """Where it can be acted on: not that of another process."""
    keep: bool = True
    """Whether the folder is still wanted afterwards, to see what went wrong."""


class Clock:
    """How long each phase of the run takes."""

    def __init__(self) -> None:
        self._began_at = self._since = time.monotonic()
        self.phases_s: dict[str, float] = {}

    def ends(self, phase: str) -> None:
        """What ran since the last call was this phase."""
        now = time.monotonic()
        self.phases_s[phase] = round(now - self._since, 2)
        self._since = now

    @property
    def total_s(self) -> float:
        """Since the beginning."""
        return round(time.monotonic() - self._began_at, 2)


async def rush(
    settings: RushSettings,
    console: Console,
    on: Stack | Path | None = None,
    *,
    replicas: Mapping[str, int] | None = None,
    upheaval: Upheaval | None = None,
) -> Report:
    """Run it and return the report; `failures` in it says what went wrong, and is empty if nothing did.

    It runs on a stack of this process, on the one that another process runs in a folder, or on one of its own
    with so many `replicas`. Only a stack of this process takes an `upheaval`.
    """
    clock = Clock()
    async with _ground(on, console, replicas or {}) as ground:
        clock.ends("stack")
        meter = Meter(lambda: _pids(ground), from_now=not ground.is_ours)
        metering = asyncio.create_task(meter.run())
        try:
            report = await _sell_out(settings, console, ground, clock, meter, upheaval)
        finally:
            metering.cancel()
        ground.keep = bool(report["failures"])
    return report


async def _sell_out(
    settings: RushSettings,
    console: Console,
    ground: Ground,
    clock: Clock,
    meter: Meter,
    upheaval: Upheaval | None,
) -> Report:
    sale = f"rush-{settings.seed}-{secrets.token_hex(3)}"
    running = ground.running
    plan = plan_for(settings, running, sale)
    crowd_log = ground.folder / "logs" / "crowd.log"
    async with (
        CrowdProcess(plan, crowd_log) as crowd,
        Connection(Targets(**running.targets, certificate=running.certificate)) as connection,
    ):
        meter.also("crowd", crowd.pid)
        clock.ends("crowd")
        organiser = organiser_of(running, connection)
        definition = spec(settings, TITLE, time.time())
        defined = await organiser.define(sale, definition)
        opens_at_ms = defined.spec.window.opens_at.ToMilliseconds()
        await crowd.begin(opens_at_ms)

        async def act() -> None:
            if upheaval is not None:
                assert ground.stack is not None, "the stack of another process cannot be acted on"
                await upheaval.run(ground.stack, opens_at_ms / 1000)
                # The sale was slow so as to last until now.
                definition.line.rate = 0.0
                await organiser.define(sale, definition)

        async with _meanwhile(act()):
            result = await _follow(crowd, settings, console)
        clock.ends("sale")
        tickets = counts_of(await organiser.ledger(sale))
        audited = await audit_settled(running, sale)
        clock.ends("audit")
    meter.sample()
    report: Report = {
        "sale": sale,
        "settings": settings.to_json(),
        "duration_s": clock.total_s,
        **result,
        "upheaval": upheaval.to_json(result["setbacks"]) if upheaval is not None else None,
        "tickets": tickets,
        "phases_s": _phases(clock, result),
        "usage": meter.to_json(),
        "audit": audited.to_json(),
    }
    return report | {"failures": failures(report)}


@asynccontextmanager
async def _meanwhile(act: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Acts while the block runs. What of it is not done then is left."""
    acting = asyncio.create_task(act)
    try:
        yield
    finally:
        await stop(acting)
    if not acting.cancelled():
        acting.result()


def plan_for(settings: RushSettings, running: RunningStack, sale: str) -> Plan:
    """What the crowd's process has to know."""
    return Plan(
        settings=settings,
        sale=sale,
        targets=running.targets,
        certificate=running.certificate,
        issuer=running.issuer,
        issuer_key_file=running.keys["issuer"],
        sections=described(spec(settings, TITLE, time.time())),
    )


def organiser_of(running: RunningStack, connection: Connection) -> Organiser:
    """Somebody who may define sales and look at the ledger."""
    return Organiser(connection, running.minter().mint("organiser", roles=["organiser", "service"]))


def counts_of(ledger: inventory.Ledger) -> dict[str, int]:
    """The sale's units by state."""
    names = ("capacity", "free", "promised", "held", "sold")
    return {name: getattr(ledger.counts, name) for name in names}


async def audit_settled(running: RunningStack, sale: str) -> Verdict:
    """The audit of a sale that is over, once what its orders left behind is put right, too.

    Money that came late goes back after its order's end; that may take a visit of the sweeper.
    """
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while True:
        verdict = await audit(Sources.of(running), sale, settled=True)
        if verdict.ok or time.monotonic() > deadline:
            return verdict
        await asyncio.sleep(AUDIT_PAUSE_S)


async def _follow(crowd: CrowdProcess, settings: RushSettings, console: Console) -> dict[str, Any]:
    with Progress(console, settings.buyers, settings.tickets) as progress:
        async for told in crowd.follow():
            if "result" in told:
                result: dict[str, Any] = told["result"]
                return result
            progress.show(told)
    raise AssertionError("the crowd's last line is its result")


def _phases(clock: Clock, result: Mapping[str, Any]) -> dict[str, float]:
    """The sale's own phases in place of the sale as one."""
    phases = dict(clock.phases_s)
    phases.pop("sale")
    before = {name: phases.pop(name) for name in ("stack", "crowd")}
    return {**before, **result["phases_s"], **phases}


def failures(report: Mapping[str, Any]) -> list[str]:
    """Why the run does not count as a success, one sentence each."""
    found = [
        f"{against}: {count} times, see the examples"
        for against, count in sorted(report["verdict"]["counts"].items())
    ]
    tickets = report["tickets"]
    if report["ended"] == "gave up":
        found.append(f"not over after {report['settings']['timeout_s']:.0f} s")
    if report["ended"] == "sold out" and tickets.get("sold") != tickets.get("capacity"):
        found.append(f"buyers were told that all is sold, but {tickets.get('sold')} units are")
    if report["units_confirmed"] != tickets.get("sold"):
        found.append(
            f"buyers were told of {report['units_confirmed']} tickets, inventory sold {tickets.get('sold')}"
        )
    found.extend(_of_upheaval(report["upheaval"]))
    found.extend(f"the audit found {number} violated" for number in report["audit"]["broken"])
    return found


def _of_upheaval(upheaval: Mapping[str, Any] | None) -> Iterator[str]:
    if upheaval is None:
        return
    if not upheaval["finished"]:
        done = len(upheaval["replicas"])
        yield f"the sale was over before the {upheaval['what']} was, after {done} replicas"
    refused = sum(upheaval["refused"].values())
    if upheaval["unnoticed"] and refused:
        yield f"buyers were refused {refused} times because of the {upheaval['what']}"


@asynccontextmanager
async def _ground(
    on: Stack | Path | None, console: Console, replicas: Mapping[str, int]
) -> AsyncIterator[Ground]:
    """The stack that is given, or one of our own for this run."""
    theirs = find(on) if isinstance(on, Path) else None
    own = Path(tempfile.mkdtemp(prefix="catraca-rush-"))
    ground: Ground | None = None
    try:
        if isinstance(on, Stack):
            ground = Ground(on.running, own, is_ours=False, stack=on)
            yield ground
        elif theirs is not None:
            ground = Ground(theirs, own, is_ours=False, stack=None)
            yield ground
        else:
            console.print("Starting Redis, NATS, Postgres and the services …", highlight=False)
            async with Stack(own, replicas=replicas) as stack:
                ground = Ground(stack.running, own, is_ours=True, stack=stack)
                yield ground
    finally:
        if ground is not None and not ground.keep:
            shutil.rmtree(own, ignore_errors=True)
        else:
            console.print(f"The logs are kept in {own / 'logs'}", highlight=False)


def _pids(ground: Ground) -> Mapping[str, Sequence[int]]:
    ours = {"catraca rush": [os.getpid()]} if ground.is_ours else {}
    running = ground.stack.running if ground.stack is not None else ground.running
    return {**running.pids, **ours}
