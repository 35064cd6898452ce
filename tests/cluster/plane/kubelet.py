"""Plays one node: registers it, keeps it alive, says of every pod bound to it that it runs.

Run as `python -m tests.cluster.plane.kubelet KUBECONFIG NODE READY_FILE`. It runs no containers. It is
level-triggered: everything is listed anew every few seconds, so neither a lost event nor a killed API server
leaves a pod behind. Pods that may restart run and are ready until they are deleted; others, of Jobs and of a
chart's tests, succeed at once. A pod with the annotation `plane.catraca.dev/ready: "false"` runs without
being ready until the annotation is taken off.
"""

import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from tests.cluster.plane.api import Api, Json, Refused

READY_ANNOTATION = "plane.catraca.dev/ready"
ADDRESS = "127.0.0.1"
CAPACITY = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "1Ti"}
NODES = "/api/v1/nodes"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_S = 40
# How long a watch lasts before everything is listed again and the node shows that it is alive.
ROUND_S = 5
RETRY_S = 0.2


class Kubelet:
    """One node of one API server."""

    def __init__(self, api: Api, node: str) -> None:
        self.node = node
        self._api = api

    def heartbeat(self) -> None:
        """Register the node if it is not, and renew its status and lease."""
        metadata = {"name": self.node, "labels": labels(self.node)}
        self._create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": metadata})
        self._api.merge(f"{NODES}/{self.node}/status", {"status": node_status(now())})
        spec = {"holderIdentity": self.node, "leaseDurationSeconds": LEASE_S, "renewTime": now(micro=True)}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.node}}
        self._create(LEASES, {**lease, "spec": spec})
        self._api.merge(f"{LEASES}/{self.node}", {"spec": spec})

    def tend_for_a_while(self) -> None:
        """Tend to all pods of the node, then to those that change until it must show itself again."""
        mine = {"fieldSelector": f"spec.nodeName={self.node}"}
        pods = self._api.get("/api/v1/pods", **mine)
        for pod in pods["items"]:
            self.tend(pod)
        since = pods["metadata"]["resourceVersion"]
        for event in self._api.watch("/api/v1/pods", ROUND_S, resourceVersion=since, **mine):
            if event["type"] in ("ADDED", "MODIFIED"):
                self.tend(event["object"])

    def tend(self, pod: Json) -> None:
        """Bring a pod one step on: gone when it is to be deleted, else as `pod_status` says."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        this_one = {"uid": metadata["uid"]}
        try:
            if "deletionTimestamp" in metadata:
                self._api.delete(path, {"gracePeriodSeconds": 0, "preconditions": this_one})
            elif (status := pod_status(pod, now())) is not None:
                self._api.merge(f"{path}/status", {"metadata": this_one, "status": status})
        except Refused as refused:
            # It went, or became another, between what was seen and what was said.
            if refused.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    def _create(self, path: str, body: Json) -> None:
        try:
            self._api.create(path, body)
        except Refused as refused:
            # It is there already.
            if refused.code != HTTPStatus.CONFLICT:
                raise


def labels(node: str) -> Json:
    """The labels that a kubelet gives its node."""
    return {
        "kubernetes.io/hostname": node,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": "local",
    }


def node_status(moment: str) -> Json:
    """The status of a node in good health."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "plays a node"}
    return {
        "capacity": CAPACITY,
        "allocatable": CAPACITY,
        "addresses": [{"type": "InternalIP", "address": ADDRESS}],
        "conditions": [{**ready, "lastHeartbeatTime": moment}],
    }


def pod_status(pod: Json, moment: str) -> Json | None:
    """What a pod's status is to become; None where it is so already, or has ended."""
    present = pod["status"]
    if present.get("phase") in ("Succeeded", "Failed"):
        return None
    ends = pod["spec"]["restartPolicy"] != "Always"
    ready = not ends and pod["metadata"].get("annotations", {}).get(READY_ANNOTATION) != "false"
    phase = "Succeeded" if ends else "Running"
    if present.get("phase") == phase and _is_ready(present) == ready:
        return None
    started = present.get("startTime", moment)
    state: Json = {"running": {"startedAt": started}}
    if ends:
        times = {"startedAt": started, "finishedAt": moment}
        state = {"terminated": {"exitCode": 0, "reason": "Completed", **times}}
    conditions = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return {
        "phase": phase,
        "hostIP": ADDRESS,
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "startTime": started,
        "conditions": [
            {"type": kind, "status": str(holds), "lastTransitionTime": moment}
            for kind, holds in conditions.items()
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": container["image"],
                "ready": ready,
                "started": not ends,
                "restartCount": 0,
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ],
    }


def now(*, micro: bool = False) -> str:
    """The time as the API server reads it; leases have it in microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S" + (".%fZ" if micro else "Z"))


def _is_ready(status: Json) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))


def main(kubeconfig: str, node: str, ready_file: str) -> None:
    """Play the node until the process is ended."""
    kubelet = Kubelet(Api(Path(kubeconfig)), node)
    while True:
        try:
            kubelet.heartbeat()
            Path(ready_file).touch()
            kubelet.tend_for_a_while()
        except (Refused, HTTPException, OSError) as error:
            print(f"{now()} {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
