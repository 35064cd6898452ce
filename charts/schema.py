"""Makes charts/catraca/values.schema.json: `make gen`; with `--check` it only says whether that is the file.

Names and types are those of values.yaml, descriptions the comments above each value, and the settings of
services and operator those of their dataclasses. What a default does not tell stands in the tables below.
"""

import dataclasses
import json
import re
import sys
import typing
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "catraca"
VALUES, SCHEMA = CHART / "values.yaml", CHART / "values.schema.json"
KEY = re.compile(r"^( *)([A-Za-z_][\w./-]*):(.*)$")

Json = dict[str, Any]

TEXTS: Json = {"type": "object", "additionalProperties": {"type": "string"}}
LIST_OF_TEXTS: Json = {"type": "array", "items": {"type": "string", "minLength": 1}}
PORTS: Json = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65535}}
CIDRS: Json = {"type": "array", "items": {"type": "string", "pattern": r"^[0-9a-f.:]+/[0-9]+$"}}
QUANTITY: Json = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
NAME: Json = {"type": "string", "pattern": r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"}
URL: Json = {"type": "string", "pattern": r"^(https?://[^\s/]+(/\S*)?)?$"}
PERCENTAGE: Json = {"type": "integer", "minimum": 1, "maximum": 100}
COUNT: Json = {"type": "integer", "minimum": 1}
SECONDS: Json = {"type": "integer", "minimum": 0, "maximum": 3600}
# As long as a service takes: services/kit/settings.py.
STOPPING: Json = {"type": "integer", "minimum": 0, "maximum": 600}

SHAPES: Mapping[str, Json] = {
    "fullnameOverride": {"type": "string", "pattern": r"^([a-z]([-a-z0-9]{0,38}[a-z0-9])?)?$"},
    "commonLabels": TEXTS,
    "logLevel": {"enum": ["debug", "info", "warning", "error"]},
    "image.repository": {"type": "string", "minLength": 1},
    "image.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": LIST_OF_TEXTS,
    "identity.audience": {"type": "string", "minLength": 1},
    "nats.streamReplicas": {"enum": [1, 3, 5]},
    "postgres.cloudNativePG.instances": COUNT,
    "prepare.timeoutSeconds": {"type": "integer", "minimum": 10, "maximum": 86400},
    "shutdown.lameDuckSeconds": STOPPING,
    "shutdown.drainSeconds": STOPPING,
    "shutdown.slackSeconds": SECONDS,
    "autoscaling.source": {"enum": ["External", "Keda", "Cpu"]},
    "autoscaling.metricLabels": TEXTS,
    "autoscaling.scaleDownStabilizationSeconds": SECONDS,
    "edge.service.type": {"enum": ["LoadBalancer", "NodePort", "ClusterIP"]},
    "edge.service.externalTrafficPolicy": {"enum": ["Local", "Cluster"]},
    "edge.service.port": PORTS["items"],
    "edge.service.annotations": TEXTS,
    "edge.allowedOrigins": {
        "type": "array",
        "items": {"type": "string", "pattern": r"^https?://[^\s/]+$"},
    },
    "edge.trustedHops": {"type": "integer", "minimum": 0, "maximum": 10},
    "edge.drainSeconds": SECONDS,
    "gateway.parentRefs": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "namespace": {"type": "string"},
                "sectionName": {"type": "string"},
                "port": PORTS["items"],
            },
        },
    },
    "gateway.hostnames": LIST_OF_TEXTS,
    "tls.certManager.issuerRef.kind": {"enum": ["Issuer", "ClusterIssuer"]},
    "tls.certManager.duration": {"type": "string", "pattern": r"^([0-9]+(h|m|s))+$"},
    "networkPolicy.monitoringNamespaceLabels": TEXTS,
    "networkPolicy.gatewayNamespaceLabels": TEXTS,
    "networkPolicy.webhookNamespaceLabels": TEXTS,
    "networkPolicy.dnsCidrs": CIDRS,
    "networkPolicy.apiServerCidrs": CIDRS,
    "networkPolicy.externalCidrs": CIDRS,
    "monitoring.serviceMonitor.labels": TEXTS,
    "monitoring.serviceMonitor.interval": {"type": "string", "pattern": r"^[0-9]+(s|m)$"},
    "monitoring.prometheusRule.labels": TEXTS,
    "monitoring.dashboard.labels": TEXTS,
    "monitoring.tracing.ratio": {"type": "number", "minimum": 0, "maximum": 1},
    "scheduling.nodeSelector": TEXTS,
    "scheduling.tolerations": {
        "type": "array",
        "items": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "key": {"type": "string"},
                "operator": {"enum": ["Exists", "Equal"]},
                "value": {"type": "string"},
                "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                "tolerationSeconds": {"type": "integer"},
            },
        },
    },
}
"""By path: what values of it look like."""

