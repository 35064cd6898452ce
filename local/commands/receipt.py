"""`catraca receipt`: a buyer's receipt and path to the draw's root, as JSON for `catraca verify-draw`."""

import argparse
from typing import Any

from local.client import Buyer, Connection
from local.commands.draw import add_arguments
from local.discovery import RunningStack
from local.draw_files import receipt_file
from local.issuer.tokens import DEFAULT_NAMESPACE


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser(
        "receipt", help="print a buyer's receipt and path to the draw's root, as JSON"
    )
    add_arguments(parser, _receipt)
    parser.add_argument("subject", metavar="SUBJECT", help="the buyer's subject, as their token has it")
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="whose subject it is")


async def _receipt(
    connection: Connection, stack: RunningStack, arguments: argparse.Namespace
) -> dict[str, Any]:
    token = stack.minter().mint(arguments.subject, namespace=arguments.namespace)
    buyer = Buyer(connection, arguments.sale, token)
    place, receipt = await buyer.place(), await buyer.receipt()
    return receipt_file(arguments.sale, receipt, place)
