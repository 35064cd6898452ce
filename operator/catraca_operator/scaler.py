"""Keeps the floors of all services: one loop for all sales, since what they want adds up."""

import asyncio
from collections.abc import Callable, Collection

from kubernetes.client.exceptions import ApiException

from catraca_operator import floors, metrics
from catraca_operator.clock import Clock
from catraca_operator.fleet import Fleet
from catraca_operator.floors import Crowd, Wish
from catraca_operator.resources import AWAY, Changed, Cluster, Gone, why
from catraca_operator.status import Target
from services.kit.logs import get_logger
from services.kit.tasks import raise_if_cancelled

log = get_logger("scaler")

# Also without a reason: a floor that somebody changed by hand is what it should be again.
LONGEST_S = 30.0
AFTER_FAILURE_S = 2.0


class Scaler:
    """Raises floors before sales want them and lowers them after; `wake` it when anything changed."""

    def __init__(
        self, cluster: Cluster, fleet: Fleet, wishes: Callable[[], Collection[Wish]], clock: Clock
    ) -> None:
        """`wishes()` answers those of every sale there is."""
        self._cluster = cluster
        self._fleet = fleet
        self._wishes = wishes
        self._clock = clock
        self._woken = asyncio.Event()
        self._crowds: tuple[object, dict[str, dict[str, Crowd]]] = (None, {})

    def wake(self) -> None:
        """Look again now."""
        self._woken.set()

    def targets(self) -> dict[str, Target]:
        """Every service that has an autoscaler, with the floor that is due."""
        now_ms = self._clock.now_ms()
        wishes = self._wishes()
        found = {}
        for service, of in self._fleet.scaled.items():
            floor = floors.floor(service, wishes, now_ms, base=of.base, present=of.present, most=of.most)
            found[service] = Target(of.present, self._fleet.ready(service), floor, of.metrics)
        return found

    def crowds(self, sale: str) -> dict[str, Crowd]:
        """By service: where the sale is part of wanting more than there may be."""
        # Many sales ask in turn, and the answer is made for all of them at once.
        wishes = self._wishes()
        limits = tuple((service, of.most) for service, of in self._fleet.scaled.items())
        key = (tuple(wishes), limits, self._clock.now_ms() // 1000)
        if self._crowds[0] != key:
            now_ms = self._clock.now_ms()
            made = {service: floors.crowds(service, wishes, now_ms, most) for service, most in limits}
            self._crowds = (key, made)
        return {service: of[sale] for service, of in self._crowds[1].items() if sale in of}

    async def run(self, progressed: Callable[[float], None]) -> None:
        """Keep the floors until cancelled; `progressed(s)` says in how many seconds it looks again."""
        while True:
            raise_if_cancelled()
            self._woken.clear()
            pause_s = LONGEST_S
            try:
                await self._raise_and_lower()
            except AWAY as error:
                log.warning("floors_not_kept", problem=why(error))
                pause_s = AFTER_FAILURE_S
            except Exception:
                log.exception("floors_not_kept")
                pause_s = AFTER_FAILURE_S
            now_ms = self._clock.now_ms()
            moment = floors.next_moment(self._wishes(), now_ms)
            if moment is not None:
                pause_s = min(pause_s, (moment - now_ms) / 1000)
            progressed(pause_s)
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def _raise_and_lower(self) -> None:
        """Write every floor that is another. Raises, once all were tried, for one that was refused."""
        refused: ApiException | None = None
        for service, target in self.targets().items():
            floor = target.floor
            metrics.FLOORS.labels(service).set(floor.wanted)
            metrics.MISSING.labels(service).set(max(0, floor.wanted - floor.most))
            scaler = self._fleet.scaled.get(service)
            if scaler is None or target.present == floor.value:
                continue
            try:
                # The watch tells it too, a little later.
                self._fleet.saw_scaler(scaler.kind, await self._cluster.write_floor(scaler, floor.value))
            except (Gone, Changed):
                # Whoever watches tells what became of it, and wakes this loop.
                continue
            except ApiException as error:
                # What a policy of the cluster says of one service keeps no other from rising.
                log.warning("floor_refused", service=service, problem=why(error))
                refused = error
                continue
            log.info("floor", service=service, before=target.present, after=floor.value, sales=floor.sales)
        if refused is not None:
            raise refused
