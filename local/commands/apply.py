"""`catraca apply`: judges TicketSale manifests here and defines their sales on the running stack."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import grpc
from catraca.sale.v1 import sale_pb2 as sales
from rich.console import Console

from local.client import DEADLINE_S, Connection, Targets, answered, bearer
from local.discovery import DEFAULT_DATA, RunningStack, find
from services.kit.errors import Refusal
from services.kit.manifest import (
    ManifestInvalid,
    read_manifests,
    said_to_operator,
    spec_of,
    spec_to_manifest,
)
from services.kit.spec import DURATION, duration_ms

Manifest = tuple[str, sales.SaleSpec]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("apply", help="define the sales of a TicketSale manifest")
    parser.add_argument("-f", "--file", type=Path, required=True, help="the manifest; - reads standard input")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    parser.add_argument(
        "--opens-in",
        type=_duration_ms,
        metavar="60s",
        help="shift the sale's whole window so that it opens so long from now",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Define the sales. Returns 0, or 1 where a manifest is no sale or the stack refused it."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        read = read_manifests(_text(arguments.file))
        manifests = [spec_of(manifest) for manifest in read]
    except ManifestInvalid as invalid:
        for problem in invalid.problems:
            console.print(f"{arguments.file}: {problem}")
        return 1
    except (OSError, UnicodeDecodeError) as error:
        console.print(f"{arguments.file}: {error}")
        return 1
    if not manifests:
        console.print(f"{arguments.file}: there is no manifest in it")
        return 1
    for (name, _), manifest in zip(manifests, read, strict=True):
        for path in said_to_operator(manifest):
            console.print(f"{name}: {path} has no effect on one machine, only in Kubernetes")
    if arguments.opens_in is not None:
        for _, spec in manifests:
            shift(spec, int(time.time() * 1000) + arguments.opens_in)
    return asyncio.run(_apply(find(arguments.data), manifests, console, dry_run=arguments.dry_run))


def shift(spec: sales.SaleSpec, opens_ms: int) -> None:
    """Move every time of a sale by as much as brings its opening to `opens_ms`."""
    by_ms = opens_ms - spec.window.opens_at.ToMilliseconds()
    moments = [spec.window.opens_at, spec.window.closes_at]
    if spec.window.HasField("lobby_opens_at"):
        moments.append(spec.window.lobby_opens_at)
    if spec.refunds.HasField("until"):
        moments.append(spec.refunds.until)
    for moment in moments:
        moment.FromMilliseconds(moment.ToMilliseconds() + by_ms)


def why(error: Refusal | grpc.aio.AioRpcError) -> str:
    """Why a call failed, for a person."""
    if isinstance(error, Refusal):
        return f"{error.word}: {error.message}"
    return f"{error.code().name}: {error.details()}"


def differences(before: Any, after: Any, path: str = "spec") -> list[str]:
    """A line per field that differs between two values of a manifest."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        names = list(dict.fromkeys([*before, *after]))
        parts = [differences(before.get(name), after.get(name), f"{path}.{name}") for name in names]
        return [line for part in parts for line in part]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        parts = [differences(was, becomes, f"{path}[{place}]") for place, (was, becomes) in pairs]
        return [line for part in parts for line in part]
    return [f"{path}: {_shown(before)} → {_shown(after)}"]


async def _apply(stack: RunningStack, manifests: list[Manifest], console: Console, *, dry_run: bool) -> int:
    metadata = bearer(stack.minter().mint("organiser", roles=["organiser"]))
    async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
        for name, spec in manifests:
            request = sales.DefineRequest(sale=name, spec=spec, dry_run=dry_run)
            try:
                before = await _present(connection, name, metadata)
                call = connection.sales.Define(request, metadata=metadata, timeout=DEADLINE_S)
                answer = await answered(call)
            except (Refusal, grpc.aio.AioRpcError) as error:
                console.print(f"{name}: {why(error)}")
                return 1
            _tell(console, name, before, answer, dry_run=dry_run)
    return 0


async def _present(connection: Connection, name: str, metadata: Any) -> sales.Sale | None:
    request = sales.GetSaleRequest(sale=name)
    try:
        call = connection.sales.GetSale(request, metadata=metadata, timeout=DEADLINE_S)
        return (await answered(call)).sale
    except Refusal as refusal:
        if refusal.word != "SALE_NOT_FOUND":
            raise
        return None


def _tell(
    console: Console, name: str, before: sales.Sale | None, answer: sales.DefineResponse, *, dry_run: bool
) -> None:
    sale = answer.sale
    phase = sales.SalePhase.Name(sale.phase).removeprefix("SALE_PHASE_")
    outcome = "unchanged" if not answer.changed else "changed" if before else "created"
    would = "would be " if dry_run and answer.changed else ""
    console.print(f"{name}: {would}{outcome} (revision {sale.revision}, {phase})")
    if before is not None:
        for line in differences(spec_to_manifest(before.spec), spec_to_manifest(sale.spec)):
            console.print(f"  {line}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _text(file: Path) -> str:
    return sys.stdin.read() if str(file) == "-" else file.read_text()


def _duration_ms(text: str) -> int:
    if not DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text} is no duration like 90s, 5m or 1h30m")
    return duration_ms(text)
