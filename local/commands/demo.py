"""`catraca demo`: the whole system with a sale that opens in a minute, a crowd, and a live view."""

import argparse
import asyncio
import signal
from pathlib import Path

from rich.console import Console

from local.demo.run import demo
from local.discovery import DEFAULT_DATA
from local.replicas import add_option
from local.rush.settings import RushSettings


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser(
        "demo", help="run everything with a demo sale and a live view until Ctrl-C"
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="where data, keys and logs are kept")
    parser.add_argument("--buyers", type=int, default=1_500, help="how many come (default 1500)")
    parser.add_argument("--tickets", type=int, default=300, help="how many are sold (default 300)")
    parser.add_argument("--opens-in", type=float, default=60.0, help="seconds until it opens (default 60)")
    add_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run until Ctrl-C, SIGTERM or the terminal's end. Returns 0."""
    try:
        asyncio.run(_until_stopped(arguments))
    except (KeyboardInterrupt, asyncio.CancelledError):
        Console().print("Everything is stopped.")
    return 0


async def _until_stopped(arguments: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await demo(settings(arguments), arguments.data, Console(), arguments.replicas)


def settings(arguments: argparse.Namespace) -> RushSettings:
    """A crowd at the pace of people, so that one can watch."""
    return RushSettings(
        buyers=arguments.buyers,
        tickets=arguments.tickets,
        seed=4,
        direct=min(20, arguments.buyers),
        bffs=2,
        lobby_s=arguments.opens_in,
        spread_s=arguments.opens_in * 0.8,
        late_s=20.0,
        rate=max(arguments.tickets / 60, 1.0),
        turn_s=20.0,
        think_s=5.0,
        payment_window_s=20.0,
        grace_s=5.0,
        timeout_s=1_800.0,
    )
