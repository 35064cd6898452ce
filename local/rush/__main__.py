"""The crowd's own process: reads its plan from standard input, tells its progress as JSON lines.

The first line read is the plan, the second the opening time in milliseconds since 1970, given once the sale
is defined. The last line told is the result.
"""

import asyncio
import json
import sys
from typing import Any

import uvloop

from local.rush.crowd import Crowd
from local.rush.settings import Plan


def tell(line: dict[str, Any]) -> None:
    """One line to whoever started this process."""
    print(json.dumps(line), flush=True)


async def opening() -> float:
    """The opening time, once the sale is defined."""
    line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        sys.exit("the plan was withdrawn before the sale was defined")
    return int(line) / 1000


async def main() -> None:
    """Play one crowd."""
    plan = Plan.loads(sys.stdin.readline())
    result = await Crowd(plan, tell).run(opening)
    tell({"result": result})


if __name__ == "__main__":
    uvloop.run(main())
