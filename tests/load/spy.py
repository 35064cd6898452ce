"""Samples a running service with py-spy: where its CPU goes, by function.

Whether a thread waits in the kernel only its native frames tell: to Python's eyes the event loop is at work
all the time. So stacks are taken with native frames, those that end in a wait are left out, and the others
count for the Python function that they are in.
"""

import asyncio
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE_HZ = 100
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
SHOWN = 25
# What a thread is in while it has nothing to do; a sample there is no use of CPU.
WAITS = ("epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect", "nanosleep", "clock_nanosleep")
WAITS_FOR_ANOTHER = ("pthread_cond_", "sem_", "futex", "__futex", "do_futex", "syscall (libc")
# Threads of gRPC's own that no Python function began.
OTHER = "threads without Python"
_PYTHON = re.compile(r"\((?:.*\.py|<[^<>]+>):\d+\)$")


@dataclass(frozen=True)
class Profile:
    """What was found; or why nothing was."""

    service: str
    file: str = ""
    """Folded stacks, as speedscope.app and flamegraph.pl read them."""
    samples: int = 0
    """How many found a thread at work."""
    functions: tuple[tuple[str, float, float], ...] = ()
    """Function, the share of samples in itself, and in what it calls too; largest own share first."""
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self)


async def sample(service: str, pid: int, seconds: float, target: Path) -> Profile:
    """Look at the process for a while."""
    spy = Path(sys.executable).with_name("py-spy")
    process = await asyncio.create_subprocess_exec(
        *(str(spy), "record", "--pid", str(pid), "--duration", str(max(round(seconds), 1))),
        *("--native", "--rate", str(RATE_HZ), "--format", "raw", "--output", str(target)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0 or not target.exists():
        return Profile(service, problem=_why(said.decode(errors="replace")))
    samples, functions = read(target.read_text())
    return Profile(service, target.name, samples, tuple(functions[:SHOWN]))


def read(folded: str) -> tuple[int, list[tuple[str, float, float]]]:
    """How many samples found a thread at work, and each function's share: alone, and with what it calls."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if _waits(frames[-1]):
            continue
        functions = [_function(frame) for frame in frames if _PYTHON.search(frame)] or [OTHER]
        total += int(count)
        own[functions[-1]] += int(count)
        for function in set(functions):
            whole[function] += int(count)
    shares = [(name, own[name] / total, count / total) for name, count in whole.items()]
    return total, sorted(shares, key=lambda share: (-share[1], -share[2]))


def _waits(frame: str) -> bool:
    """Whether a thread in this innermost frame waits for somebody."""
    name = frame.partition(" (")[0]
    return name in WAITS or frame.startswith(WAITS_FOR_ANOTHER)


def _function(frame: str) -> str:
    """`verify (identity.py:134)` without the line, so that a function is one row."""
    return f"{frame.rpartition(':')[0]})"


def _why(said: str) -> str:
    scope = PTRACE_SCOPE.read_text().strip() if PTRACE_SCOPE.exists() else "absent"
    last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
    return f"py-spy could not look ({last}); kernel.yama.ptrace_scope is {scope}, and other than 0 needs root"
