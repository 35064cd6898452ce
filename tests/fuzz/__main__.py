"""`make fuzz`: bad input for some minutes, from a seed of one's own or a new one; a summary at the end."""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from local.stack import Stack
from tests.fuzz.fuzz import SETTINGS, Finding, Fuzz, summary

CALLS_PER_ROUND = 1000
"""After each, the sales are audited and everybody's health is asked for."""


def main() -> int:
    """Returns 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None, help="the one that a run before has printed")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="catraca-fuzz-") as folder, asyncio.Runner() as runner:
        stack = Stack(Path(folder), settings=SETTINGS)
        runner.run(stack.__aenter__())
        try:
            return _fuzz(stack, arguments.minutes * 60, seed)
        finally:
            runner.run(stack.__aexit__(None, None, None))


def _fuzz(stack: Stack, for_s: float, seed: int) -> int:
    fuzz = Fuzz(stack)
    began = time.monotonic()
    rounds = 0
    try:
        while time.monotonic() - began < for_s:
            fuzz.run(CALLS_PER_ROUND, seed + rounds)
            rounds += 1
            print(f"round {rounds}: {fuzz.tally.total:,} calls, nothing found", flush=True)
    except Finding as finding:
        print(f"\nFOUND in round {rounds + 1}:\n{finding}\n")
        print(
            f"To see it again: make fuzz SEED={seed + rounds} (the round alone), or SEED={seed} (all of them)"
        )
        return 1
    finally:
        print(summary(fuzz.tally, time.monotonic() - began), flush=True)
        fuzz.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
