"""`catraca verify-draw`: checks a draw, and one's own place in it, offline from files."""

import argparse

from local import draw_verifier


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("verify-draw", help="check a draw, and one's own place in it, offline")
    draw_verifier.add_arguments(parser)
    parser.set_defaults(run=draw_verifier.run)
