"""`catraca operator`: looks after TicketSales in Kubernetes until it is told to stop."""

import argparse


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command; all it is told stands in the environment, as of every service."""
    parser = subparsers.add_parser(
        "operator",
        help="look after TicketSales in Kubernetes",
        description="Looks after the TicketSales of one namespace. Settings are CATRACA_ variables in the "
        "environment: docs/operator.md. Kubernetes is reached as a pod's ServiceAccount, or by KUBECONFIG.",
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Run it. Returns 0 when it was asked to stop; a wrong setting ends the process with status 2."""
    # Only here: whoever runs the other commands need not have Kubernetes' client.
    from catraca_operator.__main__ import start

    start()
    return 0
