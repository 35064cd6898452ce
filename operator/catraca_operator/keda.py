"""Looks for KEDA's ScaledObjects from time to time; KEDA may be installed at any time, or never.

They are listed and not watched: a watch of what does not exist fails again and again, and what is installed
later would be seen by nobody.
"""

import asyncio
from collections.abc import Callable

from catraca_operator.fleet import SCALED_OBJECT, Fleet
from catraca_operator.resources import AWAY, Changed, Cluster, Gone, why
from services.kit.logs import get_logger
from services.kit.tasks import raise_if_cancelled

log = get_logger("keda")


class Keda:
    """Tells the fleet which services KEDA scales."""

    def __init__(self, cluster: Cluster, fleet: Fleet, changed: Callable[[], None], poll_s: float) -> None:
        """`changed()` is called when a service is scaled otherwise than before."""
        self._cluster = cluster
        self._fleet = fleet
        self._changed = changed
        self._poll_s = poll_s
        self._problem = ""

    async def look(self) -> None:
        """List them. Without an answer the fleet keeps what it knows; why is logged when it is news."""
        problem = ""
        try:
            found = await self._cluster.scaled_objects(self._fleet.labels)
        except Gone:
            # The API server knows no such kind: nobody has installed KEDA.
            found = []
        except (*AWAY, Changed) as error:
            problem = why(error)
        if problem and problem != self._problem:
            log.warning("scaled_objects_not_listed", problem=problem)
        self._problem = problem
        if not problem and self._fleet.listed_scalers(SCALED_OBJECT, found):
            self._changed()

    async def run(self, progressed: Callable[[float], None]) -> None:
        """Look until cancelled; `progressed(s)` says in how many seconds again."""
        while True:
            raise_if_cancelled()
            await self.look()
            progressed(self._poll_s)
            await asyncio.sleep(self._poll_s)
