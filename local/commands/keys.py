"""`catraca keys rotate`: the issuer of the running stack signs with its next key from now on."""

import argparse
import json
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from rich.console import Console

from local.discovery import DEFAULT_DATA, find

TIMEOUT_S = 10.0


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("keys", help="rotate the keys that tokens are signed with")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    rotate = actions.add_parser("rotate", help="sign with the next key; tokens of the present one stay good")
    rotate.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    rotate.add_argument(
        "--withdraw", action="store_true", help="replace every key, which ends all tokens: for a leaked file"
    )
    rotate.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Rotate, and show the keys' ids. Returns 0, or 1 where the issuer did not do it."""
    stack = find(arguments.data)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    request = Request(
        f"{stack.issuer}/keys/rotate",
        data=urlencode({"withdraw": int(arguments.withdraw)}).encode(),
        headers={"Authorization": f"Bearer {stack.issuer_secret}"},
    )
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_S) as answer:
            keys = json.load(answer)
    except (URLError, TimeoutError) as error:
        console.print(f"the issuer did not rotate its keys: {error}")
        return 1
    console.print(f"signing  {keys['signing']}\ncoming   {keys['coming']}")
    for key in keys["retired"]:
        console.print(f"retired  {key}")
    return 0
