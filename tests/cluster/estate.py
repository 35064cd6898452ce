"""A namespace as the chart would fill it, real services beside it, and the operator as a process."""

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from local.discovery import RunningStack
from local.parts import HttpProcess
from local.private import write_private
from services.kit.manifest import API_VERSION
from tests.cluster import keda
from tests.cluster.objects import deployment
from tests.cluster.plane.api import Api, Json, Refused
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.waiting import eventually

RBAC = Path(__file__).parents[2] / "charts/catraca/files/operator-rbac.yaml"
ACCOUNT = "catraca-operator"
PART_OF, COMPONENT = "app.kubernetes.io/part-of", "app.kubernetes.io/component"
BASE = 2
# How long one watch lasts before the next.
ROUND_S = 5
# External metric and how much of it one replica bears, by service: the names that docs/observability.md has.
DEMAND = {
    "queue": ("catraca_line_waiting_buyers", 10_000),
    "inventory": ("catraca_turns_running", 2_000),
    "checkout": ("catraca_consumer_pending_messages", 500),
    "notifier": ("catraca_notifier_buyers", 10_000),
}


def labels(service: str) -> dict[str, str]:
    """What the operator finds a service's Deployment and HPA by."""
    return {PART_OF: "catraca", COMPONENT: service}


def labelled_deployment(service: str) -> Json:
    """A service's Deployment: its replicas are the HPA's."""
    made = deployment(service)
    made["metadata"]["labels"] = labels(service)
    return made


def scaler(service: str, most: int) -> Json:
    """A service's HPA as the chart makes it: without minReplicas, with what that is at rest."""
    metric, each = DEMAND[service]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": service,
            "labels": labels(service),
            "annotations": {"catraca.dev/base-floor": str(BASE)},
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
            "maxReplicas": most,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": metric},
                        "target": {"type": "AverageValue", "averageValue": str(each)},
                    },
                }
            ],
            # So that a test does not wait the five minutes that a real one should.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }


