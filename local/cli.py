"""The `catraca` command: one subcommand per module of `local.commands`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

import structlog

from local import commands
from local.failure import Failure

INTERRUPTED = 130
OURS = frozenset({"catraca", "catraca_operator", "local", "services"})


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line with the subcommand that is given first, or with all of them.

    What another command needs is not imported: an image for the operator has none of the servers.
    """
    root = argparse.ArgumentParser(
        prog="catraca", description="Sells scarce tickets to far more people than there are tickets."
    )
    subparsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    names = sorted(module.name for module in iter_modules(commands.__path__))
    asked = given[0].replace("-", "_") if given else ""
    for name in [asked] if asked in names else names:
        import_module(f"{commands.__name__}.{name}").add_parser(subparsers)
    return root


def main() -> None:
    """Run the command line; its exit status tells how it went."""
    # What goes well is told by the command itself.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        arguments = parser(sys.argv[1:]).parse_args()
        sys.exit(arguments.run(arguments))
    except Failure as failure:
        sys.exit(f"catraca: {failure}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in OURS:
            raise
        sys.exit(
            f"catraca: {missing.name} is not installed; "
            "pip install 'catraca[operator]' brings what the operator needs, 'catraca[local]' the rest"
        )
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
