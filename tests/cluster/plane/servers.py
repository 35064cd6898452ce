"""The control plane's own processes: etcd, the API server, the controllers, the scheduler, the kubelet."""

import json
import ssl
import sys
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path

from local.servers import ports
from local.servers.process import Process
from local.servers.server import PROBE_TIMEOUT_S, Server
from tests.cluster.plane.audit import POLICY
from tests.cluster.plane.certificates import Authority, Pair, signing_key
from tests.cluster.plane.kubeconfigs import write_kubeconfig
from tests.cluster.plane.programs import program

# Nothing routes these addresses: what must be reached has an ExternalName service.
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
FRONT_PROXY = "front-proxy-client"
# What the chart and its tests need of the controllers; the others would only keep the machine busy.
CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "taint-eviction-controller",
)


class TlsServer(Server):
    """A server that speaks HTTPS and says at a path how it is."""

    health_path = "/healthz"

    def __init__(self, name: str, folder: Path, authority: Authority, asker: Pair) -> None:
        super().__init__(name, folder)
        self._trust = ssl.create_default_context(cafile=str(authority.certificate))
        self._trust.load_cert_chain(asker.certificate, asker.key)

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def probe(self) -> None:
        connection = HTTPSConnection(self.address, timeout=PROBE_TIMEOUT_S, context=self._trust)
        try:
            connection.request("GET", self.health_path)
            answer = connection.getresponse()
            if answer.status != HTTPStatus.OK:
                raise ConnectionError(f"{self.health_path} answered {answer.status}")
        finally:
            connection.close()


class Etcd(TlsServer):
    """One etcd member. Only the API server's certificate opens it."""

    health_path = "/health"

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "certificates" / "etcd", "etcd-ca")
        self.client = self.authority.client("kube-apiserver")
        self._serving = self.authority.server("etcd", ports.HOST)
        self._peer_port = ports.reserve()
        super().__init__("etcd", folder, self.authority, self.client)

    def command(self) -> Sequence[str]:
        peer = f"https://{ports.HOST}:{self._peer_port}"
        return [
            str(program("etcd")),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--cert-file={self._serving.certificate}",
            f"--key-file={self._serving.key}",
            f"--trusted-ca-file={self.authority.certificate}",
            "--client-cert-auth",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--peer-cert-file={self._serving.certificate}",
            f"--peer-key-file={self._serving.key}",
            f"--peer-trusted-ca-file={self.authority.certificate}",
            "--peer-client-cert-auth",
            # A killed process loses nothing without it, only a machine without power would.
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]


class ApiServer(TlsServer):
    """kube-apiserver with RBAC, ServiceAccounts and aggregation, on a port that a restart keeps."""

    health_path = "/readyz"

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        self._etcd = etcd
        certificates = folder / "certificates"
        self.authority = Authority(certificates / "kubernetes", "kubernetes-ca")
        self.admin = self.authority.client("kubernetes-admin", "system:masters")
        self.accounts = signing_key(certificates, "service-accounts")
        self.front_proxies = Authority(certificates / "front-proxy", "front-proxy-ca")
        self._front_proxy = self.front_proxies.client(FRONT_PROXY)
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        self._serving = self.authority.server("kube-apiserver", ports.HOST, API_SERVICE_ADDRESS, *names)
        self.audit_log = folder / "audit.jsonl"
        """What ServiceAccounts did, a line each."""
        self._audit_policy = folder / "audit-policy.json"
        super().__init__("kube-apiserver", folder, self.authority, self.admin)

    def prepare(self) -> None:
        self._audit_policy.write_text(json.dumps(POLICY))

    def command(self) -> Sequence[str]:
        return [
            str(program("kube-apiserver")),
            f"--etcd-servers={self._etcd.url}",
            f"--etcd-cafile={self._etcd.authority.certificate}",
            f"--etcd-certfile={self._etcd.client.certificate}",
            f"--etcd-keyfile={self._etcd.client.key}",
            f"--bind-address={ports.HOST}",
            f"--advertise-address={ports.HOST}",
            f"--secure-port={self.port}",
            # Pods here have no network, and a loopback address may not stand in the API's own Endpoints.
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._serving.certificate}",
            f"--tls-private-key-file={self._serving.key}",
            f"--client-ca-file={self.authority.certificate}",
            "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.accounts.certificate}",
            f"--service-account-signing-key-file={self.accounts.key}",
            f"--requestheader-client-ca-file={self.front_proxies.certificate}",
            f"--requestheader-allowed-names={FRONT_PROXY}",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self._front_proxy.certificate}",
            f"--proxy-client-key-file={self._front_proxy.key}",
            f"--audit-policy-file={self._audit_policy}",
            f"--audit-log-path={self.audit_log}",
            "--profiling=false",
        ]


class Component(TlsServer):
    """A client of the API server that serves its own health: a controller manager or scheduler."""

    def __init__(self, name: str, folder: Path, api: ApiServer, user: str) -> None:
        self._api = api
        self._identity = api.authority.client(user)
        self._serving = api.authority.server(name, ports.HOST)
        self._kubeconfig = folder / f"{name}.kubeconfig"
        super().__init__(name, folder, api.authority, api.admin)

    def prepare(self) -> None:
        write_kubeconfig(self._kubeconfig, self._api.url, self._api.authority.certificate, self._identity)

    def command(self) -> Sequence[str]:
        return [
            str(program(self.name)),
            f"--kubeconfig={self._kubeconfig}",
            f"--authentication-kubeconfig={self._kubeconfig}",
            f"--authorization-kubeconfig={self._kubeconfig}",
            f"--bind-address={ports.HOST}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self._serving.certificate}",
            f"--tls-private-key-file={self._serving.key}",
            "--leader-elect=false",
            "--profiling=false",
        ]


class ControllerManager(Component):
    """kube-controller-manager with the controllers that a chart meets, and an autoscaler in a hurry."""

    def __init__(self, folder: Path, api: ApiServer) -> None:
        super().__init__("kube-controller-manager", folder, api, "system:kube-controller-manager")

    def command(self) -> Sequence[str]:
        return [
            *super().command(),
            f"--controllers={','.join(CONTROLLERS)}",
            "--use-service-account-credentials",
            f"--service-account-private-key-file={self._api.accounts.key}",
            f"--root-ca-file={self._api.authority.certificate}",
            # The defaults are 15 s and 5 min: a test would spend its time waiting for them.
            "--horizontal-pod-autoscaler-sync-period=1s",
            "--horizontal-pod-autoscaler-downscale-stabilization=1s",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]


class Scheduler(Component):
    """kube-scheduler with its default profile."""

    def __init__(self, folder: Path, api: ApiServer) -> None:
        super().__init__("kube-scheduler", folder, api, "system:kube-scheduler")


class Kubelet(Process):
    """The process that plays the node: see `kubelet.py`."""

    def __init__(self, folder: Path, kubeconfig: Path, node: str) -> None:
        super().__init__("kubelet", folder)
        self._kubeconfig = kubeconfig
        self._node = node
        self._ready = folder / "kubelet.ready"

    @property
    def address(self) -> str:
        return self._node

    def prepare(self) -> None:
        self._ready.unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        module = "tests.cluster.plane.kubelet"
        return [sys.executable, "-m", module, str(self._kubeconfig), self._node, str(self._ready)]

    def probe(self) -> None:
        if not self._ready.exists():
            raise ConnectionError("the node is not registered yet")
