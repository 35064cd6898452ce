"""Lets go of TicketSales that an uninstall leaves: `python -m local.cluster.farewell`, a hook of the chart.

The operator keeps a sale from being deleted until it has been drained. When the operator is gone nobody
drains, and a sale, or its whole namespace, could never be deleted. So the hold that it had on them ends with
it; the sales stay, and the operator of a later install takes hold of them again.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from local.cluster.secret_store import MERGE, TIMEOUT_S, connect
from services.kit import logs
from services.kit.manifest import API_VERSION
from services.kit.settings import REQUIRED, load_or_exit, setting

NAME = "farewell"
FINALIZER = "catraca.dev/drain"
PLURAL = "ticketsales"

_log = logs.get_logger(NAME)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Whose sales they are."""

    namespace: str = setting(REQUIRED, "Kubernetes namespace of the TicketSales.")


def let_go(namespace: str) -> None:
    """Take the operator's finalizer off every sale. Raises ApiException, also for a right that is missing."""
    api = client.CustomObjectsApi()
    group, _, version = API_VERSION.partition("/")
    where = (group, version, namespace, PLURAL)
    try:
        found: Any = api.list_namespaced_custom_object(*where, _request_timeout=TIMEOUT_S)
    except ApiException as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            # Somebody took the definition away, and every sale with it.
            return
        raise
    for sale in found["items"]:
        metadata = sale["metadata"]
        others = [each for each in metadata.get("finalizers", []) if each != FINALIZER]
        if others == metadata.get("finalizers", []):
            continue
        # Of this very version: what somebody else adds meanwhile must not go with it.
        body = {"metadata": {"finalizers": others, "resourceVersion": metadata["resourceVersion"]}}
        api.patch_namespaced_custom_object(
            *where, metadata["name"], body, _content_type=MERGE, _request_timeout=TIMEOUT_S
        )
        _log.info("sale_let_go", sale=metadata["name"])


def main() -> None:
    """Let go and end; anything that fails ends it with an error, and Kubernetes runs it again."""
    settings = load_or_exit(Settings)
    logs.configure(NAME)
    connect()
    let_go(settings.namespace)


if __name__ == "__main__":
    main()
