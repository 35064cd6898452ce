"""Samples a running service with py-spy: where its time goes, by function."""

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATE_HZ = 100
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
SHOWN = 25


@dataclass(frozen=True)
class Profile:
    """What was found; or why nothing was."""

    service: str
    file: str = ""
    """Folded stacks, as speedscope.app and flamegraph.pl read them."""
    samples: int = 0
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
        *("--rate", str(RATE_HZ), "--format", "raw", "--output", str(target)),
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
    """How many samples, and each function's share of them: alone, and with what it calls."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";") if not frame.startswith("process ")]
        if not frames:
            continue
        total += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    shares = [(name, own[name] / total, count / total) for name, count in whole.items()]
    return total, sorted(shares, key=lambda share: (-share[1], -share[2]))


def _function(frame: str) -> str:
    """`verify (identity.py:134)` without the line, so that a function is one row."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.rpartition(':')[0]})" if name and ":" in place else frame


def _why(said: str) -> str:
    scope = PTRACE_SCOPE.read_text().strip() if PTRACE_SCOPE.exists() else "absent"
    last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
    return f"py-spy could not look ({last}); kernel.yama.ptrace_scope is {scope}, and other than 0 needs root"
