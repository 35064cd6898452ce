"""What a hold costs Redis as the sale grows, standing and seated: the script's own time.

Each sale is half sold before it is looked at. Then every round takes a batch of the same size from every
sale, small or large, one after the other; seats are the best that are left, two side by side.
"""

from itertools import count

from redis.asyncio import Redis as Client
from rich.console import Console

from bench.hall import Hall, hold, own_redis, script_us
from bench.rounds import interleaved
from bench.table import Goal, table, told
from services.kit.plans.layout import Layout, layouts
from tests.plans import plan_of, seated_section, spec_of_seats, stadium

GOAL = 1.3
SIZES = (1_000, 10_000, 50_000, 200_000)
SOLD = 0.5
PER_ROUND = 32
"""Holds of one round; the smallest sale has enough for all rounds."""
ROUNDS = 6
TOGETHER = 2
AT_ONCE = 200


class Growing:
    """A sale of one size."""

    def __init__(self, client: Client, capacity: int, quantity: int, layout: Layout | None) -> None:
        kind = "standing" if layout is None else "seated"
        self._hall = Hall(client, f"{kind}-{capacity}", capacity, layout)
        self._quantity = quantity
        self._number = count(1)

    async def fill(self) -> None:
        """Sells the part that is sold before anything is measured, in the same order as everything else."""
        await self._hall.open()
        left = round(self._hall.capacity * SOLD / self._quantity)
        while left > 0:
            await self._hold(min(left, AT_ONCE))
            left -= AT_ONCE

    async def once(self) -> float:
        """Microseconds of script for a hold."""
        before = await script_us(self._hall.client)
        await self._hold(PER_ROUND)
        return (await script_us(self._hall.client) - before) / PER_ROUND

    async def _hold(self, holds: int) -> None:
        numbers = [next(self._number) for _ in range(holds)]
        commands = [hold(f"b{number:025d}", f"hold-{number:09d}", self._quantity) for number in numbers]
        words = {result["word"] for result in await self._hall.run_all(commands)}
        if words != {"HELD"}:
            raise AssertionError(f"holds were answered with {words}")


async def measure(console: Console) -> bool:
    """Tells the times. True where the largest sale costs as much as the smallest, within the goal."""
    sales: dict[str, Growing] = {}
    async with own_redis() as client:
        for size in SIZES:
            sales[f"standing {size}"] = Growing(client, size, 1, None)
            sales[f"seated {size}"] = Growing(client, size, TOGETHER, _stadium(size))
        for each in sales.values():
            await each.fill()
        rounds = await interleaved({name: each.once for name, each in sales.items()}, ROUNDS)
    beside = "of the smallest"
    made = table("Script time of a hold, in µs", "units", "standing", beside, "seated, 2", beside)
    for size in SIZES:
        cells = [f"{size:,}"]
        for kind in ("standing", "seated"):
            name = f"{kind} {size}"
            cells += [f"{rounds.of(name):.1f}", f"{rounds.ratio(name, f'{kind} {SIZES[0]}'):.2f}"]
        made.add_row(*cells)
    goals = [
        Goal(rounds.ratio(f"{kind} {SIZES[-1]}", f"{kind} {SIZES[0]}"), most=GOAL)
        for kind in ("standing", "seated")
    ]
    made.add_row("goal", "", str(goals[0]), "", str(goals[1]))
    return told(console, made, goals)


def _stadium(size: int) -> Layout:
    plan = plan_of(stadium(size))
    section = seated_section("hall", *plan.categories)
    return layouts(spec_of_seats(section), plan)["hall"]
