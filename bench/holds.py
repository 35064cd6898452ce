"""What a hold costs beside a call that does nothing, and a batch of them beside the bare script.

One inventory process, as the embedded stack runs it. Each round plays, one after the other: calls of an empty
method on the same server, behind the same interceptor and with the same token; as many unary holds as it
answers; batches through the ledger's stream; the same script, in batches of the same size, straight at Redis;
and both ways to hold where nothing is left. All of it once with every write on disk before its answer, which
is the default, and once without. Afterwards holds are sent at half the rate that was found.
"""

from dataclasses import dataclass

from rich.console import Console

from bench.ground import DURABLE, NOT_DURABLE, Ground, ground, p99_ms, sale
from bench.hall import Hall
from bench.holding import Holding, Refusing, Straight
from bench.rounds import Rounds, interleaved
from bench.table import Goal, table, told

UNARY_GOAL = 0.9
BATCHED_GOAL = 0.5
ROUNDS = 5
CAPACITY = 1_000_000
SOMEBODY_ELSE = 900_000_000
HALF_S = 4.0

EMPTY, UNARY, STREAM, STRAIGHT = "empty unary call", "unary Hold", "ApplyStream", "script straight at Redis"
NO_UNARY, NO_STREAM = "refused, unary Hold", "refused, ApplyStream"


@dataclass(frozen=True)
class Found:
    """What one way to write to disk came to."""

    rounds: Rounds
    half_rate: float
    half_p99_ms: float


async def measure(console: Console) -> bool:
    """Tells the rates. True where both ratios reach their goals, durable and not."""
    async with ground("inventory") as found:
        durable = await _measured(found, DURABLE)
        not_durable = await _measured(found, NOT_DURABLE)
    return _tell(console, durable, not_durable)


async def _measured(found: Ground, how: str) -> Found:
    await found.sync(how)
    name, sold_out = f"holds-{how}", f"sold-out-{how}"
    await found.organiser.define(name, sale(CAPACITY))
    holding, refusing = Holding(found, name), Refusing(found, sold_out)
    await found.organiser.define(sold_out, sale(1))
    await _take_the_last(found, sold_out)
    hall = Hall(found.redis, f"straight-{how}", CAPACITY)
    await hall.open()
    rounds = await interleaved(
        {
            EMPTY: found.empty,
            UNARY: holding.unary,
            STREAM: holding.batched,
            STRAIGHT: Straight(hall).batched,
            NO_UNARY: refusing.unary,
            NO_STREAM: refusing.batched,
        },
        ROUNDS,
    )
    half = rounds.of(UNARY) / 2
    played = await holding.unary_at(half, HALF_S)
    await holding.check()
    return Found(rounds, half, p99_ms(played.latencies_s))


async def _take_the_last(found: Ground, name: str) -> None:
    """Takes the only unit of a sale."""
    only = Holding(found, name, SOMEBODY_ELSE)
    await only.once()
    await only.check()


def _tell(console: Console, durable: Found, not_durable: Found) -> bool:
    made = table("Holds of one inventory process", "", "on disk first", "ratio", "without", "ratio", "goal")
    goals = []
    compared = {UNARY: (EMPTY, UNARY_GOAL), STREAM: (STRAIGHT, BATCHED_GOAL)}
    for name in (EMPTY, UNARY, STREAM, STRAIGHT, NO_UNARY, NO_STREAM):
        cells, said = [name], []
        for found in (durable, not_durable):
            cells.append(f"{found.rounds.of(name):,.0f}/s")
            if name in compared:
                other, least = compared[name]
                goal = Goal(found.rounds.ratio(name, other), least=least)
                goals.append(goal)
                said.append(str(goal))
                cells.append(f"{goal.number:.2f}")
            else:
                cells.append("")
        made.add_row(*cells, ", ".join(dict.fromkeys(said)))
    half = [f"{found.half_p99_ms:.1f} ms at {found.half_rate:,.0f}/s" for found in (durable, not_durable)]
    made.add_row("unary Hold at half of it, p99", half[0], "", half[1], "", "")
    return told(console, made, goals)
