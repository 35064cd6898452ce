"""The Kubernetes objects that cluster tests make, with no more in them than they need."""

from typing import Any

Json = dict[str, Any]


def deployment(name: str, *, annotations: dict[str, str] | None = None) -> Json:
    """A Deployment that leaves its replicas to whoever scales it."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels, "annotations": annotations or {}},
        "spec": {"containers": [{"name": "main", "image": "example.invalid/main:1"}]},
    }
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str, replicas: int) -> Json:
    """A StatefulSet whose pods claim a volume each."""
    labels = {"app": name}
    container = {"name": "main", "image": "example.invalid/main:1"}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    spec = {
        "serviceName": name,
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
    }
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "spec": spec}


def job(name: str) -> Json:
    """A Job of one pod."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/main:1"}]}
    spec = {"template": {"spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def autoscaler(name: str, metric: str, *, least: int, most: int, each: int) -> Json:
    """An autoscaler of the Deployment of its name: a replica for `each` of an external metric."""
    external = {
        "metric": {"name": metric},
        "target": {"type": "AverageValue", "averageValue": str(each)},
    }
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "External", "external": external}],
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": spec,
    }
