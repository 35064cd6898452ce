"""A small rush on the running stack: it ends, passes, and its report has every part."""

import io
import json
from typing import Any

from rich.console import Console

from local.rush.report import show
from local.rush.run import rush
from local.rush.settings import Habits, RushSettings

BUYERS, TICKETS = 300, 40
LATENCIES = ("join", "turn wait", "enter", "place order", "order to outcome", "decision to stream")


async def test_a_small_rush_sells_out_and_passes(house: Any) -> None:
    settings = RushSettings(
        buyers=BUYERS,
        tickets=TICKETS,
        seed=3,
        direct=40,
        bffs=2,
        lobby_s=3.0,
        late_s=2.0,
        turn_s=3.0,
        think_s=0.5,
        payment_window_s=5.0,
        grace_s=1.0,
        timeout_s=120.0,
        habits=Habits(intrudes=0.05, forges=0.2, changes_body=0.2, lapses_admitted=0.1, never_pays=0.0),
    )
    report = await rush(settings, Console(file=io.StringIO()), house.stack.data)
    assert report["failures"] == [], report["verdict"]["examples"]
    assert report["ended"] == "sold out"
    assert report["tickets"]["sold"] == report["units_confirmed"] == TICKETS
    assert all(report["latencies"][name]["count"] for name in LATENCIES)
    assert set(report["phases_s"]) == {"stack", "crowd", "lobby", "selling", "settling", "audit"}
    told = report["refusals"]
    assert told["hold ADMISSION_INVALID"] and told["order IDEMPOTENCY_KEY_REUSED"]
    assert {"queue", "checkout", "crowd"} <= set(report["usage"]["by_process"])
    assert json.loads(json.dumps(report)) == report
    page = io.StringIO()
    show(Console(file=page, width=120), report)
    assert "PASSED" in page.getvalue() and f"{TICKETS} of {TICKETS}" in page.getvalue()
