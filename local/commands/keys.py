"""`catraca keys`: lists, rotates and retires the running stack's keys; nothing restarts."""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

import grpc
from catraca.sale.v1.sale_pb2 import Sale
from rich.console import Console

from local.client import Connection, Targets, bearer
from local.commands.apply import why
from local.commands.get import aligned, all_sales
from local.discovery import DEFAULT_DATA, RunningStack, find
from local.issuer.ring import LONGEST_TTL_S, Ring
from local.key_rings import SIGNING, SYMMETRIC, Refused, Row, clock, retire, rotate, rows
from services.kit.errors import Refusal
from services.kit.settings import SettingError

TIMEOUT_S = 10.0
AFTER_S = 10.0
RINGS = (*SYMMETRIC, *SIGNING)
ISSUER = "issuer"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("keys", help="list, rotate and retire keys while everything runs")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show every key, its state and what needs it")
    listing.add_argument("purpose", nargs="?", choices=(*RINGS, ISSUER), help="only keys of this purpose")
    listing.set_defaults(run=run, act=_list)
    rotating = actions.add_parser("rotate", help="make a new key; what the others made stays good")
    rotating.add_argument("purpose", choices=(*RINGS, ISSUER))
    rotating.add_argument(
        "--after", type=float, metavar="SECONDS", help=f"when it is used ({AFTER_S:g}; not for the issuer)"
    )
    rotating.add_argument(
        "--withdraw",
        action="store_true",
        help="issuer only: replace every key, which ends all tokens: for a leaked file",
    )
    rotating.set_defaults(run=run, act=_rotate)
    retiring = actions.add_parser("retire", help="let go of a key that nothing new is made with")
    retiring.add_argument("purpose", choices=(*RINGS, ISSUER))
    retiring.add_argument("id", help="the key's id, as `catraca keys list` shows it")
    retiring.add_argument(
        "--withdraw",
        action="store_true",
        help="for a leaked key: refuse admissions made with it, mark a ticket or receipt key as revoked",
    )
    retiring.set_defaults(run=run, act=_retire)
    for action in (listing, rotating, retiring):
        action.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for, and show the keys. Returns 0, or 1 where it was refused."""
    stack = find(arguments.data)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        for line in arguments.act(stack, arguments):
            console.print(line)
    except (Refused, SettingError) as refused:
        console.print(f"refused: {refused}")
        return 1
    except (Refusal, grpc.aio.AioRpcError) as error:
        console.print(f"the sales cannot be read: {why(error)}")
        return 1
    except (URLError, TimeoutError) as error:
        console.print(f"the issuer did not rotate its keys: {error}")
        return 1
    return 0


def _list(stack: RunningStack, arguments: argparse.Namespace) -> list[str]:
    purposes = [arguments.purpose] if arguments.purpose else [*RINGS, ISSUER]
    return _table(stack, purposes)


def _rotate(stack: RunningStack, arguments: argparse.Namespace) -> list[str]:
    purpose = arguments.purpose
    if purpose == ISSUER:
        if arguments.after is not None:
            raise Refused("the issuer's next key is published already, so it signs at once")
        _rotate_issuer(stack, withdraw=arguments.withdraw)
        return _table(stack, [ISSUER])
    if arguments.withdraw:
        raise Refused(f"rotate first, then `catraca keys retire {purpose} ID --withdraw` the one that leaked")
    after_s = AFTER_S if arguments.after is None else arguments.after
    made = rotate(purpose, _file(stack, purpose), after_s)
    return [f"{made} is used in {after_s:g} s", *_table(stack, [purpose])]


def _retire(stack: RunningStack, arguments: argparse.Namespace) -> list[str]:
    purpose = arguments.purpose
    if purpose == ISSUER:
        raise Refused(
            "the issuer forgets a key by itself when its last token is over; "
            "`catraca keys rotate issuer --withdraw` ends them all"
        )
    sales = _sales(stack)
    became = retire(purpose, _file(stack, purpose), arguments.id, sales, withdraw=arguments.withdraw)
    return [f"{arguments.id} {became}", *_table(stack, [purpose])]


def _file(stack: RunningStack, purpose: str) -> Path:
    return Path(stack.keys[purpose.replace("-", "_")])


def _table(stack: RunningStack, purposes: Sequence[str]) -> list[str]:
    now = time.time()
    # The issuer's keys are no sale's; and what was signed with a new one is not believed at once everywhere.
    sales = _sales(stack) if set(purposes) != {ISSUER} else []
    found = [row for each in purposes if each != ISSUER for row in rows(each, _file(stack, each), sales, now)]
    if ISSUER in purposes:
        found += _issuer_rows(_file(stack, ISSUER))
    shown = [
        [row.purpose, row.id, "" if row.made_at is None else clock(row.made_at), row.state, row.used_by]
        for row in found
    ]
    return aligned([["purpose", "id", "made", "state", "used by"], *shown])


def _sales(stack: RunningStack) -> list[Sale]:
    """Every sale there is, archived ones too."""

    async def read() -> list[Sale]:
        metadata = bearer(stack.minter().mint("organiser", roles=["organiser"]))
        async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
            return [sale async for sale in all_sales(connection, metadata, archived=True)]

    return asyncio.run(read())


def _issuer_rows(path: Path) -> list[Row]:
    coming, signing, *retired = Ring(path).keys
    found = [
        Row(ISSUER, coming.id, coming.made_at, "coming", "nothing"),
        Row(ISSUER, signing.id, signing.made_at, "active", "new tokens"),
    ]
    for key in retired:
        until = clock((key.retired_at or 0.0) + LONGEST_TTL_S)
        found.append(Row(ISSUER, key.id, key.made_at, "checks only", f"tokens until {until}"))
    return found


def _rotate_issuer(stack: RunningStack, *, withdraw: bool) -> None:
    request = Request(
        f"{stack.issuer}/keys/rotate",
        data=urlencode({"withdraw": int(withdraw)}).encode(),
        headers={"Authorization": f"Bearer {stack.issuer_secret}"},
    )
    with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
        json.load(answer)
