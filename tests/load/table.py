"""What a load run came to, for a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.load.page import CORES, TITLES, refusals, shares

Report = Mapping[str, Any]


def show(console: Console, report: Report) -> None:
    """A table for each series, then the verdict."""
    for name, series in report["series"].items():
        console.print()
        console.print(_steps(TITLES[name], series))
        for line in _lines(series):
            console.print(line, markup=False, highlight=False)
    console.print()
    for failure in report["failures"]:
        console.print(f"[bold red]FAILED[/] {failure}", highlight=False)
    if not report["failures"]:
        console.print(
            "[bold green]PASSED[/] every audit holds; no answer was INTERNAL or UNKNOWN; no process died."
        )


def _steps(title: str, series: Report) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for column in ("offered/s", "achieved/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", *CORES):
        table.add_column(column, justify="right")
    knee = series["knee"]
    for step in series["steps"]:
        style = "bold green" if knee and step["offered"] == knee["offered"] else ""
        table.add_row(
            f"{step['offered']:g}",
            f"{step['achieved']:.0f}",
            *(f"{step[key]:.1f}" for key in ("p50_ms", "p90_ms", "p99_ms", "p999_ms")),
            *(f"{used:.2f}" for used in shares(step["cpu"])),
            style=style,
        )
    return table


def _lines(series: Report) -> list[str]:
    lines = []
    knee, confirmed, profile = series["knee"], series["confirmed"], series["profile"]
    if knee is None:
        lines.append("  no knee: not even the idle step was served")
    else:
        lines.append(f"  knee: {knee['offered']:g} a second")
    if confirmed:
        half = confirmed[0]
        lines.append(
            f"  at half of it: p50 {half['p50_ms']:.1f}, p90 {half['p90_ms']:.1f}, p99 {half['p99_ms']:.1f}, "
            f"p99.9 {half['p999_ms']:.1f} ms"
        )
    if profile and profile["problem"]:
        lines.append(f"  profile of {profile['service']}: {profile['problem']}")
    elif profile:
        first = ", ".join(f"{own:.0%} {function}" for function, own, _ in profile["functions"][:3])
        lines.append(f"  at the knee {profile['service']} is busiest: {first}")
    for name, count in refusals([*series["steps"], *confirmed]).items():
        lines.append(f"  refused: {name} × {count}")
    lines.append(f"  audit of {series['audit']['sale']}: {'ok' if series['audit']['ok'] else 'VIOLATED'}")
    return lines
