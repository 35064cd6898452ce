"""Draws the live view: parts, phase, bars, orders, events, addresses."""

import time
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from local.demo.watch import Picture
from local.discovery import RunningStack

EVENTS = 10
AUTHORIZED = '-plaintext -H "authorization: Bearer $TOKEN"'
BAR_WIDTH = 40
COLOURS = {"sold": "green", "held": "yellow", "promised": "cyan"}


def view(picture: Picture, parts: RenderableType, addresses: Sequence[str]) -> RenderableType:
    """Everything, from top to bottom."""
    top = Table.grid(expand=True, padding=(0, 2))
    top.add_column(ratio=1)
    top.add_column(ratio=1)
    top.add_row(
        Panel(parts, title="parts", title_align="left"),
        Panel(_sale(picture), title=headline(picture), title_align="left"),
    )
    shown: list[RenderableType] = [
        top,
        Panel(Text("\n".join(picture.events(EVENTS)), no_wrap=True), title="events", title_align="left"),
        Panel(Text("\n".join(addresses)), title="try it", title_align="left"),
    ]
    if picture.conclusion:
        shown.append(Panel(Text("\n".join(picture.conclusion)), title="over", title_align="left"))
    return Group(*shown)


def headline(picture: Picture) -> str:
    """The sale, its phase, and how long until it opens."""
    waits = picture.opens_at - time.time()
    countdown = f", opens in {waits:.0f} s" if waits > 0 else ""
    return f"{picture.sale}: {picture.phase}{countdown}"


def _sale(picture: Picture) -> RenderableType:
    crowd, counts = picture.crowd, picture.counts
    table = Table.grid(padding=(0, 2))
    table.add_row("joined", str(crowd.get("joined", 0)))
    table.add_row("serving", f"{crowd.get('serving', 0)}  ({counts.get('turns', 0)} turns are running)")
    capacity = counts.get("capacity", 0)
    for name in ("promised", "held", "sold"):
        units = counts.get(name, 0)
        bar = ProgressBar(
            total=max(capacity, 1), completed=units, width=BAR_WIDTH, complete_style=COLOURS[name]
        )
        row = Table.grid(padding=(0, 1))
        row.add_row(bar, f"{units} of {capacity}")
        table.add_row(name, row)
    for state, count in sorted(picture.orders.items()):
        table.add_row(f"orders {state}", str(count))
    return table


def line(picture: Picture) -> str:
    """The same in one line, for where nothing can be redrawn."""
    counts, crowd = picture.counts, picture.crowd
    orders = ", ".join(f"{state} {count}" for state, count in sorted(picture.orders.items()))
    return (
        f"{headline(picture)}: joined {crowd.get('joined', 0)}, serving {crowd.get('serving', 0)}, "
        f"promised {counts.get('promised', 0)}, held {counts.get('held', 0)}, "
        f"sold {counts.get('sold', 0)} of {counts.get('capacity', 0)}; orders: {orders or 'none'}"
    )


def addresses(running: RunningStack, sale: str) -> list[str]:
    """Where everything is, and what to try."""
    targets = "  ".join(f"{name} {target}" for name, target in running.targets.items())
    bearer = f"Bearer $(cat {running.data}/keys/issuer-secret)"
    read = "python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])'"
    grpcurl = f"grpcurl -plaintext {running.targets['queue']}"
    return [
        f"gRPC       {targets}",
        f"gRPC-web   {running.edge_url}",
        f"HTTP       sandbox provider {running.sandbox_url}  token issuer {running.issuer}",
        f"logs       {running.data}/logs",
        f"what is    {grpcurl} list",
        f'a token    TOKEN=$(curl -s {running.issuer}/token -d subject=me -H "Authorization: {bearer}"'
        f" | {read})",
        f'join       {grpcurl.replace("-plaintext", AUTHORIZED)} -d \'{{"sale": "{sale}"}}\''
        " catraca.queue.v1.QueueService/Join",
        f"your sale  catraca apply --data {running.data} -f examples/festival.yaml --opens-in 60s",
    ]
