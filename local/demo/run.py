"""The demo from the first process to Ctrl-C: the stack, a sale that opens soon, a crowd, the live view."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from local.client import Connection, Organiser, Targets
from local.commands.up import status
from local.demo.view import addresses, line, view
from local.demo.watch import Picture, listen, look
from local.rush.process import CrowdFailed, CrowdProcess
from local.rush.run import audit_settled, counts_of, failures, organiser_of, plan_for
from local.rush.sale import spec
from local.rush.settings import RushSettings
from local.stack import Stack

TITLE = "A demo night"
REFRESH_S = 0.5
LINE_EVERY_S = 5.0


async def demo(settings: RushSettings, data: Path, console: Console, replicas: Mapping[str, int]) -> None:
    """Run it until cancelled."""
    console.print("Starting Redis, NATS, Postgres, the services and Envoy …", highlight=False)
    picture = Picture(f"demo-{secrets.token_hex(3)}")
    async with (
        Stack(data, replicas=replicas) as stack,
        Connection(Targets(**stack.running.targets, certificate=stack.running.certificate)) as connection,
    ):
        organiser = organiser_of(stack.running, connection)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(picture, stack.running.auditor["nats"]))
            tasks.create_task(look(picture, organiser))
            tasks.create_task(_sell(settings, stack, picture, organiser))
            tasks.create_task(_show(picture, stack, console))


async def _sell(settings: RushSettings, stack: Stack, picture: Picture, organiser: Organiser) -> None:
    """One sale with its crowd, to its end."""
    plan = plan_for(settings, stack.running, picture.sale)
    try:
        async with CrowdProcess(plan, stack.data / "logs" / "crowd.log") as crowd:
            defined = await organiser.define(picture.sale, spec(settings, TITLE, time.time()))
            opens_at_ms = defined.spec.window.opens_at.ToMilliseconds()
            picture.opens_at = opens_at_ms / 1000
            await crowd.begin(opens_at_ms)
            async for told in crowd.follow():
                picture.crowd = told if "result" not in told else picture.crowd
                if "result" in told:
                    tickets = counts_of(await organiser.ledger(picture.sale))
                    audited = await audit_settled(stack.running, picture.sale)
                    picture.conclusion = conclusion(
                        told["result"]
                        | {
                            "tickets": tickets,
                            "upheaval": None,
                            "settings": settings.to_json(),
                            "audit": audited.to_json(),
                        }
                    )
    except CrowdFailed as failure:
        picture.conclusion = str(failure).splitlines()


def conclusion(result: dict[str, Any]) -> list[str]:
    """What came out, for a person."""
    median_ms = result["latencies"]["order to outcome"].get("p50_ms", "–")
    wrong = failures(result)
    return [
        f"{result['ended']}: {result['tickets'].get('sold', 0)} tickets in "
        f"{result['phases_s']['selling']:.0f} s; from order to ticket {median_ms} ms (median)",
        *(wrong or ["What buyers were told and what the stores hold agree: the audit is clean."]),
        *result["verdict"]["examples"],
        "The stack keeps running. Ctrl-C stops everything.",
    ]


async def _show(picture: Picture, stack: Stack, console: Console) -> None:
    """Redraw in a terminal; elsewhere the addresses once and then a line now and then."""
    where = addresses(stack.running, picture.sale)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=False) as live:
            while True:
                parts = await asyncio.to_thread(status, stack)
                live.update(view(picture, parts, where), refresh=True)
                await asyncio.sleep(REFRESH_S)
    console.print("\n".join(where), highlight=False, markup=False, soft_wrap=True)
    concluded = False
    while True:
        if not concluded:
            console.print(line(picture), highlight=False, markup=False, soft_wrap=True)
        if picture.conclusion and not concluded:
            console.print("\n".join(picture.conclusion), highlight=False, markup=False, soft_wrap=True)
            concluded = True
        await asyncio.sleep(LINE_EVERY_S)
