"""The services' autoscalers and Deployments, as the cluster told of them last; without I/O.

A service is scaled by an HPA, or by a ScaledObject, from which KEDA makes an HPA of its own. Both are found
by the same labels; each has a floor, which is the one field that the operator owns.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catraca_operator.spec import SERVICES

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
BASE_FLOOR = "catraca.dev/base-floor"
"""Annotation of an autoscaler: the floor while no sale asks for one. The floor's own field is ours."""

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """What autoscalers of one kind are called, and where their floor stands."""

    group: str
    version: str
    plural: str
    name: str
    floor_field: str


HPA = Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "minReplicas")
SCALED_OBJECT = Kind("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject", "minReplicaCount")
# What KEDA takes where a ScaledObject does not say.
KEDA_LEAST, KEDA_MOST = 0, 100


@dataclass(frozen=True, slots=True)
class Scaled:
    """What scales one of our services."""

    kind: Kind
    name: str
    deployment: str
    present: int
    """The floor."""
    most: int
    base: int
    metrics: bool


class Fleet:
    """The services' autoscalers and Deployments."""

    def __init__(self, part_of: str) -> None:
        self._part_of = part_of
        self.scaled: dict[str, Scaled] = {}
        """Autoscaler by service."""
        self._scalers: dict[tuple[Kind, str], tuple[str, Scaled]] = {}
        self._ready: dict[str, int] = {}

    @property
    def labels(self) -> dict[str, str]:
        """What the services' autoscalers and Deployments carry."""
        return {PART_OF: self._part_of}

    def saw_scaler(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An autoscaler came or changed; one without a component of ours is somebody else's."""
        key, service = (kind, body["metadata"]["name"]), _component(body)
        # KEDA gives its own HPA the ScaledObject's labels, and would write the floor back.
        if service is None or (kind == HPA and _is_kedas(body)):
            self._scalers.pop(key, None)
        else:
            self._scalers[key] = (service, scaled(kind, body))
        self._settle()

    def lost_scaler(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An autoscaler was deleted."""
        self._scalers.pop((kind, body["metadata"]["name"]), None)
        self._settle()

    def listed_scalers(self, kind: Kind, bodies: Iterable[Mapping[str, Any]]) -> bool:
        """These are all of a kind; whether anything is another than before."""
        before = dict(self.scaled)
        for key in [key for key in self._scalers if key[0] == kind]:
            del self._scalers[key]
        for body in bodies:
            self.saw_scaler(kind, body)
        self._settle()
        return self.scaled != before

    def saw_deployment(self, body: Mapping[str, Any]) -> None:
        """A Deployment came or changed."""
        self._ready[body["metadata"]["name"]] = int(body.get("status", {}).get("readyReplicas", 0))

    def lost_deployment(self, body: Mapping[str, Any]) -> None:
        """A Deployment was deleted."""
        self._ready.pop(body["metadata"]["name"], None)

    def ready(self, service: str) -> int:
        """How many of a service's replicas are ready."""
        of = self.scaled.get(service)
        return self._ready.get(of.deployment, 0) if of is not None else 0

    def _settle(self) -> None:
        # KEDA counts where a service has both for a while: it refuses an HPA of others beside its own.
        in_order = sorted(self._scalers.values(), key=lambda each: each[1].kind == SCALED_OBJECT)
        self.scaled = dict(in_order)


def scaled(kind: Kind, body: Mapping[str, Any]) -> Scaled:
    """What counts of an autoscaler."""
    return _of_hpa(body) if kind == HPA else _of_scaled_object(body)


def _of_hpa(body: Mapping[str, Any]) -> Scaled:
    spec = body["spec"]
    return Scaled(
        kind=HPA,
        name=body["metadata"]["name"],
        deployment=spec["scaleTargetRef"]["name"],
        present=int(spec.get("minReplicas", 1)),
        most=int(spec["maxReplicas"]),
        base=_base(body, least=1),
        metrics=_condition(body, "ScalingActive") != "False",
    )


def _of_scaled_object(body: Mapping[str, Any]) -> Scaled:
    """Unlike an HPA it may rest at none; KEDA wants its floor above what it idles at, where that is given."""
    spec = body["spec"]
    idle = spec.get("idleReplicaCount")
    return Scaled(
        kind=SCALED_OBJECT,
        name=body["metadata"]["name"],
        deployment=spec["scaleTargetRef"]["name"],
        present=int(spec.get("minReplicaCount", KEDA_LEAST)),
        most=int(spec.get("maxReplicaCount", KEDA_MOST)),
        base=_base(body, least=0 if idle is None else int(idle) + 1),
        metrics=_condition(body, "Ready") != "False",
    )


def _base(body: Mapping[str, Any], least: int) -> int:
    text = (body["metadata"].get("annotations") or {}).get(BASE_FLOOR, "1")
    return max(least, int(text) if text.isdecimal() else 1)


def _condition(body: Mapping[str, Any], kind: str) -> str | None:
    conditions = body.get("status", {}).get("conditions") or ()
    return next((each.get("status") for each in conditions if each["type"] == kind), None)


def _is_kedas(body: Mapping[str, Any]) -> bool:
    owners = body["metadata"].get("ownerReferences") or ()
    return any(each["kind"] == SCALED_OBJECT.name and each.get("controller") for each in owners)


def _component(body: Mapping[str, Any]) -> str | None:
    name = (body["metadata"].get("labels") or {}).get(COMPONENT)
    return name if name in SERVICES else None
