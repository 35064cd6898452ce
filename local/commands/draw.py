"""`catraca draw` and `catraca receipt`: what `catraca verify-draw` checks, as JSON on standard output."""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from catraca.queue.v1 import queue_pb2 as queue
from rich.console import Console

from local.client import Buyer, Connection, Targets, answered, bearer
from local.commands.apply import why
from local.discovery import DEFAULT_DATA, RunningStack, find
from local.draw_files import draw_file, receipt_file
from local.issuer.tokens import DEFAULT_NAMESPACE
from services.kit.errors import Refusal

Read = Callable[[Connection, RunningStack, argparse.Namespace], Awaitable[dict[str, Any]]]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare both commands' options."""
    drawing = subparsers.add_parser("draw", help="print what is published of a sale's draw, as JSON")
    drawing.set_defaults(run=run, read=_draw)
    receipt = subparsers.add_parser(
        "receipt", help="print a buyer's receipt and path to the draw's root, as JSON"
    )
    receipt.set_defaults(run=run, read=_receipt)
    for parser in (drawing, receipt):
        parser.add_argument("sale", metavar="SALE", help="the sale's id")
        parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    receipt.add_argument("subject", metavar="SUBJECT", help="the buyer's subject, as their token has it")
    receipt.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="whose subject it is")


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


async def _receipt(
    connection: Connection, stack: RunningStack, arguments: argparse.Namespace
) -> dict[str, Any]:
    token = stack.minter().mint(arguments.subject, namespace=arguments.namespace)
    buyer = Buyer(connection, arguments.sale, token)
    place, receipt = await buyer.place(), await buyer.receipt()
    return receipt_file(arguments.sale, receipt, place)
