"""Secrets of one Kubernetes namespace, as the chart's jobs read and write them."""

import base64
from collections.abc import Mapping
from http import HTTPStatus

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

TIMEOUT_S = (5.0, 30.0)
MERGE = "application/merge-patch+json"


def connect() -> None:
    """Reach Kubernetes as the pod's ServiceAccount, or by KUBECONFIG outside of one."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config()  # type: ignore[no-untyped-call]


class SecretStore:
    """Secrets by name, as texts by key. Raises ApiException, also for a right that is missing."""

    def __init__(self, namespace: str) -> None:
        connect()
        self._namespace = namespace
        self._api = client.CoreV1Api()

    def read(self, name: str) -> dict[str, str] | None:
        """What a Secret holds; None where there is none."""
        try:
            found = self._api.read_namespaced_secret(name, self._namespace, _request_timeout=TIMEOUT_S)
        except ApiException as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return {key: base64.b64decode(value).decode() for key, value in (found.data or {}).items()}

    def create(self, name: str, texts: Mapping[str, str], labels: Mapping[str, str]) -> bool:
        """Make a Secret; False, and nothing is written, where somebody else has made it meanwhile."""
        metadata = client.V1ObjectMeta(name=name, labels=dict(labels))
        body = client.V1Secret(metadata=metadata, string_data=dict(texts))
        try:
            self._api.create_namespaced_secret(self._namespace, body, _request_timeout=TIMEOUT_S)
        except ApiException as refused:
            if refused.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    def change(self, name: str, texts: Mapping[str, str]) -> None:
        """Set these keys of a Secret that exists; the others stay as they are."""
        self._api.patch_namespaced_secret(
            name,
            self._namespace,
            {"stringData": dict(texts)},
            _content_type=MERGE,
            _request_timeout=TIMEOUT_S,
        )
