"""The control plane under the cluster tests is a real one, and survives the kill -9 of any part."""

import json
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path

import psutil
import pytest

from local.servers.process import wait_gone
from tests.cluster.objects import autoscaler, deployment, job, stateful_set
from tests.cluster.plane.api import Api, Refused
from tests.cluster.plane.control_plane import NODE, ControlPlane
from tests.cluster.plane.kubelet import READY_ANNOTATION
from tests.cluster.plane.metrics import GROUP, VERSION
from tests.cluster.plane.programs import GROUPS
from tests.cluster.plane.tools import Tools
from tests.cluster.plane.waiting import eventually

ROOT = Path(__file__).parents[2]
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: probe\nversion: 0.1.0\nkubeVersion: '>=1.30.0'\n",
    "templates/config.yaml": (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n"
        "data: {from: '{{ .Capabilities.KubeVersion.Version }}'}\n"
    ),
}


def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def autoscalers(namespace: str) -> str:
    return f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"


def available(api: Api, namespace: str, name: str) -> int:
    """How many replicas a Deployment has that can be used."""
    found = api.get(f"{deployments(namespace)}/{name}")
    return int(found["status"].get("availableReplicas", 0))


def versions() -> dict[str, str]:
    return {group.name: group.version for group in GROUPS}


def test_server_and_kubectl_know_their_version(plane: ControlPlane) -> None:
    said = json.loads(plane.tools.kubectl("version", "--output=json"))
    assert said["serverVersion"]["gitVersion"] == versions()["kubernetes"]
    assert said["clientVersion"]["gitVersion"] == versions()["kubernetes"]


@pytest.mark.parametrize("major", [3, 4])
def test_helm_installs_a_chart_and_takes_it_away(
    plane: ControlPlane, namespace: str, tmp_path: Path, major: int, kubectl: Callable[..., str]
) -> None:
    for name, text in CHART.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    helm = plane.tools.helm
    assert helm("version", "--template={{.Version}}", major=major) == versions()[f"helm{major}"]
    helm("install", "probe", str(tmp_path), "--namespace", namespace, major=major)
    data = json.loads(kubectl("get", "configmap", "probe", "--output=json"))["data"]
    assert data == {"from": versions()["kubernetes"]}
    helm("uninstall", "probe", "--namespace", namespace, major=major)
    assert "probe" not in kubectl("get", "configmaps", "--output=name")


def test_a_deployment_gets_running_pods(api: Api, namespace: str) -> None:
    api.create(deployments(namespace), deployment("web"))
    api.merge(f"{deployments(namespace)}/web/scale", {"spec": {"replicas": 3}})
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 3)
    pods = api.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {NODE}
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}


def test_pods_go_when_their_deployment_goes(api: Api, namespace: str) -> None:
    api.create(deployments(namespace), deployment("web"))
    eventually(lambda: available(api, namespace, "web"))
    api.delete(f"{deployments(namespace)}/web")
    pods = f"/api/v1/namespaces/{namespace}/pods"
    eventually(lambda: api.get(pods), lambda found: not found["items"])


def test_pods_of_a_stateful_set_have_a_volume_each(api: Api, namespace: str) -> None:
    sets = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    api.create(sets, stateful_set("store", 2))
    eventually(lambda: api.get(f"{sets}/store")["status"], lambda status: status.get("readyReplicas") == 2)
    claims = api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims")["items"]
    assert {claim["metadata"]["name"] for claim in claims} == {"data-store-0", "data-store-1"}
    assert len({claim["spec"]["volumeName"] for claim in claims}) == 2


def test_a_job_succeeds(api: Api, namespace: str) -> None:
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    api.create(jobs, job("once"))
    done = eventually(lambda: api.get(f"{jobs}/once")["status"], lambda status: status.get("succeeded"))
    assert "failed" not in done


def test_a_pod_is_as_ready_as_the_test_wants_it(api: Api, namespace: str) -> None:
    api.create(deployments(namespace), deployment("slow", annotations={READY_ANNOTATION: "false"}))
    pods = f"/api/v1/namespaces/{namespace}/pods"

    def running() -> list[str]:
        found = api.get(pods)["items"]
        return [pod["metadata"]["name"] for pod in found if pod["status"].get("phase") == "Running"]

    (name,) = eventually(running)
    assert available(api, namespace, "slow") == 0
    api.merge(f"{pods}/{name}", {"metadata": {"annotations": {READY_ANNOTATION: None}}})
    eventually(lambda: available(api, namespace, "slow"), lambda count: count == 1)


