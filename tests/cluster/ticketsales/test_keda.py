"""A service that KEDA scales: its floor is the ScaledObject's, and KEDA's own HPA is left alone."""

import pytest

from tests.cluster import keda as kedas
from tests.cluster.estate import BASE, Estate, manifest
from tests.cluster.keda import Keda
from tests.cluster.plane.api import Json
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import aside

pytestmark = pytest.mark.timeout(240)
SOON = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}
OVERRIDE = {"until": "2999-01-01T00:00:00Z", "reason": "a test", "floors": {"queue": 6}}
METRIC = "catraca_line_waiting_buyers"


def owned(body: Json, manager: str) -> list[Json]:
    """The fields of an object that a manager owns."""
    return [each["fieldsV1"] for each in body["metadata"]["managedFields"] if each["manager"] == manager]


async def test_the_floor_of_a_service_that_keda_scales(estate: Estate, without_keda: Keda, name: str) -> None:
    keda = without_keda
    estate.api.delete(f"{estate.scalers_path}/queue")
    with estate.operated() as operator, keda.playing(estate.namespace, METRIC):
        # Nobody has installed KEDA: the operator does its work, and says what it does not find.
        made = manifest(name, **SOON, override=OVERRIDE)
        await aside(estate.apply, made)
        warming = await aside(estate.until, name, "Prewarmed", "False", reason="WarmingUp")
        assert warming["message"] == "Not ready: queue has no HPA or ScaledObject that carries the labels."
        assert "scaled_objects_not_listed" not in operator.log_path.read_text()

        # Now somebody does; nothing is started anew.
        await aside(keda.install)
        scaled = f"{kedas.collection(estate.namespace)}/queue"
        await aside(estate.api.apply, scaled, kedas.scaled_object("queue"))
        await aside(eventually, lambda: estate.least_by_keda("queue"), lambda least: least == 6)
        await aside(estate.until, name, "Prewarmed", reason="FloorsReady")
        assert estate.ready("queue") == 6
        # Of the ScaledObject it owns that one field; of KEDA's HPA, which has the same labels, none.
        assert owned(estate.api.get(scaled), "catraca-operator") == [{"f:spec": {"f:minReplicaCount": {}}}]
        own = estate.api.get(f"{estate.scalers_path}/keda-hpa-queue")
        assert own["metadata"]["labels"]["app.kubernetes.io/component"] == "queue"
        assert owned(own, "catraca-operator") == []

        # A floor that somebody lowers by hand is what it should be again.
        await aside(estate.api.merge, scaled, {"spec": {"minReplicaCount": 1}})
        await aside(eventually, lambda: estate.least_by_keda("queue"), lambda least: least == 6)
        # Above the floor it scales by its trigger, as without the operator.
        estate.plane.metrics.set(estate.namespace, METRIC, 90_000)
        await aside(eventually, lambda: estate.ready("queue"), lambda ready: ready == 9)
        estate.plane.metrics.set(estate.namespace, METRIC, 0)

        del made["spec"]["override"]
        await aside(estate.apply, made)
        await aside(eventually, lambda: estate.least_by_keda("queue"), lambda least: least == BASE)

        # And away again: what remains goes on.
        await aside(keda.uninstall)
        await aside(estate.apply, manifest(f"{name}-too", **SOON, override=OVERRIDE))
        await aside(estate.until, f"{name}-too", "Prewarmed", "False", reason="WarmingUp")
        operator.probe()


async def test_more_than_keda_may_have_is_told(estate: Estate, keda: Keda, name: str) -> None:
    estate.scale_by_keda("queue")
    with estate.operated(), keda.playing(estate.namespace, METRIC):
        override = {**OVERRIDE, "floors": {"queue": 30}}
        await aside(estate.apply, manifest(name, **SOON, override=override))
        limited = await aside(estate.until, name, "CapacityLimited")
        assert "queue: 1 sale wants 30 at " in limited["message"]
        await aside(eventually, lambda: estate.least_by_keda("queue"), lambda least: least == 20)
