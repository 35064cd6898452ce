"""A supervised child process: started, watched until it is ready, stopped without leaving anything behind."""

import abc
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil

from local.failure import Failure

GUARD = Path(__file__).with_name("guard.py")
POLL_S = 0.02
KILL_WAIT_S = 10.0
TAIL_LINES = 20
TAIL_BYTES = 16_384
PORT_TAKEN_WORDS = ("address already in use", "could not bind", "failed to bind")


class StartFailed(Failure):
    """A process ended or stayed silent before it was ready. Carries its name and its last log lines."""

    def __init__(self, name: str, why: str, log: str) -> None:
        super().__init__(f"{name}: {why}" + (f"\n--- last lines of its log ---\n{log}" if log else ""))
        self.name = name
        self.why = why
        self.log = log

    @property
    def port_was_taken(self) -> bool:
        """Whether somebody else took the port between its choice and its use."""
        return any(words in self.log.lower() for words in PORT_TAKEN_WORDS)


@dataclass(frozen=True)
class Usage:
    """What a process and its children cost: memory in bytes (shared pages counted once), CPU in seconds."""

    memory: int
    cpu_s: float


class Process(abc.ABC):
    """One child process in its own process group, killed by the kernel when its parent dies.

    The kernel watches the parent's *thread*: call `start` from one that lives as long as the child must.
    Subclasses give `command` and `probe`, and where needed `prepare`, `environment` and `stop_signal`.
    """

    stop_signal = signal.SIGTERM
    stop_timeout_s = 15.0

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log_path = folder / "logs" / f"{name}.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: psutil.Process | None = None
        self._log_start = 0

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """Where it listens, as host:port, without credentials."""

    @abc.abstractmethod
    def command(self) -> Sequence[str]:
        """The program and its arguments. Nothing secret: everybody on the machine can read it."""

    def environment(self) -> Mapping[str, str]:
        """The whole environment of the child."""
        return os.environ

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Write what the program needs before it starts."""

    @abc.abstractmethod
    def probe(self) -> None:
        """Return when the process answers as it should; raise any exception while it does not."""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self.running and self._child else None

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._child is not None and self._exit_status() is None

    def start(self) -> None:
        """Start the child and return at once. The log is appended to, so a restart keeps the history."""
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        self.kill9()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._child = subprocess.Popen(
                guarded(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment()),
                cwd=self.folder,
                process_group=0,
            )
        self._watched = psutil.Process(self._child.pid)

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Block until the probe succeeds. A child that ends or is late is stopped: StartFailed says why."""
        deadline = time.monotonic() + timeout_s
        while (reason := self.not_ready()) is not None:
            if time.monotonic() > deadline:
                self.give_up(f"not ready after {timeout_s:g} s ({reason})")
            time.sleep(POLL_S)

    async def until_ready(self, timeout_s: float = 30.0) -> None:
        """As `wait_ready`, without blocking the event loop."""
        deadline = time.monotonic() + timeout_s
        while (reason := await asyncio.to_thread(self.not_ready)) is not None:
            if time.monotonic() > deadline:
                self.give_up(f"not ready after {timeout_s:g} s ({reason})")
            await asyncio.sleep(POLL_S)

    async def up(self, timeout_s: float = 30.0) -> None:
        """Start and wait, without blocking the event loop while a first start lays out its data."""
        await asyncio.to_thread(self.prepare)
        self.start()
        await self.until_ready(timeout_s)

    def not_ready(self) -> str | None:
        """Probe once: None when ready, else why not yet. StartFailed when it never will be."""
        try:
            self.probe()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            if self.running:
                return None
            reason = "something else answers at its address"
        status = self._exit_status()
        if status is not None:
            self.give_up(f"ended with {status} before it was ready")
        return reason

    def give_up(self, why: str) -> NoReturn:
        """End what is left of the child and say why it could not be started."""
        self.kill9()
        raise StartFailed(self.name, why, self.log_tail())

    def stop(self) -> None:
        """Ask the child to end, then end its group and all descendants by force. Safe to call again."""
        if self._child is None:
            return
        descendants = self._descendants()
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, self.stop_signal)
            self._wait_exit(self.stop_timeout_s)
        self._kill_all(descendants)

    def kill9(self) -> None:
        """End the child as a crash would, at once; its data stays as it is."""
        if self._child is not None:
            self._kill_all(self._descendants())

    def usage(self) -> Usage:
        """What the process and its descendants use now; zeros when it does not run."""
        if not self.running or self._watched is None:
            return Usage(0, 0.0)
        memory, cpu = 0, 0.0
        descendants = self._descendants()
        for process in [self._watched, *descendants]:
            with contextlib.suppress(psutil.Error):
                # Postgres' backends share most of their pages: a sum of RSS would count those for each.
                memory += process.memory_full_info().pss if descendants else process.memory_info().rss
                times = process.cpu_times()
                cpu += times.user + times.system + times.children_user + times.children_system
        return Usage(memory, cpu)

    def log_tail(self) -> str:
        """The last lines the child wrote since its latest start."""
        try:
            with self.log_path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-TAIL_LINES:])

    def _exit_status(self) -> str | None:
        """How the child ended, without reaping it: its id stays ours until its group is dealt with."""
        if self._child is None:
            return None
        if self._child.returncode is not None:
            return _in_words(self._child.returncode)
        try:
            ended = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # Another thread stopped it at this moment.
            return _in_words(self._child.wait(KILL_WAIT_S))
        if ended is None:
            return None
        return _in_words(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)

    def _wait_exit(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.running and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _descendants(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            if self._watched is not None:
                return self._watched.children(recursive=True)
        return []

    def _kill_all(self, descendants: list[psutil.Process]) -> None:
        if self._child is None or self._child.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        # Postgres' backends make groups of their own, so the group alone is not enough.
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._child.wait(KILL_WAIT_S)
        wait_gone(descendants, KILL_WAIT_S)


def guarded(command: Sequence[str]) -> list[str]:
    """The command under a guard that has the kernel kill it with the calling thread."""
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]


def wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait for processes to end and return those that did not. A zombie counts as ended."""
    deadline = time.monotonic() + timeout_s
    while (alive := [process for process in processes if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _in_words(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
