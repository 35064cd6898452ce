"""The `catraca` command: one subcommand per module of `local.commands`."""

import argparse
import logging
import sys
from importlib import import_module
from pkgutil import iter_modules

import structlog

from local import commands
from local.discovery import AlreadyRunning, NotRunning
from local.servers.binaries import MissingServer
from local.servers.process import StartFailed

INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """The command line with all its subcommands."""
    root = argparse.ArgumentParser(
        prog="catraca", description="Sells scarce tickets to far more people than there are tickets."
    )
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in sorted(iter_modules(commands.__path__), key=lambda module: module.name):
        import_module(f"{commands.__name__}.{module.name}").add_parser(subparsers)
    return root


def main() -> None:
    """Run the command line; its exit status tells how it went."""
    arguments = parser().parse_args()
    # What goes well is told by the command itself.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        sys.exit(arguments.run(arguments))
    except (StartFailed, NotRunning, AlreadyRunning, MissingServer) as error:
        sys.exit(f"catraca: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
