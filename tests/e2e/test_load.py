"""A short load at a low rate, end to end: through the edge and in batches, to the audit and the page."""

import asyncio
import io
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.load.__main__ import PAGE, write
from tests.load.page import TITLES
from tests.load.run import load
from tests.load.settings import LoadSettings
from tests.load.table import show

RATE = 60.0
OURS = {"queue", "inventory", "checkout", "notifier", "edge", "redis", "postgres", "locust worker 1"}


async def test_a_short_load_is_measured_audited_and_reported(house: Any, tmp_path: Path) -> None:
    # Side by side: at these rates both mostly wait.
    await asyncio.gather(*(_loaded(house, tmp_path / name, name) for name in ("grpc-web", "bff")))


async def _loaded(house: Any, target: Path, name: str) -> None:
    settings = LoadSettings(
        rate=RATE,
        step_s=1.0,
        gap_s=0.2,
        lanes=20,
        buyers=10,
        batch=5,
        series=(name,),
        shares=(0.5, 1.0),
        profile=False,
    )
    report = await load(settings, Console(file=io.StringIO()), target, house.running)
    assert report["failures"] == []
    series = report["series"][name]
    assert [step["offered"] for step in series["steps"]] == [RATE / 2, RATE]
    assert all(step["achieved"] > 0 and set(step["cpu"]) >= OURS for step in series["steps"])
    assert all(step["p50_ms"] <= step["p99_ms"] <= step["p999_ms"] for step in series["steps"])
    assert series["audit"]["ok"] and series["audit"]["sale"] == series["sale"]
    write(report, target)
    text = (target / PAGE).read_text()
    assert "PASSED" in text and TITLES[name] in text and "<svg" in text and "http://" not in text
    assert (target / f"locust-{name}.html").stat().st_size > 0
    printed = io.StringIO()
    show(Console(file=printed, width=120), report)
    assert "PASSED" in printed.getvalue()
    orders = await house.organiser.orders_by_state(series["sale"])
    assert sum(each.count for each in orders.counts) > 0, "the mix reaches as far as orders"
