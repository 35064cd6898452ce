"""Kubeconfig files: who speaks to which API server, and how each knows the other."""

import json
from pathlib import Path
from typing import Any

from local.private import write_private
from tests.cluster.plane.certificates import Pair

NAME = "catraca"


def write_kubeconfig(
    path: Path, server: str, authority: Path, identity: Pair | str, namespace: str = "default"
) -> None:
    """Write a kubeconfig. `identity` is a client certificate, or a bearer token as text."""
    user: dict[str, Any]
    if isinstance(identity, str):
        user = {"token": identity}
    else:
        user = {"client-certificate": str(identity.certificate), "client-key": str(identity.key)}
    cluster = {"server": server, "certificate-authority": str(authority)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": cluster}],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": namespace}}],
        "current-context": NAME,
    }
    # JSON is YAML.
    write_private(path, json.dumps(content, indent=2) + "\n")
