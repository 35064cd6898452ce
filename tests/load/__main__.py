"""`python -m tests.load`: offers the embedded stack more and more calls, finds the knee, audits, reports."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.load.generator import GeneratorFailed
from tests.load.page import page
from tests.load.run import load
from tests.load.settings import SERIES, LoadSettings
from tests.load.table import show

PAGE, NUMBERS = "index.html", "report.json"


def main() -> int:
    """Run it. Returns 0 if nothing went wrong, 1 if anything did."""
    arguments = _parser().parse_args()
    console = Console()
    settings = LoadSettings(
        rate=arguments.rate,
        step_s=arguments.step_s,
        workers=arguments.workers,
        series=tuple(arguments.series),
        profile=arguments.profile == 1,
    )
    try:
        report = asyncio.run(_until_stopped(settings, console, arguments.report))
    except GeneratorFailed as failure:
        console.print(f"load: {failure}", markup=False, highlight=False)
        return 1
    write(report, arguments.report)
    show(console, report)
    console.print(f"The report: {arguments.report / PAGE}", highlight=False)
    return 1 if report["failures"] else 0


def write(report: dict[str, Any], target: Path) -> None:
    """The page, and its numbers for a program."""
    (target / PAGE).write_text(page(report))
    (target / NUMBERS).write_text(json.dumps(report, indent=1) + "\n")


async def _until_stopped(settings: LoadSettings, console: Console, target: Path) -> dict[str, Any]:
    """SIGTERM stops everything as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await load(settings, console, target)


def _parser() -> argparse.ArgumentParser:
    default = LoadSettings()
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument(
        "--rate", type=_positive, default=default.rate, help="requests a second of the last step"
    )
    parser.add_argument("--step-s", type=_positive, default=default.step_s, help="seconds of each step")
    parser.add_argument(
        "--workers", type=int, choices=range(1, 17), default=default.workers, help="processes that send"
    )
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES, help="what is measured")
    parser.add_argument(
        "--profile", type=int, choices=(0, 1), default=1, help="sample the busiest service at the knee"
    )
    parser.add_argument("--report", type=Path, default=Path("reports/load"), help="where the report goes")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
