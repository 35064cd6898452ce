"""`catraca get`: the sales of the running stack, or one of them as a manifest with how it stands."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import yaml
from catraca.sale.v1 import sale_pb2 as sales
from rich.console import Console

from local.client import DEADLINE_S, Connection, Metadata, Targets, answered, bearer
from local.commands.apply import why
from local.discovery import DEFAULT_DATA, RunningStack, find
from services.kit.errors import Refusal
from services.kit.manifest import manifest_of
from services.kit.spec import values_of


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("get", help="list the sales, or show one as a manifest with its status")
    parser.add_argument("sale", nargs="?", help="the sale's id; without it all are listed")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    parser.add_argument("--archived", action="store_true", help="list archived sales too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show what was asked for. Returns 0, or 1 where there is no such sale."""
    return asyncio.run(_get(find(arguments.data), arguments.sale, archived=arguments.archived))


async def _get(stack: RunningStack, name: str | None, *, archived: bool) -> int:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    metadata = bearer(stack.minter().mint("organiser", roles=["organiser"]))
    async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
        try:
            if name is None:
                found = [sale async for sale in all_sales(connection, metadata, archived=archived)]
                for line in _table(found):
                    console.print(line)
            else:
                request = sales.GetSaleRequest(sale=name)
                call = connection.sales.GetSale(request, metadata=metadata, timeout=DEADLINE_S)
                console.print(_manifest((await answered(call)).sale), end="")
        except (Refusal, grpc.aio.AioRpcError) as error:
            console.print(f"{name or 'sales'}: {why(error)}")
            return 1
    return 0


async def all_sales(
    connection: Connection, metadata: Metadata, *, archived: bool
) -> AsyncIterator[sales.Sale]:
    """Every sale by id, without its sections. Raises Refusal."""
    token = ""
    while True:
        request = sales.ListSalesRequest(page_token=token, include_archived=archived)
        call = connection.sales.ListSales(request, metadata=metadata, timeout=DEADLINE_S)
        page = await answered(call)
        for sale in page.sales:
            yield sale
        token = page.next_page_token
        if not token:
            return


def _table(found: list[sales.Sale]) -> list[str]:
    """A line per sale."""
    rows = [["sale", "phase", "opens", "closes", "title"]]
    for sale in found:
        window = sale.spec.window
        opens, closes = window.opens_at.ToJsonString(), window.closes_at.ToJsonString()
        rows.append([sale.sale, _phase(sale), opens, closes, sale.spec.title])
    return aligned(rows)


def aligned(rows: list[list[str]]) -> list[str]:
    """A line per row in columns, never wrapped: it may be piped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in pad]


def _manifest(sale: sales.Sale) -> str:
    """The manifest as it could be applied again, with a status behind it."""
    status: dict[str, Any] = {"phase": _phase(sale).title(), "revision": sale.revision}
    status["createdAt"] = sale.created_at.ToJsonString()
    if sale.draw_commitment:
        status["drawCommitment"] = sale.draw_commitment
    if sale.HasField("counts"):
        status["counts"] = values_of(sale.counts)
    manifest = manifest_of(sale.sale, sale.spec) | {"status": status}
    text: str = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
    return text


def _phase(sale: sales.Sale) -> str:
    return sales.SalePhase.Name(sale.phase).removeprefix("SALE_PHASE_")
