"""The loop for all floors, against a cluster that refuses some of them."""

from typing import Any

import pytest
from catraca_operator.fleet import HPA, Fleet, Scaled
from catraca_operator.floors import Wish
from catraca_operator.scaler import Scaler
from kubernetes.client.exceptions import ApiException

from tests.unit.ticketsales.conftest import OPENS, desired


class Cluster:
    """Takes the floors of all services but one."""

    def __init__(self, refuses: str) -> None:
        self.refuses = refuses
        self.written: dict[str, int] = {}

    async def write_floor(self, scaler: Scaled, replicas: int) -> dict[str, Any]:
        if scaler.name == self.refuses:
            raise ApiException(status=403, reason="a policy of the cluster's")
        self.written[scaler.name] = replicas
        return autoscaler(scaler.name, replicas)


class Clock:
    """Stands still."""

    def now_ms(self) -> int:
        return OPENS


def autoscaler(service: str, floor: int) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": "catraca", "app.kubernetes.io/component": service}
    annotations = {"catraca.dev/base-floor": "2"}
    return {
        "metadata": {"name": service, "labels": labels, "annotations": annotations},
        "spec": {"scaleTargetRef": {"name": service}, "minReplicas": floor, "maxReplicas": 20},
    }


@pytest.mark.parametrize("refuses", ["queue", "notifier"])
async def test_a_floor_that_is_refused_keeps_no_other_from_rising(refuses: str) -> None:
    fleet, cluster = Fleet("catraca"), Cluster(refuses)
    for service in ("queue", "inventory", "checkout", "notifier"):
        fleet.saw_scaler(HPA, autoscaler(service, 1))
    wish = desired()
    made: Any = Scaler
    scaler = made(cluster, fleet, lambda: [Wish(wish.name, wish.schedule, wish.scaling)], Clock())
    with pytest.raises(ApiException, match="policy"):
        await scaler._raise_and_lower()
    others = {"queue": 6, "inventory": 2, "checkout": 2, "notifier": 2}
    del others[refuses]
    assert cluster.written == others
