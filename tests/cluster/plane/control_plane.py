"""A whole Kubernetes control plane on loopback with one played node, without Docker and without root."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from local.servers.process import Process
from tests.cluster.plane.api import Api, Json
from tests.cluster.plane.kubeconfigs import write_kubeconfig
from tests.cluster.plane.metrics import GROUP, NAMESPACE, SERVICE, VERSION, ExternalMetrics, register
from tests.cluster.plane.programs import require_all
from tests.cluster.plane.servers import ApiServer, ControllerManager, Etcd, Kubelet, Scheduler
from tests.cluster.plane.tools import Tools
from tests.cluster.plane.volumes import provide_volumes
from tests.cluster.plane.waiting import eventually

NODE = "node-1"
START_TIMEOUT_S = 60.0
TOKEN_S = 3600


class ControlPlane:
    """etcd, API server, controllers, scheduler and a node, between `start` and `stop` or in a `with`.

    Every part is a `local.servers.process.Process`: a test may do `without` one for a while, and
    ports and state stay. All of them die with the thread that started them. With no folder given, one is
    made and, unless an error ended it, removed again; a given one keeps data and logs.
    """

    def __init__(self, folder: Path | None = None) -> None:
        require_all()
        self._kept = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="catraca-cluster-"))
        self.etcd = Etcd(self.folder)
        self.api = ApiServer(self.folder, self.etcd)
        self.controllers = ControllerManager(self.folder, self.api)
        self.scheduler = Scheduler(self.folder, self.api)
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.kubelet = Kubelet(self.folder, self.kubeconfig, NODE)
        self.tools = Tools(self.folder, self.kubeconfig)
        serving = self.api.authority.server(SERVICE, f"{SERVICE}.{NAMESPACE}.svc")
        self.metrics = ExternalMetrics(serving, self.api.front_proxies)

    @property
    def parts(self) -> list[Process]:
        """Its processes, in the order in which they start."""
        return [self.etcd, self.api, self.controllers, self.scheduler, self.kubelet]

    @property
    def logs(self) -> Path:
        """The folder with a log per part."""
        return self.folder / "logs"

    def start(self) -> None:
        """Start every part and wait until pods could run. Raises StartFailed, or NeverCame."""
        self.etcd.launch(START_TIMEOUT_S)
        self.api.launch(START_TIMEOUT_S)
        write_kubeconfig(self.kubeconfig, self.api.url, self.api.authority.certificate, self.api.admin)
        self.controllers.launch(START_TIMEOUT_S)
        self.scheduler.launch(START_TIMEOUT_S)
        self.kubelet.start()
        self.kubelet.wait_ready(START_TIMEOUT_S)
        api = self.client()
        register(api, self.metrics.port, self.api.authority.certificate.read_bytes())
        provide_volumes(api, self.folder)
        _wait_usable(api)

    def stop(self) -> None:
        """Stop every part, clients first. Safe to call again."""
        for part in reversed(self.parts):
            part.stop()
        self.metrics.close()
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def without(self, part: Process) -> Iterator[None]:
        """Kill a part for the time of a `with`; after it the part runs again, on its port, with its data."""
        part.kill9()
        try:
            yield
        finally:
            part.start()
            part.wait_ready(START_TIMEOUT_S)

    def client(self, kubeconfig: Path | None = None) -> Api:
        """Calls to the API server, as its administrator unless a kubeconfig is given."""
        return Api(kubeconfig or self.kubeconfig)

    def account_kubeconfig(self, namespace: str, account: str) -> Path:
        """A kubeconfig that speaks for a ServiceAccount, with a token of an hour that the API server made."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        made = self.client().create(path, {"spec": {"expirationSeconds": TOKEN_S}})
        file = self.folder / "accounts" / f"{namespace}.{account}.kubeconfig"
        write_kubeconfig(
            file, self.api.url, self.api.authority.certificate, made["status"]["token"], namespace
        )
        return file

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException as error:
            self._leave(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        # After an error somebody will want the logs; Ctrl-C is none.
        self._kept = self._kept or isinstance(error, Exception)
        self.stop()


def _wait_usable(api: Api) -> None:
    eventually(lambda: api.get(f"/api/v1/nodes/{NODE}"), lambda node: not node["spec"].get("taints"))
    # Without it no pod is admitted.
    eventually(lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default"))
    path = f"/apis/apiregistration.k8s.io/v1/apiservices/{VERSION}.{GROUP}"
    eventually(lambda: api.get(path), _available)


def _available(service: Json) -> bool:
    conditions = service.get("status", {}).get("conditions", [])
    return any(each["type"] == "Available" and each["status"] == "True" for each in conditions)
