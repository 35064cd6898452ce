"""What a ServiceAccount was allowed to do and did, by the API server's own audit log."""

import json
from pathlib import Path

# Enough to tell who did what; nobody else is written down.
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}

Right = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


def rights_used(log: Path, namespace: str, account: str) -> set[Right]:
    """The rights that the account has made use of so far."""
    user = f"system:serviceaccount:{namespace}:{account}"
    used = set()
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that is being written
        asked = entry.get("objectRef")
        allowed = entry.get("annotations", {}).get("authorization.k8s.io/decision") == "allow"
        if entry["user"]["username"] == user and asked is not None and allowed:
            subresource = f"/{asked['subresource']}" if "subresource" in asked else ""
            used.add((asked.get("apiGroup", ""), f"{asked['resource']}{subresource}", entry["verb"]))
    return used
