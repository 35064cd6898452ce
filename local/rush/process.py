"""The crowd's process as seen from outside: started with a plan, followed line by line until its result."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.rush.settings import Plan
from local.servers.process import guarded

# A result with all its percentiles and examples is one line.
LINE_LIMIT = 4 * 1024 * 1024
STOP_TIMEOUT_S = 5.0
TAIL_BYTES = 4_096


class CrowdFailed(Exception):
    """The crowd's process ended without a result. The message has the end of its log."""


class CrowdProcess:
    """`async with CrowdProcess(plan, log) as crowd:` runs the crowd for the block."""

    def __init__(self, plan: Plan, log: Path) -> None:
        self._plan = plan
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = guarded([sys.executable, "-P", "-m", "local.rush"])
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_LIMIT,
                # Ctrl-C in the terminal is for us: we end the crowd ourselves.
                process_group=0,
                env=os.environ | {"GRPC_VERBOSITY": "NONE"},
            )
        try:
            await self._write(self._plan.dumps())
            await self._line()  # it says that it is ready
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def begin(self, opens_at_ms: int) -> None:
        """The sale is defined: let them come."""
        await self._write(str(opens_at_ms))

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Its progress, about twice a second; the last one has the `result`."""
        while True:
            told = await self._line()
            yield told
            if "result" in told:
                return

    async def _write(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            status = await self._process.wait()
            raise CrowdFailed(f"the crowd ended with status {status}\n{self._log_tail()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def _log_tail(self) -> str:
        return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
