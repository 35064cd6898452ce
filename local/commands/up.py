"""`catraca up`: runs the whole system until Ctrl-C, with a live line per part."""

import argparse
import asyncio
import shutil
import signal
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from local.discovery import DEFAULT_DATA, LOCK, lock
from local.parts import Part, State
from local.replicas import add_option
from local.stack import Stack

REFRESH_S = 0.5
MIB = 1024 * 1024
COLOURS = {
    State.READY: "green",
    State.GIVEN: "green",
    State.STARTING: "yellow",
    State.RESTARTING: "yellow",
    State.STOPPING: "yellow",
    State.ENDED: "bold red",
}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("up", help="run every server and service on this machine until Ctrl-C")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="where data, keys and logs are kept")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run kept there")
    parser.add_argument(
        "--tls", action="store_true", help="speak TLS, with certificates made in the data folder"
    )
    add_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the stack. Returns 0 when it was asked to stop, 1 when it could not start."""
    if arguments.fresh:
        forget(arguments.data)
    stack = Stack(arguments.data, replicas=arguments.replicas, tls=arguments.tls)
    return asyncio.run(serve(stack, Console()))


def forget(data: Path) -> None:
    """Remove a data folder, if it is one."""
    if not data.exists():
        return
    if not (data / LOCK).exists() and any(data.iterdir()):
        raise SystemExit(f"catraca: {data} is not a data folder of Catraca, so --fresh leaves it alone")
    with lock(data):
        shutil.rmtree(data)


async def serve(stack: Stack, console: Console) -> int:
    """Keep the stack up until SIGINT, SIGTERM or SIGHUP. A second signal ends everything by force."""
    asked = asyncio.Event()
    holding = asyncio.create_task(_hold(stack, asked, console))
    watching = asyncio.create_task(_show(stack, console))

    def interrupted() -> None:
        if asked.is_set():
            stack.kill_all()
        asked.set()
        if not stack.started:
            holding.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)
    try:
        await holding
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    console.print("Everything is stopped.")
    return 0


async def _hold(stack: Stack, asked: asyncio.Event, console: Console) -> None:
    async with stack:
        console.print(f"Catraca is up. Data and logs: {stack.data}. Ctrl-C stops it.")
        await asked.wait()


async def _show(stack: Stack, console: Console) -> None:
    """Keep the status lines current: redrawn in a terminal, one line per change elsewhere."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(await asyncio.to_thread(status, stack), refresh=True)
                    await asyncio.sleep(REFRESH_S)
            finally:
                live.update(status(stack), refresh=True)
    seen: dict[str, State] = {}
    while True:
        for part in stack.parts.values():
            if seen.get(part.name) is not part.state:
                seen[part.name] = part.state
                where = " ".join([*part.addresses, *part.metrics])
                console.print(f"{part.name:10} {part.state:9} {where}", highlight=False)
        await asyncio.sleep(REFRESH_S)


def status(stack: Stack) -> Table:
    """A line per part: name, addresses, metrics, state, process ids, memory."""
    table = Table(box=None, pad_edge=False)
    for column in ("part", "address", "metrics", "state", "pid"):
        table.add_column(column)
    table.add_column("memory", justify="right")
    for part in stack.parts.values():
        table.add_row(
            part.name,
            "\n".join(part.addresses),
            "\n".join(part.metrics),
            f"[{COLOURS.get(part.state, 'dim')}]{part.state}",
            "\n".join(str(pid) for pid in part.pids),
            memory(part),
        )
    return table


def memory(part: Part) -> str:
    """What a part's processes occupy, for a person."""
    used = part.usage().memory
    return f"{used / MIB:.0f} MiB" if used else ""