def test_raising_the_least_replicas_scales_without_a_metric(api: Api, namespace: str) -> None:
    api.create(deployments(namespace), deployment("web"))
    api.create(autoscalers(namespace), autoscaler("web", "waiting", least=1, most=40, each=10))
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 1)
    api.merge(f"{autoscalers(namespace)}/web", {"spec": {"minReplicas": 12}})
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 12)


def test_an_external_metric_scales_out_and_in(plane: ControlPlane, api: Api, namespace: str) -> None:
    plane.metrics.set(namespace, "waiting", 250)
    api.create(deployments(namespace), deployment("web"))
    api.create(autoscalers(namespace), autoscaler("web", "waiting", least=2, most=40, each=10))
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 25)
    plane.metrics.set(namespace, "waiting", 0)
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 2)


def test_metrics_are_for_the_aggregator_alone(plane: ControlPlane, api: Api, namespace: str) -> None:
    plane.metrics.set(namespace, "waiting", "1500m")
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/waiting"
    assert api.get(path)["items"][0]["value"] == "1500m"
    context = ssl.create_default_context(cafile=plane.api.authority.certificate)
    context.check_hostname = False
    context.load_cert_chain(plane.api.admin.certificate, plane.api.admin.key)
    connection = HTTPSConnection("127.0.0.1", plane.metrics.port, timeout=10, context=context)
    with pytest.raises((ssl.SSLError, ConnectionError)) as refused, closing(connection):
        connection.request("GET", path)
        connection.getresponse()
    # It was the server that did not trust, not this client.
    assert not isinstance(refused.value, ssl.SSLCertVerificationError)


def test_an_account_may_what_it_was_given(
    plane: ControlPlane, api: Api, namespace: str, kubectl: Callable[..., str]
) -> None:
    kubectl("create", "serviceaccount", "reader")
    file = plane.account_kubeconfig(namespace, "reader")
    reader = plane.client(file)
    configs = f"/api/v1/namespaces/{namespace}/configmaps"
    with pytest.raises(Refused) as refused:
        reader.get(configs)
    assert refused.value.code == 403
    kubectl("create", "role", "reading", "--verb=list", "--resource=configmaps")
    kubectl("create", "rolebinding", "reading", "--role=reading", f"--serviceaccount={namespace}:reader")
    eventually(lambda: reader.get(configs)["items"])
    named = Tools(plane.folder, file).kubectl("auth", "whoami", "--output=json")
    assert json.loads(named)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:reader"


@pytest.mark.parametrize("name", ["kube-apiserver", "etcd"])
def test_a_killed_server_comes_back_with_its_state(
    plane: ControlPlane, api: Api, namespace: str, name: str
) -> None:
    (part,) = (each for each in plane.parts if each.name == name)
    api.create(deployments(namespace), deployment("web"))
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 1)
    before = api.get(f"{deployments(namespace)}/web")["metadata"]["uid"]
    with plane.without(part):
        assert not part.running
    after = eventually(lambda: api.get(f"{deployments(namespace)}/web"))
    assert after["metadata"]["uid"] == before
    # Whoever watched it goes on: controllers, scheduler and node together make another pod run.
    api.merge(f"{deployments(namespace)}/web/scale", {"spec": {"replicas": 2}})
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 2)


@pytest.mark.parametrize("name", ["kube-controller-manager", "kube-scheduler", "kubelet"])
def test_a_killed_part_is_made_up_for_when_it_is_back(
    plane: ControlPlane, api: Api, namespace: str, name: str
) -> None:
    (part,) = (each for each in plane.parts if each.name == name)
    with plane.without(part):
        api.create(deployments(namespace), deployment("web"))
    eventually(lambda: available(api, namespace, "web"), lambda count: count == 1)


PROGRAM = """
import pathlib, sys
from tests.cluster.plane.control_plane import ControlPlane
plane = ControlPlane(pathlib.Path(sys.argv[1]))
plane.start()
print(*(part.pid for part in plane.parts), flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_when_its_owner_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        parts = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
        assert len(parts) == 5
        owner.kill()
    assert wait_gone(parts, 20) == []