@dataclass
class Estate:
    """One namespace with everything that the operator looks at."""

    plane: ControlPlane
    namespace: str
    running: RunningStack
    folder: Path
    operators: list[HttpProcess] = field(default_factory=list)

    @property
    def api(self) -> Api:
        """The administrator's calls."""
        return self.plane.client()

    def lay_out(self, most: int = 20) -> None:
        """Deployments and HPAs of the four services, and the operator's rights."""
        for service, (metric, _) in DEMAND.items():
            # Nobody wants anything: what scales is the floor.
            self.plane.metrics.set(self.namespace, metric, 0)
            self.api.create(self._in("apps/v1", "deployments"), labelled_deployment(service))
            self.api.apply(f"{self.scalers_path}/{service}", scaler(service, most))
        self.grant()

    def scale_by_keda(self, service: str) -> None:
        """Have KEDA scale a service, as the chart's file says."""
        self.api.delete(f"{self.scalers_path}/{service}")
        made = keda.scaled_object(service)
        self.api.apply(f"{keda.collection(self.namespace)}/{service}", made)

    def grant(self, without: int | None = None) -> None:
        """The operator's rights as the file has them, but for one rule where asked."""
        for document in yaml.safe_load_all(RBAC.read_text()):
            if document["kind"] == "Role" and without is not None:
                del document["rules"][without]
            if document["kind"] == "RoleBinding":
                document["subjects"][0]["namespace"] = self.namespace
            version, plural = document["apiVersion"], f"{document['kind'].lower()}s"
            self.api.apply(f"{self._in(version, plural)}/{ACCOUNT}", document)

    def operator(self, **settings: str) -> HttpProcess:
        """An operator that is not started yet, with exactly the rights of its ServiceAccount."""
        name = f"operator-{len(self.operators) + 1}"
        token = self.folder / f"{name}.jwt"
        write_private(token, self.running.minter().mint("operator", roles=["organiser"]))
        process = HttpProcess(name, self.folder, "catraca_operator")
        process.variables = {
            "KUBECONFIG": str(self.plane.account_kubeconfig(self.namespace, ACCOUNT)),
            "CATRACA_NAMESPACE": self.namespace,
            "CATRACA_QUEUE_TARGET": self.running.targets["queue"],
            "CATRACA_CHECKOUT_TARGET": self.running.targets["checkout"],
            "CATRACA_ORGANISER_TOKEN_FILE": str(token),
            "CATRACA_METRICS_LISTEN": process.address,
            "CATRACA_REFRESH_S": "0.5",
            "CATRACA_IDLE_S": "2",
            "CATRACA_HOLD_BACK_AHEAD_S": "2",
            "CATRACA_STUCK_S": "10",
            "CATRACA_KEDA_POLL_S": "0.5",
            **settings,
        }
        self.operators.append(process)
        return process

    @contextmanager
    def operated(self, **settings: str) -> Iterator[HttpProcess]:
        """An operator that runs for the block."""
        process = self.operator(**settings)
        process.start()
        process.wait_ready(60)
        try:
            yield process
        finally:
            process.stop()

    # ---- sales ----

    def sale_path(self, name: str) -> str:
        """Where a TicketSale is."""
        return f"{self._in(API_VERSION, 'ticketsales')}/{name}"

    def apply(self, manifest: Json) -> Json:
        """Apply a TicketSale."""
        return self.api.apply(self.sale_path(manifest["metadata"]["name"]), manifest)

    def sale(self, name: str) -> Json:
        """A TicketSale as it stands."""
        return self.api.get(self.sale_path(name))

    def condition(self, name: str, kind: str) -> Json:
        """One condition of a sale; empty where it has none yet."""
        found = self.sale(name).get("status", {}).get("conditions", [])
        return next((each for each in found if each["type"] == kind), {})

    def until(
        self, name: str, kind: str, status: str = "True", reason: str = "", timeout_s: float = 60
    ) -> Json:
        """Wait for a condition, and a reason where one is given; the condition."""
        return eventually(
            lambda: self.condition(name, kind),
            lambda each: each.get("status") == status and reason in ("", each.get("reason")),
            timeout_s,
        )

    def remove(self, name: str) -> None:
        """Delete a sale, and let it go whatever its finalizer waits for: a test is over."""
        try:
            self.api.delete(self.sale_path(name))
            self.api.merge(self.sale_path(name), {"metadata": {"finalizers": None}})
        except Refused as refused:
            if refused.code != 404:
                raise

    def names(self) -> list[str]:
        """Every sale of the namespace."""
        return [
            each["metadata"]["name"] for each in self.api.get(self._in(API_VERSION, "ticketsales"))["items"]
        ]

    # ---- what became of it ----

    @property
    def scalers_path(self) -> str:
        """Where the HPAs are."""
        return self._in("autoscaling/v2", "horizontalpodautoscalers")

    def least(self, service: str) -> int:
        """minReplicas of a service's HPA."""
        found = self.api.get(f"{self.scalers_path}/{service}")
        return int(found["spec"].get("minReplicas", 1))

    def least_by_keda(self, service: str) -> int | None:
        """minReplicaCount of a service's ScaledObject."""
        found = self.api.get(f"{keda.collection(self.namespace)}/{service}")
        least: int | None = found["spec"].get("minReplicaCount")
        return least

    def ready(self, service: str) -> int:
        """Ready replicas of a service."""
        found = self.api.get(f"{self._in('apps/v1', 'deployments')}/{service}")
        return int(found["status"].get("readyReplicas", 0))

    def running_pods(self, service: str) -> int:
        """Pods of a service that run."""
        found = self.api.get(self._in("v1", "pods"), labelSelector=f"app={service}")["items"]
        return sum(1 for each in found if each["status"].get("phase") == "Running")

    def events(self, name: str) -> list[Json]:
        """What people were told of a sale, oldest first."""
        found = self.api.get(self._in("events.k8s.io/v1", "events"))["items"]
        mine = [each for each in found if each["regarding"]["name"] == name]
        return sorted(mine, key=lambda each: str(each["eventTime"]))

    def _in(self, version: str, plural: str) -> str:
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        return f"{root}/namespaces/{self.namespace}/{plural}"


