"""`catraca codes`: makes access codes, and lets those of a file open a sale's line."""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from rich.console import Console

from local.client import Connection, Organiser, Targets
from local.commands.apply import why
from local.discovery import DEFAULT_DATA, RunningStack, find
from services.kit.errors import Refusal

CODES_AT_ONCE = 1000
# Neither 0 nor O, 1 nor I: codes are read from paper.
LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
GROUPS, GROUP = 3, 4


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("codes", help="make access codes, and let them open a sale's line")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    making = actions.add_parser("make", help="print random codes, one a line; nothing is stored")
    making.add_argument("count", type=int, metavar="COUNT", help="how many")
    making.set_defaults(run=make)
    pushing = actions.add_parser("push", help="let the codes of a file open a sale's line; may be repeated")
    pushing.add_argument("sale", metavar="SALE", help="the sale's id")
    pushing.add_argument("file", type=Path, metavar="FILE", help="a code a line; - is standard input")
    pushing.add_argument(
        "--uses", type=int, default=1, help="how many buyers may join by each code (1); 0 closes the codes"
    )
    pushing.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    pushing.set_defaults(run=push)


def make(arguments: argparse.Namespace) -> int:
    """Print codes of 60 bits, which nobody guesses. Returns 0."""
    for _ in range(arguments.count):
        groups = ("".join(secrets.choice(LETTERS) for _ in range(GROUP)) for _ in range(GROUPS))
        print("-".join(groups))
    return 0


def push(arguments: argparse.Namespace) -> int:
    """Put the file's codes. Returns 0, 1 where the sale refused, 2 for a file that has none."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        text = sys.stdin.read() if str(arguments.file) == "-" else arguments.file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        console.print(f"{arguments.file}: {problem}")
        return 2
    codes = [line.strip() for line in text.splitlines() if line.strip()]
    if not codes:
        console.print(f"{arguments.file}: there is no code in it")
        return 2
    try:
        print(asyncio.run(_push(find(arguments.data), arguments.sale, codes, arguments.uses)))
    except (Refusal, grpc.aio.AioRpcError) as error:
        console.print(f"{arguments.sale}: {why(error)}")
        return 1
    return 0


async def _push(stack: RunningStack, sale: str, codes: Sequence[str], uses: int) -> str:
    added = changed = known = 0
    async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
        organiser = Organiser(connection, stack.minter().mint("organiser", roles=["organiser"]))
        for start in range(0, len(codes), CODES_AT_ONCE):
            answer = await organiser.put_codes(sale, codes[start : start + CODES_AT_ONCE], uses)
            added, changed, known = added + answer.added, changed + answer.changed, answer.known
    return f"{len(codes)} codes: {added} new, {changed} changed; {sale} has {known}"
