"""One load run from the first process to the verdict: the stack, each series' ladder, its knee, its audit."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from local.client import Connection, Organiser, Targets
from local.discovery import RunningStack
from local.rush.run import audit_settled, organiser_of
from local.stack import SERVICES, Stack
from tests.load import sale as sales
from tests.load import spy
from tests.load.generator import Generator
from tests.load.knee import Measured, knee, measured
from tests.load.settings import LoadSettings, Plan, Step, steps
from tests.load.spy import Profile
from tests.load.tally import DEFECTS
from tests.load.usage import DISK, ELSEWHERE, Watched, machine_cpu_s

Report = dict[str, Any]

SETTLED_WITHIN_S, SETTLE_PAUSE_S = 120.0, 0.5
# Buyers of a BFF's second drive begin far behind those of the first.
SECOND_DRIVE = 10_000_000


class Drive:
    """One run of Locust through some steps against one sale."""

    def __init__(
        self, settings: LoadSettings, running: RunningStack, series: str, sale: str, tokens: list[str]
    ) -> None:
        self._settings = settings
        self._running = running
        self._series = series
        self._sale = sale
        self._tokens = tokens
        self._drives = 0

    async def run(
        self, ladder: list[Step], folder: Path, html: Path, watched: Watched, spied: str = ""
    ) -> tuple[list[Measured], Profile | None]:
        """What each measured step came to; `spied` is the service that is sampled during the last one."""
        plan = self._plan(ladder, folder)
        async with Generator(plan, html) as generator:
            began_at = await generator.began_at()
            looking = Watched(generator.pids)
            both = (watched, looking)
            found: list[dict[str, float]] = []
            profile = None
            for step in ladder:
                await _until(began_at + step.begins_s)
                before = await asyncio.to_thread(_cpu, both)
                if spied and step is ladder[-1]:
                    pid = self._running.pids[spied][0]
                    profile = await spy.sample(spied, pid, step.seconds, html.with_name(f"{spied}.folded"))
                await _until(began_at + step.ends_s)
                after = await asyncio.to_thread(_cpu, both)
                found.append({name: max(after[name] - before[name], 0.0) / step.seconds for name in before})
            tallies = await generator.results()
        return [
            measured(step, tally, cpu)
            for step, tally, cpu in zip(ladder, tallies, found, strict=True)
            if step.measured
        ], profile

    def _plan(self, ladder: list[Step], folder: Path) -> Plan:
        self._drives += 1
        settings = self._settings
        return Plan(
            series=self._series,
            sale=self._sale,
            sections=list(sales.SECTIONS),
            targets=self._running.targets,
            edge=self._running.edge_url.removeprefix("http://"),
            tokens=self._tokens,
            steps=ladder,
            workers=settings.workers,
            lanes=settings.lanes,
            batch=settings.batch,
            streams=settings.streams,
            seed=settings.seed + self._drives,
            first_buyer=(self._drives - 1) * SECOND_DRIVE,
            folder=str(folder),
        )


async def load(
    settings: LoadSettings, console: Console, target: Path, running: RunningStack | None = None
) -> Report:
    """Run it on a stack of its own, or on one that runs; Locust's reports and profiles go to `target`.

    `failures` in the answer says what went wrong, and is empty if nothing did.
    """
    target.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="catraca-load-"))
    report: Report = {"settings": settings.to_json(), "cores": os.cpu_count(), "series": {}, "failures": []}
    try:
        async with (
            _ground(running, scratch, console) as stack,
            Connection(Targets(**stack.targets)) as connection,
        ):
            watched = Watched(stack.pids)
            organiser = organiser_of(stack, connection)
            for series in settings.series:
                found = await _series(settings, stack, organiser, series, scratch, target, watched, console)
                report["series"][series] = found
            for series, found in report["series"].items():
                console.print(f"{series}: auditing {found['sale']} …", highlight=False)
                if await settled(organiser, found["sale"], holds=True) is None:
                    found["settled_s"] = None
                found["audit"] = (await audit_settled(stack, found["sale"])).to_json()
            report["failures"] = failures(report["series"]) + [
                f"a process of {name} died" for name in watched.died()
            ]
    finally:
        if report["failures"] or not report["series"]:
            console.print(f"The logs are kept in {scratch}", highlight=False)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return report


async def _series(
    settings: LoadSettings,
    stack: RunningStack,
    organiser: Organiser,
    series: str,
    scratch: Path,
    target: Path,
    watched: Watched,
    console: Console,
) -> Report:
    sale = sales.name_of(series)
    await organiser.define(sale, sales.spec(series))
    tokens = await asyncio.to_thread(sales.tokens, series, settings, stack.minter())
    drive = Drive(settings, stack, series, sale, tokens)
    rates = [settings.rate * share for share in settings.shares]
    ladder = steps(rates, rates[0], settings)
    console.print(f"{series}: {len(rates)} steps up to {settings.rate:g} a second …", highlight=False)
    folder = scratch / f"{series}-ladder"
    found, _ = await drive.run(ladder, folder, target / f"locust-{series}.html", watched)
    at = knee(found)
    report: Report = {
        "sale": sale,
        "steps": [each.to_json() for each in found],
        "knee": at.to_json() if at else None,
        "confirmed": [],
        "profile": None,
    }
    # What an overload left behind must not weigh on what comes next.
    report["settled_s"] = await settled(organiser, sale)
    if at is not None:
        again = steps([at.offered / 2, at.offered], at.offered / 2, settings)
        spied = busiest(at.cpu) if settings.profile else ""
        folder, html = scratch / f"{series}-knee", target / f"locust-{series}-knee.html"
        confirmed, profile = await drive.run(again, folder, html, watched, spied)
        if profile is not None and profile.file:
            named = target / f"profile-{series}-{spied}.folded"
            (target / profile.file).rename(named)
            profile = Profile(**{**profile.to_json(), "file": named.name})
        report["confirmed"] = [each.to_json() for each in confirmed]
        report["profile"] = profile.to_json() if profile else None
        await settled(organiser, sale)
    return report


def busiest(cpu: Mapping[str, float]) -> str:
    """The service of ours that used the most CPU."""
    return max(SERVICES, key=lambda name: cpu.get(name, 0.0))


async def settled(organiser: Organiser, sale: str, *, holds: bool = False) -> float | None:
    """Wait until no order is open, nor with `holds` any unit held.

    Answers how many seconds that took; None if it did not come.
    """
    began_at = time.monotonic()
    while time.monotonic() - began_at < SETTLED_WITHIN_S:
        orders = await organiser.orders_by_state(sale)
        held = (await organiser.ledger(sale)).counts.held if holds else 0
        if not orders.open and not held:
            return round(time.monotonic() - began_at, 1)
        await asyncio.sleep(SETTLE_PAUSE_S)
    return None


def failures(found: Mapping[str, Report]) -> list[str]:
    """Why the run does not count as a success, one sentence each."""
    said = []
    for series, report in found.items():
        defects: dict[str, int] = {}
        for step in (*report["steps"], *report["confirmed"]):
            for name, count in step["refusals"].items():
                if name.split()[-1] in DEFECTS:
                    defects[name] = defects.get(name, 0) + count
        said += [f"{series}: {count} answers were {name}" for name, count in sorted(defects.items())]
        if report["settled_s"] is None:
            said.append(f"{series}: orders or holds were still open {SETTLED_WITHIN_S:.0f} s after the load")
        said += [f"{series}: the audit found {number} violated" for number in report["audit"]["broken"]]
    return said


@asynccontextmanager
async def _ground(
    running: RunningStack | None, folder: Path, console: Console
) -> AsyncIterator[RunningStack]:
    if running is not None:
        yield running
        return
    console.print("Starting Redis, NATS, Postgres, Envoy and the services …", highlight=False)
    async with Stack(folder / "stack") as stack:
        yield stack.running


def _cpu(both: tuple[Watched, Watched]) -> dict[str, float]:
    """By process; what is left of the machine's own count is somebody else's."""
    ours = {name: used for each in both for name, used in each.cpu_s().items()}
    used, waited = machine_cpu_s()
    return {**ours, ELSEWHERE: used - sum(ours.values()), DISK: waited}


async def _until(moment: float) -> None:
    await asyncio.sleep(max(moment - time.monotonic(), 0.0))
