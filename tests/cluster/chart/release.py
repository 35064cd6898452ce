"""A release of the chart in a namespace, and its operator as a process with the chart's own rights."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.discovery import RunningStack
from local.parts import HttpProcess
from local.private import write_private
from services.kit.manifest import API_VERSION
from tests.cluster.chart.charts import CHART, EXAMPLES, RELEASE, SERVICES, environment
from tests.cluster.plane.api import Json, Refused
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.programs import program
from tests.cluster.plane.waiting import eventually

PLURALS = {
    "apps/v1": ("deployments", "statefulsets"),
    "autoscaling/v2": ("horizontalpodautoscalers",),
    "batch/v1": ("jobs",),
    "networking.k8s.io/v1": ("networkpolicies",),
    "policy/v1": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io/v1": ("roles", "rolebindings"),
    "v1": ("configmaps", "pods", "secrets", "serviceaccounts", "services"),
}
PATIENCE_S = 60.0
RIGHTS = "rbac.authorization.k8s.io/v1"


class Release:
    """The trial example, installed by either Helm."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.plane, self.namespace, self.folder = plane, namespace, folder
        self.api = plane.client()
        self.values = EXAMPLES["trial"]

    def helm(self, command: str, *arguments: str, major: int) -> str:
        """What a command about the release says."""
        return self.plane.tools.helm(command, RELEASE, *arguments, "--namespace", self.namespace, major=major)

    def install(self, *arguments: str, major: int) -> str:
        """Install it, and wait for all of it, its job included."""
        return self.helm("install", str(CHART), "--values", str(self.values), *arguments, *WAIT, major=major)

    def upgrade(self, *arguments: str, major: int) -> str:
        """Another version of it."""
        return self.helm("upgrade", str(CHART), "--values", str(self.values), *arguments, *WAIT, major=major)

    def notes(self, *, major: int) -> str:
        """What the install said to do next."""
        return self.plane.tools.helm("get", "notes", RELEASE, "--namespace", self.namespace, major=major)

    def shell(self, command: str) -> None:
        """A command as a person types it. Raises CalledProcessError."""
        path = f"{program('kubectl').parent}:{os.environ['PATH']}"
        told = {**self.plane.tools.environment(), "PATH": path}
        subprocess.run(["bash", "-euc", command], env=told, check=True, timeout=120)

    # ---- what is there ----

    def path(self, version: str, plural: str, name: str = "") -> str:
        """Where objects of the namespace are."""
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def deployment(self, component: str) -> Json:
        """A Deployment as it stands."""
        return self.api.get(self.path("apps/v1", "deployments", f"{RELEASE}-{component}"))

    def scaler(self, component: str) -> Json:
        """An HPA as it stands."""
        return self.api.get(self.path("autoscaling/v2", "horizontalpodautoscalers", f"{RELEASE}-{component}"))

    def secret(self, what: str) -> Json:
        """A Secret as it stands."""
        return self.api.get(self.path("v1", "secrets", f"{RELEASE}-{what}"))

    def left(self) -> set[str]:
        """What there is in the namespace, as `plural/name`, that Kubernetes did not put there itself."""
        found = set()
        for version, plurals in PLURALS.items():
            for plural in plurals:
                for each in self.api.get(self.path(version, plural))["items"]:
                    if "deletionTimestamp" not in each["metadata"]:
                        found.add(f"{plural}/{each['metadata']['name']}")
        return found - {"configmaps/kube-root-ca.crt", "serviceaccounts/default"}

    def clear(self) -> None:
        """Let go of sales, whose finalizers nobody looks after any more, and of the definition."""
        sales = self.path(API_VERSION, "ticketsales")
        try:
            for each in self.api.get(sales)["items"]:
                name = each["metadata"]["name"]
                self.api.merge(f"{sales}/{name}", {"metadata": {"finalizers": None}})
                self.api.delete(f"{sales}/{name}")
            self.api.delete(CRD)
            eventually(lambda: self._gone(CRD), bool)
        except Refused as refused:
            if refused.code != 404:
                raise

    def _gone(self, path: str) -> bool:
        try:
            self.api.get(path)
        except Refused as refused:
            return refused.code == 404
        return False

    # ---- the operator ----

    @contextmanager
    def operated(self, running: RunningStack) -> Iterator[HttpProcess]:
        """The chart's operator as a process: its environment and its ServiceAccount, other addresses."""
        token = self.folder / "organiser.jwt"
        write_private(token, running.minter().mint("operator", roles=["organiser"]))
        process = HttpProcess("operator", self.folder, "catraca_operator")
        process.variables = {
            **environment(self.deployment("operator")["spec"]["template"]),
            "KUBECONFIG": str(self.plane.account_kubeconfig(self.namespace, f"{RELEASE}-operator")),
            "CATRACA_QUEUE_TARGET": running.targets["queue"],
            "CATRACA_CHECKOUT_TARGET": running.targets["checkout"],
            "CATRACA_ORGANISER_TOKEN_FILE": str(token),
            "CATRACA_METRICS_LISTEN": process.address,
            "CATRACA_REFRESH_S": "0.5",
            "CATRACA_IDLE_S": "1",
        }
        process.start()
        process.wait_ready(PATIENCE_S)
        try:
            yield process
        finally:
            process.stop()


WAIT = ("--wait", "--wait-for-jobs", "--timeout", "80s")
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ticketsales.catraca.dev"


class Replicas:
    """What the services' replicas and floors were, at each change, watched from the side."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self.seen: dict[str, list[int | None]] = {}
        self._over = threading.Event()
        watched = (
            ("apps/v1", "deployments", "replicas"),
            ("autoscaling/v2", "horizontalpodautoscalers", "minReplicas"),
        )
        self._threads = [threading.Thread(target=self._follow, args=each, daemon=True) for each in watched]

    def __enter__(self) -> "Replicas":
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.seen), lambda count: count >= 2 * len(SERVICES))
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _follow(self, version: str, plural: str, field: str) -> None:
        while not self._over.is_set():
            for event in self._release.api.watch(self._release.path(version, plural), 5):
                body: dict[str, Any] = event["object"]
                service = body["metadata"]["name"].removeprefix(f"{RELEASE}-")
                if service in SERVICES:
                    known = self.seen.setdefault(f"{field} of {service}", [])
                    value = body["spec"].get(field)
                    if known[-1:] != [value]:
                        known.append(value)
