"""A control plane that is the chart's alone: it installs the definition of sales, and takes it over."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.chart.charts import INSTALLED
from tests.cluster.chart.release import Release
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.crds import PATH
from tests.cluster.plane.programs import NotBuilt
from tests.cluster.plane.waiting import eventually

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


@pytest.fixture(scope="session")
def chart_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane without the definition of sales."""
    try:
        made = ControlPlane(tmp_path_factory.mktemp("chart"))
    except NotBuilt as error:
        pytest.fail(str(error), pytrace=False)
    with made:
        yield made


@pytest.fixture
def chart_namespace(chart_plane: ControlPlane) -> Iterator[str]:
    """A namespace that takes restricted pods only."""
    api, name = chart_plane.client(), f"chart-{secrets.token_hex(4)}"
    metadata = {"name": name, "labels": RESTRICTED}
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    eventually(lambda: api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def release(chart_plane: ControlPlane, chart_namespace: str, tmp_path: Path) -> Iterator[Release]:
    """A release of the chart that is not installed yet; whatever is left of it goes with its namespace."""
    made = Release(chart_plane, chart_namespace, tmp_path)
    yield made
    made.clear()


@pytest.fixture(scope="session")
def neighbours(chart_plane: ControlPlane) -> None:
    """The kinds that the examples' clusters have beside Kubernetes' own, without their schemas."""
    api = chart_plane.client()
    for version, kinds in INSTALLED.items():
        for kind in kinds:
            crd = definition(version, kind)
            api.apply(f"{PATH}/{crd['metadata']['name']}", crd)
    for version, kinds in INSTALLED.items():
        found = f"/apis/{version}"
        eventually(
            lambda found=found: len(api.get(found)["resources"]),
            lambda count, kinds=kinds: count >= len(kinds),
        )


def definition(version: str, kind: str) -> dict[str, object]:
    """A definition that takes everything: whether it fits is for the kind's own operator to say."""
    group, _, name = version.partition("/")
    plural = f"{kind.lower().removesuffix('y')}ies" if kind.endswith("y") else f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # Kubernetes keeps groups of its own apart, and wants to be told that these are known.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "versions": [
                {"name": name, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
            ],
        },
    }
