"""Locust's processes as seen from outside: a master and its workers, started with a plan, ended with it."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from local.servers import ports
from local.servers.process import guarded
from tests.load.settings import Plan
from tests.load.tally import StepTally, together

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STARTED_WITHIN_S = 60.0
ENDED_WITHIN_S = 30.0
STOP_TIMEOUT_S = 5.0
TAIL_BYTES = 2_000
# What Locust ends with when an answer was a defect, which is judged by name. The plugin gives the same.
HAD_DEFECTS = 3


class GeneratorFailed(Exception):
    """A process of Locust's ended as it should not. The message has the end of its log."""


class Generator:
    """`async with Generator(plan, html) as generator:` runs Locust for the block."""

    def __init__(self, plan: Plan, html: Path) -> None:
        self._plan = plan
        self._folder = Path(plan.folder)
        self._html = html
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    @property
    def pids(self) -> dict[str, list[int]]:
        """The ids of its processes, by what they are called in reports."""
        return {name: [process.pid] for name, process in self._processes.items()}

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "plan.json").write_text(self._plan.dumps())
        (self._folder / "plan.json").chmod(0o600)
        port = str(ports.reserve())
        try:
            self._processes["locust master"] = await self._start(
                "master", 0, _master(self._plan, port, self._html)
            )
            for number in range(self._plan.workers):
                self._processes[f"locust worker {number + 1}"] = await self._start(
                    f"worker-{number + 1}",
                    number,
                    ["--worker", "--master-host", ports.HOST, "--master-port", port],
                )
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def began_at(self) -> float:
        """When the run begins, on the machine's monotonic clock; told shortly before."""
        output = self._processes["locust master"].stdout
        assert output is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STARTED_WITHIN_S):
                while line := await output.readline():
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        return float(json.loads(line)["began_at"])
        raise GeneratorFailed(f"Locust did not begin\n{self._tail('master')}")

    async def results(self) -> list[StepTally]:
        """What all workers saw, once they have ended."""
        for name, process in self._processes.items():
            log = name.removeprefix("locust ")
            try:
                async with asyncio.timeout(self._plan.seconds + ENDED_WITHIN_S):
                    status = await process.wait()
            except TimeoutError:
                raise GeneratorFailed(f"{name} did not end\n{self._tail(log)}") from None
            if status not in (0, HAD_DEFECTS):
                raise GeneratorFailed(f"{name} ended with status {status}\n{self._tail(log)}")
        return together(
            [
                [StepTally.from_json(each) for each in json.loads(path.read_text())]
                for path in (self._folder / f"worker-{n}.json" for n in range(self._plan.workers))
            ]
        )

    async def _start(self, name: str, number: int, options: Sequence[str]) -> asyncio.subprocess.Process:
        command = [sys.executable, "-P", "-m", "locust", "-f", str(LOCUSTFILE), "--loglevel", "WARNING"]
        command += ["--exit-code-on-error", str(HAD_DEFECTS)]
        with (self._folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *guarded([*command, *options]),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if name == "master" else log,
                stderr=log,
                process_group=0,
                cwd=self._folder,
                env=os.environ
                | {
                    "CATRACA_LOAD_PLAN": str(self._folder / "plan.json"),
                    "CATRACA_LOAD_WORKER": str(number),
                    "GRPC_VERBOSITY": "NONE",
                },
            )

    def _tail(self, name: str) -> str:
        log = self._folder / f"{name.replace(' ', '-')}.log"
        return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace") if log.exists() else ""

    async def _stop(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.terminate()
        for process in self._processes.values():
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _master(plan: Plan, port: str, html: Path) -> list[str]:
    return [
        *("--master", "--headless", "--only-summary"),
        *("--master-bind-host", ports.HOST, "--master-bind-port", port),
        *("--expect-workers", str(plan.workers), "--expect-workers-max-wait", str(int(STARTED_WITHIN_S))),
        *("--html", str(html), "--check-fail-ratio", "0"),
    ]
