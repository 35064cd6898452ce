"""`make bench`: every measurement, one after the other, each with a table of its own."""

import argparse
import logging
import sys
from importlib import import_module

import structlog
import uvloop
from rich.console import Console

WIDTH = 110
MEASUREMENTS = ("holds", "blocking", "seats", "growth", "rivals", "line")
"""Modules of this package; each has `measure(console)`, which answers whether its goals are met."""


def main() -> int:
    """Runs what is asked for. Returns 0, or 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures parts side by side.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(MEASUREMENTS)}; all if none"
    )
    names = parser.parse_args().names or MEASUREMENTS
    # What runs within this process tells by its exceptions; its log would stand between the tables.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    console = Console(highlight=False, markup=False, soft_wrap=True)
    # Its tables are wider than what is taken for the width where there is no terminal.
    console.width = max(console.width, WIDTH)
    met = [uvloop.run(import_module(f"bench.{name}").measure(console)) for name in names]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
