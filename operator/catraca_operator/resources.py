"""What is asked of the cluster and written to it: floors, a resource's status, events."""

import asyncio
import functools
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, cast

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from catraca_operator import metrics
from catraca_operator.fleet import SCALED_OBJECT, Body, Scaled
from catraca_operator.spec import time_text
from catraca_operator.status import News

GROUP, VERSION, PLURAL = "catraca.dev", "v1alpha1", "ticketsales"
FINALIZER = "catraca.dev/drain"
MANAGER = "catraca-operator"
TIMEOUT_S = (5.0, 30.0)
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"

# What a control plane that restarts leads to, or a right that is missing: there is nothing to trace.
AWAY = (ApiException, HTTPError)


class Changed(Exception):
    """The resource was changed by somebody else in the meantime; nothing was written."""


class Gone(Exception):
    """The resource is not there any more."""


class Cluster:
    """Writes to Kubernetes: only a TicketSale's status and finalizer, a floor's one field, and Events."""

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

    async def scaled_objects(self, labels: Mapping[str, str]) -> list[Body]:
        """KEDA's ScaledObjects with these labels. Raises Gone where there is no KEDA."""
        kind = SCALED_OBJECT
        call = functools.partial(
            self._objects.list_namespaced_custom_object,
            kind.group,
            kind.version,
            self._namespace,
            kind.plural,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
        )
        return cast("list[Body]", (await _called("scaled_objects", call))["items"])

    async def write_floor(self, scaler: Scaled, replicas: int) -> Body:
        """Apply an autoscaler's floor and own that field alone; the autoscaler as it is then. Raises Gone."""
        kind = scaler.kind
        patch = {
            "apiVersion": f"{kind.group}/{kind.version}",
            "kind": kind.name,
            "metadata": {"name": scaler.name, "namespace": self._namespace},
            "spec": {kind.floor_field: replicas},
        }
        call = functools.partial(
            self._objects.patch_namespaced_custom_object,
            kind.group,
            kind.version,
            self._namespace,
            kind.plural,
            scaler.name,
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
