"""Plays the crowd of one sale from the first arrival to the verdict. Runs in a process of its own."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import grpc

from local.client import Connection, Targets
from local.issuer.tokens import Minter
from local.rush.bff import NAMESPACE, Bff
from local.rush.checks import Checks
from local.rush.direct import Direct
from local.rush.intent import Stage
from local.rush.judge import judge
from local.rush.payer import Payer
from local.rush.settings import Plan
from local.rush.simulation import Simulation
from services.kit.errors import Refusal

DIRECT_CONNECTIONS = 4
PROGRESS_S = 0.5
STOCK_S = 0.5
TOKEN_TTL_S = 4 * 3600
# After the opening each BFF loses its order stream once, one after the other.
RESTART_S = 3.0


class Ended(Exception):
    """The run is over: ends whatever still runs."""


class Crowd:
    """One run."""

    def __init__(self, plan: Plan, tell: Callable[[dict[str, Any]], None]) -> None:
        self._plan = plan
        self._settings = plan.settings
        self._tell = tell
        self._minter = Minter(Path(plan.issuer_key_file), plan.issuer)
        self._bff_token = self._minter.mint("crowd", roles=["bff"], namespace=NAMESPACE, ttl_s=TOKEN_TTL_S)
        self._counts: dict[str, int] = {}
        self._ended = ""

    async def run(self, doors: Callable[[], Awaitable[float]]) -> dict[str, Any]:
        """Get ready, wait for the doors (they tell the opening time), live through the sale and judge it."""
        result: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            payer = await stack.enter_async_context(Payer())
            count = self._settings.bffs + DIRECT_CONNECTIONS
            targets = Targets(**self._plan.targets, certificate=self._plan.certificate)
            connections = [await stack.enter_async_context(Connection(targets)) for _ in range(count)]
            try:
                async with asyncio.TaskGroup() as tasks:
                    simulation = Simulation(self._plan, payer, tasks)
                    result = await self._live(simulation, connections, doors)
                    raise Ended
            except* Ended:
                pass
        return result

    async def _live(
        self, simulation: Simulation, connections: list[Connection], doors: Callable[[], Awaitable[float]]
    ) -> dict[str, Any]:
        bffs = [Bff(simulation, at, self._bff_token) for at in connections[: self._settings.bffs]]
        direct = Direct(simulation, connections[self._settings.bffs :], self._minter)
        simulation.connect(direct, bffs)
        self._tell({"ready": True})
        opens_at = await doors()
        began_at = time.time()
        checks = Checks(simulation, connections[0], self._bff_token, direct)
        for bff in bffs:
            bff.start()
        for work in (
            simulation.agenda.run(),
            self._read_stock(checks),
            self._restart(simulation, bffs),
        ):
            simulation.tasks.create_task(work)
        simulation.open_doors(opens_at)
        await self._until_over(simulation)
        over_at = time.time()
        await checks.run()
        judged = judge(simulation.buyers, len(self._plan.sections), self._settings.turn_s)
        judged.merge(checks.verdict)
        return self._result(simulation, began_at, over_at) | {"verdict": judged.to_json()}

    async def _until_over(self, simulation: Simulation) -> None:
        deadline = time.time() + self._settings.timeout_s
        quiet_since = 0.0
        while not self._ended:
            self._tell(self._progress(simulation))
            now = time.time()
            nothing_left = bool(simulation.sold_out_at)
            over = simulation.is_quiet() and (nothing_left or simulation.nobody_waits())
            quiet_since = (quiet_since or now) if over else 0.0
            # With tickets left, the last turns have to run out before nothing can change any more.
            patience = PROGRESS_S if nothing_left else self._settings.turn_s + 1.0
            if quiet_since and now - quiet_since >= patience:
                self._ended = "sold out" if nothing_left else "nobody left to buy"
            elif now > deadline:
                self._ended = "gave up"
            else:
                await asyncio.sleep(PROGRESS_S)

    async def _read_stock(self, checks: Checks) -> None:
        """What buyers see of the house: how many units are left, by section."""
        while True:
            # What is shown stays as it was until the next reading succeeds.
            with suppress(grpc.aio.AioRpcError, Refusal):
                self._counts = await checks.counts()
            await asyncio.sleep(STOCK_S)

    async def _restart(self, simulation: Simulation, bffs: list[Bff]) -> None:
        await asyncio.sleep(max(simulation.world.opens_at - time.time(), 0))
        for bff in bffs:
            await asyncio.sleep(RESTART_S)
            bff.updates.break_off()

    def _progress(self, simulation: Simulation) -> dict[str, Any]:
        stages = simulation.stages()
        standing = simulation.standing
        return {
            "phase": simulation.phase(),
            "opens_in_s": round(simulation.world.opens_at - time.time(), 1),
            "arrived": sum(stages.values()) - stages[Stage.AWAY],
            "joined": standing.joined,
            "serving": standing.serving,
            "waiting": stages[Stage.WAITING],
            "admitted": stages[Stage.ADMITTED],
            "open_orders": len(simulation.open_orders),
            "confirmed": simulation.sold,
            "counts": self._counts,
            "in_flight": simulation.in_flight,
        }

    def _result(self, simulation: Simulation, began_at: float, over_at: float) -> dict[str, Any]:
        opens_at = simulation.world.opens_at
        attempts = [attempt for buyer in simulation.buyers for attempt in buyer.attempts]
        accepted = [attempt for attempt in attempts if attempt.accepted]
        last_sold = simulation.last_sold_at or over_at
        return {
            "ended": self._ended,
            "phases_s": {
                "lobby": round(opens_at - began_at, 2),
                "selling": round(last_sold - opens_at, 2),
                "settling": round(over_at - last_sold, 2),
            },
            "buyers": {stage.name.lower(): count for stage, count in simulation.stages().items()},
            "units_confirmed": simulation.sold,
            "orders": {
                "accepted": len(accepted),
                "refused": len(attempts) - len(accepted),
                "by_state": dict(Counter(attempt.state or "UNKNOWN" for attempt in accepted)),
                "by_reason": dict(Counter(attempt.reason for attempt in accepted if attempt.reason)),
            },
            "setbacks": [(at, what, times) for (at, what), times in simulation.measures.setbacks.items()],
            **simulation.measures.to_json(),
        }
