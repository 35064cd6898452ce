"""The chart as Helm renders it with each example of values, without asking a cluster."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.plane.programs import program

Json = dict[str, Any]

CHART = Path(__file__).parents[3] / "charts" / "catraca"
EXAMPLES = {path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}
SERVICES = ("queue", "inventory", "checkout", "notifier")
RELEASE = "catraca"
COMPONENT = "app.kubernetes.io/component"
VERSION = "1.36"
# What clusters of the examples have beside Kubernetes itself: kinds by API.
INSTALLED: Mapping[str, tuple[str, ...]] = {
    "cert-manager.io/v1": ("Certificate",),
    "gateway.envoyproxy.io/v1alpha1": ("SecurityPolicy", "BackendTrafficPolicy"),
    "gateway.networking.k8s.io/v1": ("Gateway", "GRPCRoute", "HTTPRoute"),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PrometheusRule"),
    "postgresql.cnpg.io/v1": ("Cluster",),
}


# A rendered chart is long: the C library reads it ten times as fast, where it is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class NotRendered(Exception):
    """Helm refused; the message is what it wrote."""


def rendered_text(*arguments: str, major: int = 4, apis: bool = True, release: str = RELEASE) -> str:
    """What `helm template` writes, hooks and tests included."""
    known = [f"--api-versions={api}" for api in INSTALLED] if apis else []
    command = [str(program(f"helm{major}")), "template", release, str(CHART), "--namespace", "shop"]
    told = [*command, "--kube-version", VERSION, *known, *arguments]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRendered(done.stderr)
    return done.stdout


@cache
def example(name: str, major: int = 4) -> list[Json]:
    """The objects of an example."""
    return objects(rendered_text("--values", str(EXAMPLES[name]), major=major))


def objects(text: str) -> list[Json]:
    """The documents of a text."""
    return [each for each in yaml.load_all(text, Loader=_LOADER) if each]


def component_of(body: Json) -> str:
    """Which part of the system an object belongs to."""
    return str(body["metadata"].get("labels", {}).get(COMPONENT, ""))


def of_kind(bodies: list[Json], kind: str, component: str | None = None) -> list[Json]:
    """The objects of a kind, and of a component where one is given."""
    return [each for each in bodies if each["kind"] == kind and component in (None, component_of(each))]


def pods(bodies: list[Json]) -> Iterator[tuple[str, Json]]:
    """Component and pod of everything that runs: the pod as metadata and spec."""
    for body in bodies:
        if body["kind"] == "Pod":
            yield component_of(body), body
        elif "template" in body.get("spec", {}):
            yield component_of(body), body["spec"]["template"]


def environment(pod: Json) -> dict[str, str]:
    """What the first container of a pod is told."""
    return {each["name"]: each["value"] for each in pod["spec"]["containers"][0].get("env", [])}
