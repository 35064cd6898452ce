"""The audit itself: read, judge, and say what came of it, to a person or as JSON."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from local.audit.findings import Finding
from local.audit.judge import judge, persistent
from local.audit.load import Sources, load

# How long a sale that goes on is given before what looks wrong is looked at again.
SECOND_LOOK_S = 2.0
SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What the audit of one sale came to."""

    sale: str
    settled: bool
    findings: Sequence[Finding]
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return all(finding.ok for finding in self.findings)

    @property
    def broken(self) -> list[str]:
        """The invariants that do not hold, by number."""
        return [finding.invariant for finding in self.findings if not finding.ok]

    def to_json(self) -> dict[str, Any]:
        """All of it, for a program."""
        return {
            "sale": self.sale,
            "settled": self.settled,
            "ok": self.ok,
            "broken": self.broken,
            "duration_s": round(self.duration_s, 2),
            "findings": [
                {
                    "invariant": finding.invariant,
                    "title": finding.title,
                    "ok": finding.ok,
                    "looked_at": finding.looked_at,
                    "under_way": finding.under_way,
                    "violations": finding.violations,
                }
                for finding in self.findings
            ],
        }


async def audit(sources: Sources, sale: str, *, settled: bool = False) -> Verdict:
    """Audit one sale. With `settled` nothing may be under way any more. Raises SaleUnknown."""
    began_at = time.monotonic()
    findings = judge(await load(sources, sale, settled=settled))
    if not settled and not all(finding.ok for finding in findings):
        await asyncio.sleep(SECOND_LOOK_S)
        findings = persistent(findings, judge(await load(sources, sale, settled=settled)))
    return Verdict(sale, settled, findings, time.monotonic() - began_at)


def show(verdict: Verdict, console: Console) -> None:
    """A line per invariant, then the first violations of each that does not hold."""
    table = Table(title=f"Audit of {verdict.sale}", title_justify="left", box=None, pad_edge=False)
    for column in ("", "invariant", "verdict", "looked at"):
        table.add_column(column, overflow="fold")
    for finding in verdict.findings:
        counts = [f"{count:,} {name}" for name, count in finding.looked_at.items()]
        if finding.under_way:
            counts.append(f"{finding.under_way:,} under way")
        judged = "[green]ok" if finding.ok else f"[bold red]{len(finding.violations):,} violated"
        table.add_row(finding.invariant, finding.title, judged, ", ".join(counts))
    console.print(table)
    for finding in verdict.findings:
        for sentence in finding.violations[:SHOWN]:
            console.print(f"[bold red]{finding.invariant}[/] {escape(sentence)}")
        if len(finding.violations) > SHOWN:
            console.print(f"[bold red]{finding.invariant}[/] … and {len(finding.violations) - SHOWN:,} more")
