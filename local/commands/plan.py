"""`catraca plan`: judges seating plans here, and stores them on the running stack for sales to name."""

import argparse
import asyncio
import gzip
from pathlib import Path

import grpc
from catraca.sale.v1 import sale_pb2 as sales
from rich.console import Console

from local.client import DEADLINE_S, Connection, Targets, answered, bearer
from local.commands.apply import why
from local.discovery import DEFAULT_DATA, RunningStack, find
from services.kit.errors import Refusal
from services.kit.plans.compiled import Plan
from services.kit.plans.document import PlanInvalid, read_plan


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command's options."""
    parser = subparsers.add_parser("plan", help="check and store seating plans (pretix's JSON)")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    checking = actions.add_parser("check", help="say what is wrong with a plan, or what is in it")
    checking.set_defaults(run=check)
    pushing = actions.add_parser("push", help="store a plan; prints the digest that a sale names it by")
    pushing.add_argument("--data", type=Path, default=DEFAULT_DATA, help="the running stack's data folder")
    pushing.set_defaults(run=push)
    for action in (checking, pushing):
        action.add_argument("file", type=Path, help="the plan's JSON document")


def check(arguments: argparse.Namespace) -> int:
    """Judge a plan without a stack. Returns 0, or 1 where it is none."""
    console = _console()
    return 0 if _read(arguments.file, console) else 1


def push(arguments: argparse.Namespace) -> int:
    """Store a plan. Returns 0, or 1 where it is none or the stack refused it."""
    console = _console()
    if not _read(arguments.file, console):
        return 1
    # Compressed, a stadium's five megabytes are well below what a service takes.
    document = gzip.compress(arguments.file.read_bytes())
    return asyncio.run(_push(find(arguments.data), document, console))


async def _push(stack: RunningStack, document: bytes, console: Console) -> int:
    metadata = bearer(stack.minter().mint("organiser", roles=["organiser"]))
    async with Connection(Targets(**stack.targets, certificate=stack.certificate)) as connection:
        try:
            request = sales.PushPlanRequest(document=document)
            call = connection.sales.PushPlan(request, metadata=metadata, timeout=DEADLINE_S)
            answer = await answered(call)
        except (Refusal, grpc.aio.AioRpcError) as error:
            console.print(why(error))
            return 1
    console.print("stored" if answer.stored else "was stored before")
    return 0


def _read(file: Path, console: Console) -> Plan | None:
    """The plan, told on the console; or what is wrong with it."""
    try:
        plan = read_plan(file.read_bytes())
    except PlanInvalid as invalid:
        for problem in invalid.problems:
            console.print(f"{file}: {problem}")
        return None
    except OSError as error:
        console.print(f"{file}: {error}")
        return None
    counts = plan.counts()
    console.print(f"{plan.name}: {sum(counts.values())} seats in {len(plan.rows)} rows")
    for category, seats in counts.items():
        console.print(f"  {category}: {seats}")
    console.print(f"digest: {plan.digest}")
    return plan


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)
