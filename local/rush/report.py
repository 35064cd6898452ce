"""What a rush found out, for a person."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Report = Mapping[str, Any]

SHOWN = 3
TOLD = {
    "I9": "Who acts within turn and allowance gets it (what buyers were told)",
    "I10": "No hold outside the window or without a promise (what buyers were told)",
    "I12": "Every order's end reached its buyer's stream (what buyers were told)",
}


def show(console: Console, report: Report) -> None:
    """Print all of it."""
    console.print()
    for table in (_course(report), _latencies(report), _ends(report), _costs(report), _audit(report)):
        console.print(table)
        console.print()
    _conclude(console, report)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _course(report: Report) -> Table:
    settings, tickets, orders = report["settings"], report["tickets"], report["orders"]
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["phases_s"].items())
    table = _table(f"{settings['buyers']} buyers, {settings['tickets']} tickets", "", "")
    for name, value in (
        ("duration", f"{report['duration_s']:.1f} s ({phases})"),
        ("ended", report["ended"]),
        ("tickets sold", f"{tickets.get('sold', 0)} of {tickets.get('capacity', 0)}"),
        ("joins", f"{report['joins_per_s']:.0f}/s while the lobby fills"),
        (
            "orders accepted",
            f"{orders['accepted']}, {report['orders_per_s']} in the busiest second",
        ),
        ("streams opened again", str(report["reconnects"])),
        ("sent again by BFFs", f"{report['repeats']} (their buyers did not notice)"),
        *_upheaval(report["upheaval"]),
    ):
        table.add_row(name, value)
    return table


def _upheaval(upheaval: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if upheaval is None:
        return []
    refused = [f"{what} {times}" for what, times in upheaval["refused"].items()]
    return [
        (upheaval["what"], f"{len(upheaval['replicas'])} replicas in {upheaval['seconds']:.1f} s"),
        ("refused because of it", ", ".join(refused) or "nobody"),
    ]


def _latencies(report: Report) -> Table:
    table = _table("How long it took", "", "count", "p50 ms", "p99 ms", "max ms")
    for name, summary in report["latencies"].items():
        numbers = [str(summary.get(key, "–")) for key in ("count", "p50_ms", "p99_ms", "max_ms")]
        table.add_row(name, *numbers)
    return table


def _ends(report: Report) -> Table:
    table = _table("What buyers were told", "", "times")
    orders = report["orders"]
    for state, count in sorted(orders["by_state"].items()):
        table.add_row(f"order ended {state}", str(count))
    for refusal, count in report["refusals"].items():
        table.add_row(f"refused: {refusal}", str(count))
    for retry, count in report["retries"].items():
        table.add_row(f"tried again: {retry}", str(count))
    return table


def _costs(report: Report) -> Table:
    usage = report["usage"]
    table = _table("What it cost", "process", "CPU s", "peak MiB")
    for name, used in usage["by_process"].items():
        table.add_row(name, str(used["cpu_s"]), str(used["peak_mib"]))
    table.add_row("[bold]together[/]", str(usage["cpu_s"]), str(usage["peak_together_mib"]))
    return table


def _audit(report: Report) -> Table:
    """All invariants in their order: those that the stores tell, and those that only buyers can know."""
    told = report["verdict"]["counts"]
    rows = [
        (finding["invariant"], finding["title"], len(finding["violations"]))
        for finding in report["audit"]["findings"]
    ]
    rows += [(number, title, told.get(number, 0)) for number, title in TOLD.items()]
    table = Table(title="The invariants", title_justify="left", box=None, pad_edge=False, title_style="bold")
    for number, title, violated in sorted(rows, key=lambda row: int(row[0][1:])):
        table.add_row(number, title, f"[bold red]{violated} violated[/]" if violated else "[green]ok[/]")
    return table


def _conclude(console: Console, report: Report) -> None:
    violations = [
        f"{finding['invariant']} {sentence}"
        for finding in report["audit"]["findings"]
        for sentence in finding["violations"][:SHOWN]
    ]
    for example in (*report["verdict"]["examples"], *violations):
        console.print(f"  {example}", markup=False, highlight=False)
    if report["failures"]:
        for failure in report["failures"]:
            console.print(f"[bold red]FAILED[/] {failure}", highlight=False)
    else:
        console.print("[bold green]PASSED[/] what buyers were told and what the stores hold agree.")
