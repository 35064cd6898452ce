"""Install, upgrade, roll back, uninstall, on a real control plane, by Helm 3 and Helm 4."""

import base64
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.stack import Stack
from services.kit.manifest import API_VERSION
from tests.cluster.chart.charts import CHART, EXAMPLES, RELEASE, SERVICES, rendered_text
from tests.cluster.chart.release import CRD, Release, Replicas
from tests.cluster.plane.api import Json
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.programs import program
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import aside

pytestmark = pytest.mark.timeout(300)
FLOOR = 5
# As a hook would have made it: no pod runs here that could.
KEPT = {"made": base64.b64encode(b"once").decode()}


def sale(name: str) -> Json:
    """A sale that is open, and wants five replicas of the queue."""
    now = datetime.now(UTC)

    def at(seconds: float) -> str:
        return (now + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    return {
        "apiVersion": API_VERSION,
        "kind": "TicketSale",
        "metadata": {"name": name},
        "spec": {
            "title": "An upgrade",
            "currency": "EUR",
            "window": {"lobbyOpensAt": at(0), "opensAt": at(3), "closesAt": at(3600)},
            "sections": [{"id": "floor", "capacity": 4, "ticketTypes": [{"id": "full", "price": 1500}]}],
            "scaling": {"leadTime": "2s", "services": {"queue": {"floor": 2, "peak": FLOOR, "max": 16}}},
        },
    }


def condition(release: Release, name: str, kind: str) -> str:
    found = release.api.get(release.path(API_VERSION, "ticketsales", name)).get("status", {})
    return next((each["status"] for each in found.get("conditions", []) if each["type"] == kind), "")


def ready(release: Release, component: str) -> int:
    return int(release.deployment(component)["status"].get("readyReplicas", 0))


@pytest.mark.parametrize("major", [3, 4])
async def test_a_sale_goes_on_while_the_release_comes_changes_and_goes(
    release: Release, stack: Stack, major: int
) -> None:
    name = f"sale-{release.namespace}"
    await aside(release.install, major=major)
    # Each of its pods was taken by the restricted standard, runs and is ready.
    for component in (*SERVICES, "edge", "operator", "tokens"):
        assert ready(release, component) >= 1, component
    for component in ("redis", "nats", "postgres", "issuer", "sandbox"):
        found = release.api.get(release.path("apps/v1", "statefulsets", f"{RELEASE}-{component}"))
        assert found["status"]["readyReplicas"] == 1
    # What may make Secrets was there for as long as the hook, and is not any more.
    assert not {f"{what}/{RELEASE}-secrets" for what in ("roles", "rolebindings", "jobs")} & release.left()
    # The hook's pod did not run here, so what it would have made is put there.
    metadata = {"name": f"{RELEASE}-keys"}
    release.api.create(release.path("v1", "secrets"), {"metadata": metadata, "data": KEPT})
    release.api.merge(release.path("v1", "secrets", f"{RELEASE}-tokens"), {"data": KEPT})

    with release.operated(stack.running):
        if major == 4:
            await aside(as_the_notes_say, release)
        release.api.apply(release.path(API_VERSION, "ticketsales", name), sale(name))
        await aside(eventually, lambda: condition(release, name, "WindowOpen"), lambda said: said == "True")
        await aside(eventually, lambda: ready(release, "queue"), lambda count: count >= FLOOR)
        with Replicas(release) as replicas:
            await aside(release.upgrade, "--set", "logLevel=debug,image.tag=next", major=major)
            upgraded = release.deployment("queue")
            await aside(release.helm, "rollback", "1", major=major)
            rolled_back = release.deployment("queue")
        assert condition(release, name, "WindowOpen") == "True"
    assert image_of(upgraded) == "catraca:next"
    assert image_of(rolled_back).endswith(":0.1.0")
    # Both changed every pod, and neither moved a number of replicas nor a floor.
    assert replicas.seen["replicas of queue"] == [FLOOR]
    assert replicas.seen["minReplicas of queue"] == [FLOOR]
    assert all(len(values) == 1 for values in replicas.seen.values()), replicas.seen
    assert ready(release, "queue") >= FLOOR
    assert release.secret("keys")["data"] == release.secret("tokens")["data"] == KEPT

    await aside(release.helm, "test", major=major)
    pod = release.api.get(release.path("v1", "pods", f"{RELEASE}-test"))
    assert pod["status"]["phase"] == "Succeeded"

    await aside(release.helm, "uninstall", "--wait", major=major)
    # Sales and keys are not the release's to take along.
    assert release.api.get(CRD)["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert release.api.get(release.path(API_VERSION, "ticketsales", name))["spec"]["title"] == "An upgrade"
    await aside(eventually, lambda: {each for each in release.left() if "/pod" not in each}, settled)
    assert release.secret("keys")["data"] == KEPT

    # Whoever comes back finds everything as it was, also with the other Helm.
    await aside(release.helm, "install", str(CHART), "--values", str(release.values), major=7 - major)
    assert release.secret("keys")["data"] == KEPT


def as_the_notes_say(release: Release) -> None:
    """Do what the install prints, from the wait for the pods to the window of the first sale, but sooner."""
    notes = release.notes(major=4)
    sooner = notes.replace("'1 minute'", "'0 seconds'").replace("'2 minutes'", "'4 seconds'")
    (define,) = re.findall(r"^kubectl .*?^SALE$", sooner, re.MULTILINE | re.DOTALL)
    rollout, wait = (
        re.search(rf"^ +(kubectl .* {verb} .*)$", sooner, re.MULTILINE) for verb in ("rollout", "wait")
    )
    assert rollout and wait
    for command in (rollout[1], define, wait[1]):
        release.shell(command)
    release.api.delete(release.path(API_VERSION, "ticketsales", "first-sale"))


def settled(left: set[str]) -> bool:
    """Nothing but what stays, and the test's pod, which Helm leaves to be read."""
    return left <= {f"secrets/{RELEASE}-keys", f"pods/{RELEASE}-test"}


def image_of(deployment: Json) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_api_server_takes_every_example_as_restricted(
    chart_plane: ControlPlane, chart_namespace: str, neighbours: None, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(rendered_text("--values", str(EXAMPLES[name]), "--namespace", chart_namespace))
    command = ["apply", "--server-side", "--dry-run=server", "--namespace", chart_namespace, "-f", str(file)]
    done = subprocess.run(
        [str(program("kubectl")), *command],
        env=dict(chart_plane.tools.environment()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # It would warn of a pod that is not restricted, and of a field that it does not know.
    assert done.stderr == ""
