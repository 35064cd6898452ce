"""What is read of the cluster and written to it: scaling targets, a resource's status, events."""

import asyncio
import functools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from catraca_operator import metrics
from catraca_operator.spec import SERVICES, time_text
from catraca_operator.status import News

GROUP, VERSION, PLURAL = "catraca.dev", "v1alpha1", "ticketsales"
FINALIZER = "catraca.dev/drain"
MANAGER = "catraca-operator"
PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
BASE_FLOOR = "catraca.dev/base-floor"
"""Annotation of an HPA: the floor while no sale asks for one. The field minReplicas itself is ours."""
TIMEOUT_S = (5.0, 30.0)
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"

# What a control plane that restarts leads to, or a right that is missing: there is nothing to trace.
AWAY = (ApiException, HTTPError)

Body = dict[str, Any]


class Changed(Exception):
    """The resource was changed by somebody else in the meantime; nothing was written."""


class Gone(Exception):
    """The resource is not there any more."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """An HPA of one of our services."""

    name: str
    deployment: str
    present: int
    most: int
    base: int
    metrics: bool


class Fleet:
    """The services' HPAs and Deployments, as the watches told of them last."""

    def __init__(self, part_of: str) -> None:
        self._part_of = part_of
        self.scaled: dict[str, Scaled] = {}
        """HPA by service."""
        self._ready: dict[str, int] = {}

    @property
    def labels(self) -> dict[str, str]:
        """What the services' HPAs and Deployments carry."""
        return {PART_OF: self._part_of}

    def saw_scaler(self, body: Mapping[str, Any]) -> None:
        """An HPA came or changed; one without a component of ours is somebody else's."""
        service = _component(body)
        if service is not None:
            self.scaled[service] = scaled(body)

    def lost_scaler(self, body: Mapping[str, Any]) -> None:
        """An HPA was deleted."""
        service = _component(body)
        if service is not None and self.scaled.get(service, scaled(body)).name == body["metadata"]["name"]:
            self.scaled.pop(service, None)

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


def scaled(body: Mapping[str, Any]) -> Scaled:
    """What counts of an HPA."""
    spec, metadata = body["spec"], body["metadata"]
    conditions = {each["type"]: each["status"] for each in body.get("status", {}).get("conditions") or ()}
    return Scaled(
        name=metadata["name"],
        deployment=spec["scaleTargetRef"]["name"],
        present=int(spec.get("minReplicas", 1)),
        most=int(spec["maxReplicas"]),
        base=_base(metadata.get("annotations") or {}),
        metrics=conditions.get("ScalingActive") != "False",
    )


def _base(annotations: Mapping[str, str]) -> int:
    text = annotations.get(BASE_FLOOR, "1")
    return int(text) if text.isdecimal() else 1


def _component(body: Mapping[str, Any]) -> str | None:
    name = (body["metadata"].get("labels") or {}).get(COMPONENT)
    return name if name in SERVICES else None


class Cluster:
    """Writes to Kubernetes: only a TicketSale's status and finalizer, an HPA's minReplicas, and Events."""

    def __init__(self, namespace: str, instance: str) -> None:
        """`instance` names this process in the Events that it posts."""
        config.load_config()  # type: ignore[no-untyped-call]
        self._objects = client.CustomObjectsApi()
        self._namespace = namespace
        self._instance = instance

    async def read(self, name: str) -> Body:
        """A TicketSale. Raises Gone."""
        call = functools.partial(self._objects.get_namespaced_custom_object, *self._sale(name))
        return await _called("read", call)

    async def write_status(self, body: Body, status: Mapping[str, Any]) -> Body:
        """Make the status this and nothing else; the resource as it is then. Raises Changed, Gone."""
        gone = dict.fromkeys(body.get("status", {}).keys() - status.keys())
        patch = {"metadata": _stands(body), "status": {**gone, **_replaced(body.get("status", {}), status)}}
        name = body["metadata"]["name"]
        call = functools.partial(
            self._objects.patch_namespaced_custom_object_status, *self._sale(name), patch, _content_type=MERGE
        )
        return await _called("status", call)

    async def write_finalizer(self, body: Body, *, kept: bool) -> Body:
        """Add our finalizer, or take it off. Raises Changed, Gone."""
        others = [each for each in body["metadata"].get("finalizers", ()) if each != FINALIZER]
        finalizers = [*others, FINALIZER] if kept else others
        patch = {"metadata": {**_stands(body), "finalizers": finalizers}}
        name = body["metadata"]["name"]
        call = functools.partial(
            self._objects.patch_namespaced_custom_object, *self._sale(name), patch, _content_type=MERGE
        )
        return await _called("finalizer", call)

    async def write_floor(self, name: str, replicas: int) -> Body:
        """Apply minReplicas to an HPA and own that field alone; the HPA as it is then. Raises Gone."""
        patch = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": {"minReplicas": replicas},
        }
        call = functools.partial(
            self._objects.patch_namespaced_custom_object,
            "autoscaling",
            "v2",
            self._namespace,
            "horizontalpodautoscalers",
            name,
            patch,
            field_manager=MANAGER,
            force=True,
            _content_type=APPLY,
        )
        return await _called("floor", call)

    async def post(self, body: Body, news: News, now_ms: int) -> None:
        """An Event about a TicketSale."""
        metadata = body["metadata"]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": self._namespace},
            "eventTime": _micro(now_ms),
            "reportingController": "catraca.dev/operator",
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": news.kind,
            "reason": news.reason,
            "note": news.message[:1024],
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "TicketSale",
                "name": metadata["name"],
                "namespace": self._namespace,
                "uid": metadata["uid"],
            },
        }
        call = functools.partial(
            self._objects.create_namespaced_custom_object,
            "events.k8s.io",
            "v1",
            self._namespace,
            "events",
            event,
        )
        await _called("event", call)

    def _sale(self, name: str) -> tuple[str, str, str, str, str]:
        return GROUP, VERSION, self._namespace, PLURAL, name


def _stands(body: Body) -> Body:
    """What makes a patch fail where the resource is another by now."""
    metadata = body["metadata"]
    return {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}


def _replaced(before: Mapping[str, Any], after: Mapping[str, Any]) -> Body:
    """A merge patch that makes `before` become `after`: what is gone from a mapping is null."""
    made: Body = {}
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            made[name] = {**dict.fromkeys(was.keys() - value.keys()), **_replaced(was, value)}
        else:
            made[name] = value
    return made


def _micro(now_ms: int) -> str:
    """The API's MicroTime, which wants all six digits."""
    text = time_text(now_ms)
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<6}Z"


def why(error: Exception) -> str:
    """Why a call failed, in one line: the API server's own words where it said some."""
    if isinstance(error, ApiException):
        try:
            return str(json.loads(error.body or "")["message"])
        except (ValueError, TypeError, KeyError):
            return f"{error.status} {error.reason}"
    return repr(error)


async def _called(name: str, call: Callable[..., Any]) -> Body:
    """The answer of a call that blocks its thread. Raises Changed, Gone, ApiException."""
    try:
        answer = await asyncio.to_thread(call, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        metrics.API_CALLS.labels(name, str(error.status)).inc()
        if error.status == 409:
            raise Changed from error
        if error.status == 404:
            raise Gone from error
        raise
    metrics.API_CALLS.labels(name, "done").inc()
    return cast("Body", answer)
