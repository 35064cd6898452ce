"""What is asked of the services after the sale, to hold against what the buyers were told."""

import random
from collections.abc import Sequence

import grpc
from catraca.queue.v1 import queue_pb2 as queue

from local.client import Buyer as Caller
from local.client import Connection, answered, bearer
from local.draw_verifier import Places, draw_key
from local.rush.answers import STATES
from local.rush.bff import subject
from local.rush.buyer import Buyer
from local.rush.direct import Direct
from local.rush.judge import Verdict, compare
from local.rush.record import Attempt
from local.rush.simulation import Simulation
from services.kit.errors import Refusal

TIMEOUT_S = 20.0


class Checks:
    """Samples of orders and places, and the sale's own counts."""

    def __init__(self, simulation: Simulation, connection: Connection, token: str, direct: Direct) -> None:
        self.verdict = Verdict()
        self._simulation = simulation
        self._at = connection
        self._sale = simulation.plan.sale
        self._token = token
        self._direct = direct

    async def run(self) -> None:
        """Check the samples; what is wrong stands in `verdict` afterwards."""
        await self._check_orders()
        await self._check_draw()

    async def counts(self) -> dict[str, int]:
        """Units by state. Buyers see what is left of each section by it."""
        someone = self._caller(self._simulation.buyers[-1])
        answer = await someone.availability()
        for section in answer.sections:
            self._simulation.world.stock[section.section] = section.free
        total = answer.total
        return {name: getattr(total, name) for name in ("capacity", "free", "promised", "held", "sold")}

    def _caller(self, buyer: Buyer) -> Caller:
        if buyer.number < self._simulation.settings.direct:
            return self._direct.caller(buyer)
        return Caller(self._at, self._sale, self._token, subject=subject(buyer.number))

    async def _check_orders(self) -> None:
        placed = [
            (buyer, attempt)
            for buyer in self._simulation.buyers
            for attempt in buyer.attempts
            if attempt.accepted
        ]
        size = min(self._simulation.settings.sampled_orders, len(placed))
        for buyer, attempt in random.Random(self._simulation.settings.seed).sample(placed, size):
            await self._check_order(buyer, attempt)

    async def _check_order(self, buyer: Buyer, attempt: Attempt) -> None:
        try:
            order = await self._caller(buyer).get_order(attempt.order_id)
        except (Refusal, grpc.aio.AioRpcError) as error:
            self.verdict.add("I12", f"order {attempt.order_id}", f"GetOrder failed: {error}")
            return
        compare(self.verdict, attempt, STATES[order.state], order.version)

    async def _check_draw(self) -> None:
        """Recompute places of the draw from what is published, as any buyer may."""
        draw = (
            await answered(
                self._at.queue.GetDraw(
                    queue.GetDrawRequest(sale=self._sale), metadata=bearer(self._token), timeout=TIMEOUT_S
                )
            )
        ).draw
        if not draw.cohort:
            return
        key = draw_key(bytes.fromhex(draw.seed), bytes.fromhex(draw.root), bytes.fromhex(draw.beacon))
        places = Places(key, draw.cohort)
        for buyer in self._drawn(draw.cohort):
            if places.of(buyer.index) != buyer.place:
                self.verdict.add(
                    "I8",
                    f"buyer {buyer.number}",
                    f"index {buyer.index} draws {places.of(buyer.index)}, told was {buyer.place}",
                )

    def _drawn(self, cohort: int) -> Sequence[Buyer]:
        known = [b for b in self._simulation.buyers if 0 <= b.index < cohort and b.place >= 0]
        size = min(self._simulation.settings.sampled_places, len(known))
        return random.Random(self._simulation.settings.seed).sample(known, size)
