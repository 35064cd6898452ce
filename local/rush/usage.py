"""What every process of a run costs: CPU seconds and peak memory, its children included."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil

INTERVAL_S = 1.0
MIB = 1024 * 1024


class Meter:
    """Samples processes by name. With `from_now`, what they used before does not count.

    `pids` is asked at every sample: a process that was restarted has another id.
    """

    def __init__(self, pids: Callable[[], Mapping[str, Sequence[int]]], *, from_now: bool) -> None:
        self._pids = pids
        self._others: dict[str, list[int]] = {}
        self._cpu: dict[int, tuple[str, float]] = {}
        self._peak: dict[str, int] = {}
        self._peak_together = 0
        self._before: dict[str, float] = {}
        if from_now:
            self.sample()
            self._before = self._cpu_by_name()

    def also(self, name: str, pid: int) -> None:
        """One more process."""
        self._others[name] = [pid]

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.to_thread(self.sample)
            await asyncio.sleep(INTERVAL_S)

    def sample(self) -> None:
        """Look once."""
        together = 0
        for name, pids in [*self._pids().items(), *self._others.items()]:
            memory = sum(self._look(name, pid) for pid in pids)
            self._peak[name] = max(self._peak.get(name, 0), memory)
            together += memory
        self._peak_together = max(self._peak_together, together)

    def _look(self, name: str, pid: int) -> int:
        """The memory of a process and its descendants; remembers what each has used of the CPU."""
        memory = 0
        try:
            process = psutil.Process(pid)
            # Our own children are parts with names of their own.
            family = [process] if pid == os.getpid() else [process, *process.children(recursive=True)]
        except psutil.Error:
            return 0
        for member in family:
            try:
                times = member.cpu_times()
                self._cpu[member.pid] = (name, times.user + times.system)
                # Pages that are shared count once: each process has its share of them.
                memory += member.memory_full_info().pss
            except psutil.Error:
                continue
        return memory

    def _cpu_by_name(self) -> dict[str, float]:
        cpu: dict[str, float] = {}
        for name, seconds in self._cpu.values():
            cpu[name] = cpu.get(name, 0.0) + seconds
        return cpu

    def to_json(self) -> dict[str, Any]:
        """By process: CPU seconds and peak memory in MiB; and the peak of all together."""
        cpu = {name: seconds - self._before.get(name, 0.0) for name, seconds in self._cpu_by_name().items()}
        return {
            "by_process": {
                name: {"cpu_s": round(cpu.get(name, 0.0), 1), "peak_mib": round(peak / MIB)}
                for name, peak in self._peak.items()
            },
            "peak_together_mib": round(self._peak_together / MIB),
            "cpu_s": round(sum(cpu.values()), 1),
        }
