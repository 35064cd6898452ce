"""KEDA as far as the operator meets it: the kind ScaledObject, and somebody who makes an HPA of each of them.

The real KEDA reads triggers, serves their values and scales to and from none; here an HPA's metric is one
that a test sets. The HPA's labels, annotations, owner and bounds are those that the real one gives it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.plane.api import Api, Json, Refused
from tests.cluster.plane.crds import PATH, established
from tests.cluster.plane.waiting import eventually

FILE = Path(__file__).parents[2] / "charts/catraca/files/scaledobjects.yaml"
GROUP, VERSION, PLURAL = "keda.sh", "v1alpha1", "scaledobjects"
NAME = f"{PLURAL}.{GROUP}"
LOOK_S = 0.2

COUNT = {"type": "integer", "format": "int32"}
SPEC = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.minReplicaCount) || self.minReplicaCount <= self.maxReplicaCount",
            "message": "minReplicaCount must be less than or equal to maxReplicaCount",
        }
    ],
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string"}, "kind": {"type": "string"}},
        },
        "minReplicaCount": COUNT,
        "maxReplicaCount": {**COUNT, "default": 100},
        "idleReplicaCount": COUNT,
        "triggers": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["type", "metadata"],
                "properties": {
                    "type": {"type": "string"},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    },
}
DEFINITION: Json = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": NAME},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "ScaledObject", "plural": PLURAL, "singular": "scaledobject", "shortNames": ["so"]},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": SPEC,
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}


def collection(namespace: str) -> str:
    """Where a namespace's ScaledObjects are."""
    return f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"


def scaled_object(service: str) -> Json:
    """A service's ScaledObject as the chart's file has it."""
    found = yaml.safe_load_all(FILE.read_text())
    return next(each for each in found if each["metadata"]["name"] == service)


class Keda:
    """KEDA on a control plane, where it comes and goes with its kind."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def install(self) -> None:
        """Make the kind, and wait until objects of it can be made."""
        self._api.apply(f"{PATH}/{NAME}", DEFINITION)
        eventually(lambda: self._api.get(f"{PATH}/{NAME}"), established)
        eventually(lambda: self._api.get(collection("default")))

    def uninstall(self) -> None:
        """Take the kind away with all objects of it, and wait until it is gone."""
        try:
            self._api.delete(f"{PATH}/{NAME}")
        except Refused as refused:
            if refused.code != 404:
                raise
        eventually(lambda: _gone(self._api, f"{PATH}/{NAME}"))

    @contextmanager
    def playing(self, namespace: str, metric: str) -> Iterator[None]:
        """Keep an HPA for each ScaledObject of the namespace, by this external metric, for the block."""
        over = threading.Event()

        def play() -> None:
            while not over.wait(LOOK_S):
                try:
                    for each in self._api.get(collection(namespace))["items"]:
                        self._keep(each, metric)
                except (Refused, OSError, HTTPException):
                    # Not installed, or not any more.
                    continue

        thread = threading.Thread(target=play, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _keep(self, of: Json, metric: str) -> None:
        made = hpa(of, metric)
        namespace = of["metadata"]["namespace"]
        path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        self._api.apply(f"{path}/{made['metadata']['name']}", made, fieldManager="keda", force="true")


def hpa(of: Json, metric: str) -> Json:
    """What KEDA makes of a ScaledObject: with its labels and annotations, and owned by it."""
    spec, metadata = of["spec"], of["metadata"]
    name = f"keda-hpa-{metadata['name']}"
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ScaledObject",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "keda-operator"}
    target: Json = {"type": "AverageValue", "averageValue": spec["triggers"][0]["metadata"]["threshold"]}
    made: dict[str, Any] = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": name,
            "labels": {**labels, **metadata.get("labels", {})},
            "annotations": metadata.get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": spec["scaleTargetRef"]["name"],
            },
            "minReplicas": max(1, spec.get("minReplicaCount", 0)),
            "maxReplicas": spec["maxReplicaCount"],
            "metrics": [{"type": "External", "external": {"metric": {"name": metric}, "target": target}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }
    return made


def _gone(api: Api, path: str) -> bool:
    try:
        api.get(path)
    except Refused as refused:
        return refused.code == 404
    return False
