"""`catraca draw`: what is published of a sale's draw, as JSON for `catraca verify-draw`."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from catraca.queue.v1 import queue_pb2 as queue
from rich.console import Console

from local.client import Connection, Targets, answered, bearer
from local.commands.apply import why
from local.discovery import DEFAULT_DATA, RunningStack, find
from local.draw_files import draw_file
from services.kit.errors import Refusal

Read = Callable[[Connection, RunningStack, argparse.Namespace], Awaitable[dict[str, Any]]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("draw", help="print what is published of a sale's draw, as JSON")
    add_arguments(parser, _draw)


def add_arguments(parser: argparse.ArgumentParser, read: Read) -> None:
    """What a command takes that prints what `read` answers of a sale."""
    parser.add_argument("sale", metavar="SALE", help="the sale's id")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    parser.set_defaults(run=run, read=read)


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for. Returns 0, or 1 where it was refused."""
    return asyncio.run(_print(find(arguments.data), arguments))


async def _print(stack: RunningStack, arguments: argparse.Namespace) -> int:
    async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
        try:
            content = await arguments.read(connection, stack, arguments)
        except (Refusal, grpc.aio.AioRpcError) as error:
            Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
                f"{arguments.sale}: {why(error)}"
            )
            return 1
    print(json.dumps(content, indent=2))
    return 0


async def _draw(connection: Connection, stack: RunningStack, arguments: argparse.Namespace) -> dict[str, Any]:
    metadata = bearer(stack.minter().mint("organiser", roles=["organiser"]))
    request = queue.GetDrawRequest(sale=arguments.sale)
    found = await answered(connection.queue.GetDraw(request, metadata=metadata))
    keys = await answered(connection.queue.GetReceiptKeys(queue.GetReceiptKeysRequest()))
    return draw_file(arguments.sale, found.draw, keys.keys)
