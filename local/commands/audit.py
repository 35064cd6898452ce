"""`catraca audit`: judges a sale's invariants by what its stores, streams and payment provider hold."""

import argparse
import asyncio
import json
from pathlib import Path

from rich.console import Console

from local.audit.config import AuditSettings
from local.audit.load import Sources
from local.audit.load_streams import SaleUnknown
from local.audit.report import audit, show
from local.discovery import DEFAULT_DATA, find
from services.kit.settings import SettingError, exit_for, load


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("audit", help="check a sale's invariants I1 to I8 and I11")
    parser.add_argument("sale", metavar="SALE", help="the sale's id")
    parser.add_argument(
        "--settled", action="store_true", help="everything must have come to its end: what is open is wrong"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    where.add_argument(
        "--environment",
        action="store_true",
        help="a cluster's stores, which CATRACA_REDIS_URL and its siblings name (docs/operations.md)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit the sale. Returns 0 if every invariant holds, 1 if one does not, 2 if there is no such sale."""
    try:
        told = arguments.environment
        sources = Sources.told(load(AuditSettings)) if told else Sources.of(find(arguments.data))
        verdict = asyncio.run(audit(sources, arguments.sale, settled=arguments.settled))
    except SaleUnknown as problem:
        Console(stderr=True).print(f"catraca: {problem}", highlight=False)
        return 2
    except SettingError as error:
        exit_for(error)
    if arguments.json:
        print(json.dumps(verdict.to_json(), indent=2))
    else:
        show(verdict, Console())
    return 0 if verdict.ok else 1