ENDINGS: Mapping[str, Json] = {
    "existingSecret": NAME,
    "caSecret": NAME,
    "Secret": NAME,
    "Url": URL,
    ".url": URL,
    ".issuer": URL,
    "endpoint": URL,
    "cpuUtilization": PERCENTAGE,
    "baseFloor": COUNT,
    "minReplicas": COUNT,
    "maxReplicas": COUNT,
    "perReplica": COUNT,
    "PerSecond": COUNT,
    "concurrency": COUNT,
    "replicas": COUNT,
    "requests.cpu": QUANTITY,
    "requests.memory": QUANTITY,
    "limits.memory": QUANTITY,
    "storageSize": QUANTITY,
    "Ports": PORTS,
}
"""By the end of a path, where the path itself has no shape: the first that fits."""

OWNERS: Mapping[str, str] = {
    **{name: f"services.{name}.config" for name in ("queue", "inventory", "checkout", "notifier")},
    "operator": "catraca_operator.config",
}
"""Where the settings of a component are."""

# What the chart says by itself, from values of another name.
OURS = frozenset(
    {
        *(
            "listen",
            "metrics_listen",
            "standing_listen",
            "webhook_listen",
            "log_level",
            "namespace",
            "part_of",
        ),
        *("nats_url", "redis_url", "postgres_url", "sandbox_url", "webhook_url", "oidc_issuer", "jwks_url"),
        *(
            "audience",
            "stores_prepared",
            "stream_replicas",
            "lame_duck_s",
            "drain_s",
            "connection_age_s",
            "otlp_endpoint",
        ),
        *("trace_ratio", "tls_client_cert_required"),
        *("inventory_target", "checkout_target", "queue_target"),
    }
)


def settings_of(component: str) -> type[Any]:
    """The settings dataclass of a component: the one that its module defines."""
    module = import_module(OWNERS[component])
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    )
    return found


def settings_schema(component: str) -> Json:
    """Settings that may be given by name, with their bounds and what they are for."""
    cls = settings_of(component)
    hints = typing.get_type_hints(cls)
    properties = {}
    for field in sorted(dataclasses.fields(cls), key=lambda field: field.name):
        kind = {int: "integer", float: "number", bool: "boolean", str: "string"}.get(hints[field.name])
        # Files are mounted by the chart, and what may be absent is for it to say.
        if kind is None or field.name in OURS:
            continue
        bounds = {
            name: field.metadata[name] for name in ("minimum", "maximum") if field.metadata[name] is not None
        }
        properties[field.name] = {"description": field.metadata["doc"], "type": kind, **bounds}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def comments(text: str) -> dict[str, str]:
    """The comment above each value, by its path. A value without one is not in it."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        matched = KEY.match(line)
        if line.lstrip().startswith("#"):
            above.append(line.lstrip().removeprefix("#").strip())
        elif matched:
            indent = len(matched[1])
            path = [*(step for step in path if step[0] < indent), (indent, matched[2])]
            if above:
                found[".".join(name for _, name in path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


def schema_of(value: Any, path: str, said: Mapping[str, str]) -> Json:
    """The schema of a value, from its default and the tables."""
    description = {"description": said[path]} if path in said else {}
    if path.endswith(".settings"):
        return description | settings_schema(path.partition(".")[0])
    shape = SHAPES.get(path) or next((each for end, each in ENDINGS.items() if path.endswith(end)), None)
    if shape is not None and not (isinstance(value, dict) and shape is not TEXTS):
        return description | shape
    if isinstance(value, dict):
        properties = {
            name: schema_of(each, f"{path}.{name}".lstrip("."), said) for name, each in value.items()
        }
        return description | {"type": "object", "additionalProperties": False, "properties": properties}
    if isinstance(value, bool):
        return description | {"type": "boolean"}
    if isinstance(value, str):
        return description | {"type": "string"}
    raise ValueError(f"{path}: a default of {value!r} does not say what it is; give it a shape")


def made() -> str:
    """The schema as it is to be."""
    text = VALUES.read_text()
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart catraca"}
    return (
        json.dumps(head | schema_of(yaml.safe_load(text), "", comments(text)), indent=1, ensure_ascii=False)
        + "\n"
    )


def main() -> int:
    """Write the schema, or say that it is another."""
    text = made()
    if "--check" not in sys.argv[1:]:
        SCHEMA.write_text(text)
        return 0
    if SCHEMA.exists() and SCHEMA.read_text() == text:
        return 0
    print(f"{SCHEMA} is not what values.yaml and the settings say: run `make gen`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
