"""What scales the services: HPAs and KEDA's ScaledObjects, found by their labels."""

from collections.abc import Mapping
from typing import Any

import pytest
from catraca_operator.fleet import HPA, SCALED_OBJECT, Fleet, Scaled, scaled
from catraca_operator.keda import Keda
from catraca_operator.resources import Body, Gone
from kubernetes.client.exceptions import ApiException
from structlog.testing import capture_logs


def hpa(name: str = "queue", component: str = "queue", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component},
            "annotations": {"catraca.dev/base-floor": "3"},
        },
        "spec": {"scaleTargetRef": {"name": f"{name}-d"}, "maxReplicas": 9, **spec},
    }


def test_what_counts_of_an_hpa() -> None:
    assert scaled(HPA, hpa(minReplicas=4)) == Scaled(HPA, "queue", "queue-d", 4, 9, 3, True)
    # Without minReplicas Kubernetes takes one.
    assert scaled(HPA, hpa()).present == 1


@pytest.mark.parametrize(("text", "base"), [("0", 1), ("12", 12), ("-1", 1), ("two", 1), ("", 1)])
def test_an_hpas_base_floor_is_one_where_it_is_none_or_no_number(text: str, base: int) -> None:
    body = hpa()
    body["metadata"]["annotations"]["catraca.dev/base-floor"] = text
    assert scaled(HPA, body).base == base


def test_an_hpa_without_metrics_is_known_as_one() -> None:
    body = hpa()
    for status, metrics in (("True", True), ("False", False), ("Unknown", True)):
        body["status"] = {"conditions": [{"type": "ScalingActive", "status": status}]}
        assert scaled(HPA, body).metrics is metrics


def test_the_fleet_is_found_by_labels_and_ready_by_the_hpas_target() -> None:
    fleet = Fleet("catraca")
    fleet.saw_scaler(HPA, hpa())
    fleet.saw_scaler(HPA, hpa("other", component="database"))
    fleet.saw_deployment({"metadata": {"name": "queue-d"}, "status": {"readyReplicas": 2}})
    fleet.saw_deployment({"metadata": {"name": "queue"}, "status": {"readyReplicas": 7}})
    assert set(fleet.scaled) == {"queue"}
    assert (fleet.ready("queue"), fleet.ready("checkout")) == (2, 0)
    fleet.lost_deployment({"metadata": {"name": "queue-d"}})
    assert fleet.ready("queue") == 0
    fleet.lost_scaler(HPA, hpa())
    assert fleet.scaled == {}


def test_an_hpa_that_took_anothers_place_is_not_lost_with_it() -> None:
    fleet = Fleet("catraca")
    fleet.saw_scaler(HPA, hpa("queue"))
    fleet.saw_scaler(HPA, hpa("queue-two"))
    fleet.lost_scaler(HPA, hpa("queue"))
    assert fleet.scaled["queue"].name == "queue-two"


# ---- KEDA ----


def scaled_object(name: str = "queue", component: str = "queue", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/component": component},
            "annotations": {"catraca.dev/base-floor": "3"},
        },
        "spec": {"scaleTargetRef": {"name": f"{name}-d"}, "maxReplicaCount": 9, **spec},
    }


def kedas_hpa() -> dict[str, Any]:
    """What KEDA makes of it: with the same labels, annotations and target."""
    made = hpa("keda-hpa-queue", minReplicas=1)
    made["spec"]["scaleTargetRef"]["name"] = "queue-d"
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "queue", "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
    return made


def test_what_counts_of_a_scaled_object() -> None:
    body = scaled_object(minReplicaCount=4)
    assert scaled(SCALED_OBJECT, body) == Scaled(SCALED_OBJECT, "queue", "queue-d", 4, 9, 3, True)
    bare = scaled_object()
    del bare["spec"]["maxReplicaCount"]
    # What KEDA takes where nothing is said.
    assert (scaled(SCALED_OBJECT, bare).present, scaled(SCALED_OBJECT, bare).most) == (0, 100)


@pytest.mark.parametrize(
    ("annotation", "idle", "base"), [("0", None, 0), ("2", None, 2), ("0", 0, 1), ("5", 1, 5), ("", None, 1)]
)
def test_a_scaled_object_may_rest_at_none_but_not_at_what_it_idles_at(
    annotation: str, idle: int | None, base: int
) -> None:
    body = scaled_object(**({} if idle is None else {"idleReplicaCount": idle}))
    body["metadata"]["annotations"]["catraca.dev/base-floor"] = annotation
    assert scaled(SCALED_OBJECT, body).base == base


def test_a_scaled_object_that_cannot_read_its_triggers_is_known_as_one() -> None:
    body = scaled_object()
    for status, metrics in (("True", True), ("False", False), ("Unknown", True)):
        body["status"] = {"conditions": [{"type": "Ready", "status": status}, {"type": "Active"}]}
        assert scaled(SCALED_OBJECT, body).metrics is metrics


def test_kedas_own_hpa_is_left_alone_whichever_was_seen_first() -> None:
    for order in ((0, 1), (1, 0)):
        fleet = Fleet("catraca")
        seen = ((HPA, kedas_hpa()), (SCALED_OBJECT, scaled_object()))
        for place in order:
            fleet.saw_scaler(*seen[place])
        assert fleet.scaled["queue"].kind == SCALED_OBJECT
    fleet.lost_scaler(SCALED_OBJECT, scaled_object())
    assert fleet.scaled == {}


def test_an_hpa_of_another_owner_is_ours() -> None:
    fleet, body = Fleet("catraca"), kedas_hpa()
    body["metadata"]["ownerReferences"][0]["kind"] = "Something"
    fleet.saw_scaler(HPA, body)
    assert fleet.scaled["queue"].kind == HPA


def test_keda_counts_while_a_service_has_both() -> None:
    fleet = Fleet("catraca")
    fleet.saw_scaler(SCALED_OBJECT, scaled_object())
    fleet.saw_scaler(HPA, hpa())
    assert fleet.scaled["queue"].kind == SCALED_OBJECT
    assert fleet.listed_scalers(SCALED_OBJECT, [])
    assert fleet.scaled["queue"].kind == HPA
    assert not fleet.listed_scalers(SCALED_OBJECT, [])


class Answers:
    """A cluster that answers what it was told to, in turn."""

    def __init__(self, *answers: list[Body] | Exception) -> None:
        self._answers = list(answers)

    async def scaled_objects(self, labels: Mapping[str, str]) -> list[Body]:
        assert labels == {"app.kubernetes.io/part-of": "catraca"}
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_keda_may_be_absent_come_and_go() -> None:
    changes: list[None] = []
    fleet = Fleet("catraca")
    away = ApiException(status=403, reason="Forbidden")
    cluster = Answers(Gone(), [scaled_object()], away, away, [scaled_object()], away, Gone())
    keda = Keda(cluster, fleet, lambda: changes.append(None), 10)  # type: ignore[arg-type]
    with capture_logs() as logs:
        await keda.look()
        assert (fleet.scaled, len(changes)) == ({}, 0)
        for _ in range(5):
            await keda.look()
            # What is not answered is no answer: what was known stands.
            assert set(fleet.scaled) == {"queue"}
        assert len(changes) == 1
        await keda.look()
        assert (fleet.scaled, len(changes)) == ({}, 2)
    # Said once each time that it is news, not at every look.
    assert [each["event"] for each in logs] == ["scaled_objects_not_listed"] * 2
