"""How many processes each service runs in: read from an option, and checked."""

import argparse
from collections.abc import Mapping

from local.parts import SERVICES

MOST = 9
HELP = f"processes of each service, as queue=2,inventory=3; 1 to {MOST}, one where it is not named"


def check(replicas: Mapping[str, int]) -> None:
    """Raises ValueError, one sentence for the person who chose them."""
    for service, count in replicas.items():
        if service not in SERVICES:
            raise ValueError(f"{service!r} is no service: replicas are of {', '.join(SERVICES)}")
        if not 1 <= count <= MOST:
            raise ValueError(f"{service}={count}: a service has 1 to {MOST} replicas")


def parse(text: str) -> dict[str, int]:
    """`queue=2,inventory=3` as numbers by service. Raises ArgumentTypeError for anything else."""
    replicas: dict[str, int] = {}
    for item in text.split(","):
        service, _, number = (each.strip() for each in item.partition("="))
        if service in replicas:
            raise argparse.ArgumentTypeError(f"{service} is named twice")
        if not (number.isascii() and number.isdigit()):
            expected = f"a service has 1 to {MOST} replicas, as in queue=2,inventory=3"
            raise argparse.ArgumentTypeError(f"{item.strip()!r}: {expected}")
        replicas[service] = int(number)
    try:
        check(replicas)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return replicas


def add_option(parser: argparse.ArgumentParser) -> None:
    """Declare `--replicas`, which is the same for every command that starts a stack."""
    parser.add_argument("--replicas", type=parse, default={}, metavar="SERVICE=N,…", help=HELP)
