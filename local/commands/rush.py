"""`catraca rush`: sells out a sale to simulated buyers, audits it, and reports."""

import argparse
import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from rich.console import Console

from local.parts import SERVICES
from local.replicas import add_option
from local.rush.process import CrowdFailed
from local.rush.report import show
from local.rush.run import rush
from local.rush.settings import RushSettings
from local.rush.upheaval import rolling_restart

# The lobby is long enough for everybody to come in; who does not make it stands behind the draw.
LOBBY_S, LOBBY_S_PER_BUYER = 4.0, 1 / 20_000
# A burst of orders makes the news of each wait; short as the payment window is, it must leave time to pay.
WINDOW_S, WINDOW_S_PER_TICKET = 8.0, 1 / 500
FEWEST_TO_ROLL = 2
# A replica's lame duck, drain, start and the pause after it, on a busy machine; and what a buyer who is
# called takes on average.
RESTART_S_PER_REPLICA, UNITS_PER_BUYER = 8.0, 2.0
# Starting processes takes the CPU from everybody, and a sale that lasts so long has the time.
PACED_TURN_S = 16.0
# Of a large sale more buyers can be promised something at once than two cores can serve within their turns:
# it is paced, as its organiser would do.
UNPACED_TICKETS, PACE, PACED_WINDOW_S = 5_000, 100.0, 12.0
DIRECT_SHARE, MOST_DIRECT = 0.02, 300
# Orders are what takes its time.
TIMEOUT_S, TIMEOUT_S_PER_TICKET = 300.0, 0.015


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("rush", help="sell out a sale to simulated buyers, audit it, and report")
    parser.add_argument("--buyers", type=_positive, default=20_000, help="how many come (default 20000)")
    parser.add_argument("--tickets", type=_positive, default=1_000, help="how many are sold (default 1000)")
    parser.add_argument("--seed", type=int, default=1, help="who the buyers are and how they behave")
    parser.add_argument("--direct", type=int, help="buyers with calls of their own; others come through BFFs")
    parser.add_argument(
        "--timeout", type=float, help="seconds until the sale must be over (default: by tickets)"
    )
    parser.add_argument("--stack", type=Path, help="use the stack that runs in this data folder")
    add_option(parser)
    parser.add_argument(
        "--rolling-restart", action="store_true", help="restart every replica in the middle of the sale"
    )
    parser.add_argument("--json", type=Path, help="write the report here, too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it. Returns 0 if nothing went wrong, 1 if anything did."""
    problem = contradiction(arguments)
    if problem:
        raise SystemExit(f"catraca: {problem}")
    console = Console()
    try:
        report = asyncio.run(_until_stopped(arguments, console))
    except CrowdFailed as failure:
        console.print(f"catraca: {failure}", markup=False, highlight=False)
        return 1
    show(console, report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if report["failures"] else 0


async def _until_stopped(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """SIGTERM stops everything as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await rush(
        settings(arguments),
        console,
        arguments.stack,
        replicas=arguments.replicas,
        upheaval=rolling_restart() if arguments.rolling_restart else None,
    )


def contradiction(arguments: argparse.Namespace) -> str:
    """Why these options cannot be had together; empty where they can."""
    if arguments.stack and (arguments.replicas or arguments.rolling_restart):
        return "--replicas and --rolling-restart are for a stack of the rush's own, so not with --stack"
    if arguments.rolling_restart:
        for service in SERVICES:
            if arguments.replicas.get(service, 1) < FEWEST_TO_ROLL:
                return (
                    f"--rolling-restart needs --replicas {service}={FEWEST_TO_ROLL} at least: "
                    f"while the only replica of {service} restarts, everybody is refused"
                )
    return ""


def settings(arguments: argparse.Namespace) -> RushSettings:
    """The run that the options ask for."""
    buyers = arguments.buyers
    direct = min(int(buyers * DIRECT_SHARE), MOST_DIRECT) if arguments.direct is None else arguments.direct
    return RushSettings(
        buyers=buyers,
        tickets=arguments.tickets,
        seed=arguments.seed,
        direct=min(direct, buyers),
        lobby_s=LOBBY_S + buyers * LOBBY_S_PER_BUYER,
        payment_window_s=_window(arguments),
        timeout_s=arguments.timeout or TIMEOUT_S + arguments.tickets * TIMEOUT_S_PER_TICKET,
        rate=_rate(arguments),
        turn_s=PACED_TURN_S if _rate(arguments) else RushSettings.turn_s,
    )


def _rate(arguments: argparse.Namespace) -> float:
    """Buyers called per second; 0: as fast as they can be promised something."""
    if arguments.rolling_restart:
        return _slowly(arguments)
    return PACE if arguments.tickets > UNPACED_TICKETS else RushSettings.rate


def _window(arguments: argparse.Namespace) -> float:
    """Seconds to pay. Who never pays keeps their units for so long, and the end waits for those."""
    if arguments.tickets > UNPACED_TICKETS:
        return PACED_WINDOW_S
    return WINDOW_S + float(arguments.tickets) * WINDOW_S_PER_TICKET


def _slowly(arguments: argparse.Namespace) -> float:
    """Buyers called per second so that the sale lasts longer than the restart of all replicas."""
    restart_s = RESTART_S_PER_REPLICA * sum(arguments.replicas.values())
    return float(max(arguments.tickets / UNITS_PER_BUYER / restart_s, 1.0))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