def manifest(name: str, *, lobby_s: float, opens_s: float, closes_s: float, **spec: Any) -> Json:
    """A sale whose times are so many seconds from now; 4 replicas of the queue from the lobby on, then 8."""
    now = datetime.now(UTC)

    def at(seconds: float) -> str:
        return (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return {
        "apiVersion": API_VERSION,
        "kind": "TicketSale",
        "metadata": {"name": name},
        "spec": {
            "title": "A test",
            "currency": "BRL",
            "window": {"lobbyOpensAt": at(lobby_s), "opensAt": at(opens_s), "closesAt": at(closes_s)},
            "sections": [{"id": "floor", "capacity": 4, "ticketTypes": [{"id": "full", "price": 1500}]}],
            "line": {"turnDuration": "20s"},
            "limits": {"perBuyer": 2},
            "payment": {"window": "20s", "grace": "1s"},
            "scaling": {
                "leadTime": "2s",
                "warmUpSteps": 2,
                "cooldown": "2s",
                "services": {
                    "queue": {"floor": 4, "peak": 8, "max": 16},
                    "checkout": {"floor": 3, "peak": 5, "max": 16},
                },
            },
            **spec,
        },
    }


def samples(process: HttpProcess) -> Mapping[str, float]:
    """What the operator's page of metrics says, by name with labels."""
    with urllib.request.urlopen(f"http://{process.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if matched := re.fullmatch(r"(\S+?(?:\{.*\})?) ([-+0-9.eE]+|NaN|\+Inf)", line):
            found[matched[1]] = float(matched[2])
    return found


def histogram(process: HttpProcess, name: str, **labels: str) -> tuple[int, float]:
    """How many were observed, and the bucket's upper end that all of them lie below."""
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    count, most = 0, float("inf")
    for sample, value in samples(process).items():
        said = set(re.findall(r'[a-z]+="[^"]*"', sample))
        if sample.startswith(f"{name}_count") and wanted <= said:
            count = int(value)
    for sample, value in samples(process).items():
        said = set(re.findall(r'[a-z]+="[^"]*"', sample))
        edge = re.search(r'le="([^"]+)"', sample)
        if sample.startswith(f"{name}_bucket") and wanted <= said and edge and value >= count > 0:
            most = min(most, float(edge[1]))
    return count, most


class Story:
    """What became of a sale and of the floors, each change in its order, watched from the side."""

    def __init__(self, estate: Estate, name: str) -> None:
        self.reasons: list[tuple[str, str, str, float]] = []
        """Condition, status, reason and lastTransitionTime in seconds since 1970, at each change."""
        self.floors: dict[str, list[int]] = {}
        """minReplicas by service, when it changed."""
        self._estate = estate
        self._name = name
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, args=each, daemon=True) for each in self._watched()
        ]

    def __enter__(self) -> "Story":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def of(self, kind: str) -> list[tuple[str, str]]:
        """Status and reason of a condition, in their order, without repetition."""
        found = [(status, reason) for each, status, reason, _ in self.reasons if each == kind]
        return [each for place, each in enumerate(found) if place == 0 or found[place - 1] != each]

    def at(self, kind: str, reason: str) -> float:
        """When a condition first had this reason: its lastTransitionTime then."""
        return next(at for each, _, said, at in self.reasons if (each, said) == (kind, reason))

    def _watched(self) -> list[tuple[str, Callable[[Json], None]]]:
        of = self._estate
        return [
            (of.sale_path("").rstrip("/"), self._saw_sale),
            (of.scalers_path, self._saw_scaler),
        ]

    def _follow(self, path: str, saw: Callable[[Json], None]) -> None:
        while not self._over.is_set():
            try:
                for event in self._estate.api.watch(path, ROUND_S):
                    if event["type"] != "ERROR":
                        saw(event["object"])
            except (Refused, OSError, HTTPException):
                # The API server may be one that a test ends.
                self._over.wait(0.2)

    def _saw_sale(self, body: Json) -> None:
        if body["metadata"]["name"] != self._name:
            return
        for each in body.get("status", {}).get("conditions", []):
            at = datetime.fromisoformat(each["lastTransitionTime"]).timestamp()
            seen = (each["type"], each["status"], each["reason"], at)
            if seen not in self.reasons:
                self.reasons.append(seen)

    def _saw_scaler(self, body: Json) -> None:
        known = self.floors.setdefault(body["metadata"]["name"], [])
        least = int(body["spec"].get("minReplicas", 1))
        if not known or known[-1] != least:
            known.append(least)
