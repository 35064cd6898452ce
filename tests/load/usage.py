"""What each process uses of the CPU, between two looks; and whether all of them still run."""

import contextlib
from collections.abc import Mapping, Sequence

import psutil

ELSEWHERE = "elsewhere"
"""What runs on the machine beside us, the run's own bookkeeping included."""
DISK = "disk wait"
"""Cores that had nothing to do because what they wait for is on its way to the disk, or from it."""


class Watched:
    """Processes by name, their children included (Postgres works in children of its own)."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._processes = {name: [psutil.Process(pid) for pid in ids] for name, ids in pids.items()}

    def cpu_s(self) -> dict[str, float]:
        """Seconds of CPU used so far, by name."""
        return {name: sum(map(_cpu_s, processes)) for name, processes in self._processes.items()}

    def died(self) -> list[str]:
        """The names of which a process has ended."""
        return [
            name for name, processes in self._processes.items() if not all(_runs(each) for each in processes)
        ]


def machine_cpu_s() -> tuple[float, float]:
    """Seconds of CPU that the whole machine has used so far, and those that its cores waited for the disk."""
    times = psutil.cpu_times()
    idle = times.idle + times.iowait + times.guest + times.guest_nice
    return float(sum(times) - idle), float(times.iowait)


def _cpu_s(process: psutil.Process) -> float:
    used = 0.0
    with contextlib.suppress(psutil.Error):
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                times = member.cpu_times()
                # Children that have ended count with who waited for them.
                used += times.user + times.system + times.children_user + times.children_system
    return used


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
