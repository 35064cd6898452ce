"""A control plane with the TicketSale CRD in the foreground, to try things by hand: `make cluster`."""

import contextlib
import os
import signal
import sys
import time
from typing import Any

from local.servers.process import StartFailed
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.crds import apply_crd
from tests.cluster.plane.programs import GROUPS, NotBuilt
from tests.cluster.plane.waiting import NeverCame

LOOK_S = 0.5
HINTS = """
In another shell:

  export KUBECONFIG={kubeconfig}
  export PATH={path}:$PATH

  kubectl explain ticketsales.spec.window
  kubectl apply --server-side -f examples/cinema.yaml
  kubectl get ticketsales
  kubectl create deployment web --image=any --replicas=3 && kubectl get pods
  helm4 create /tmp/shop && helm4 install shop /tmp/shop      (helm3 is there, too)

Pods are said to run; no container does. Logs: {logs}
Ctrl-C stops everything.
"""


def main() -> int:
    """Run until Ctrl-C, SIGTERM or SIGHUP. Returns 1 where it could not start or a part ended."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with ControlPlane() as plane:
            apply_crd(plane.client())
            _tell(plane)
            return _watch(plane)
    except KeyboardInterrupt:
        return 0
    except (NotBuilt, StartFailed, NeverCame) as error:
        print(error, file=sys.stderr)
        return 1


def _tell(plane: ControlPlane) -> None:
    path = os.pathsep.join(str(group.folder) for group in GROUPS)
    print(HINTS.format(kubeconfig=plane.kubeconfig, path=path, logs=plane.logs), flush=True)


def _watch(plane: ControlPlane) -> int:
    with contextlib.suppress(KeyboardInterrupt):
        while all(part.running for part in plane.parts):
            time.sleep(LOOK_S)
        ended = next(part for part in plane.parts if not part.running)
        print(f"{ended.name} ended:\n{ended.log_tail()}", file=sys.stderr)
        return 1
    print("Everything is stopped.", flush=True)
    return 0


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
