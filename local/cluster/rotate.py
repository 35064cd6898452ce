"""Rotates a key ring of a cluster: `python -m local.cluster.rotate PURPOSE`, a filter for the Secret as JSON.

    kubectl get secret catraca-keys -o json | python -m local.cluster.rotate ticket | kubectl replace -f -

The Secret keeps its resource version, so that of two who rotate at once one is refused.
"""

import argparse
import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from local.key_rings import SIGNING, SYMMETRIC, Refused, rotate
from services.kit.settings import SettingError

AFTER_S = 180.0
"""Files of mounted Secrets follow within two minutes."""


def rotated(secret: dict[str, Any], purpose: str, after_s: float) -> tuple[dict[str, Any], str]:
    """The Secret with a new key in that ring, and the key's id. Raises Refused, SettingError and KeyError."""
    name = f"{purpose}.json"
    with tempfile.TemporaryDirectory() as folder:
        ring = Path(folder) / name
        ring.write_bytes(base64.b64decode(secret["data"][name]))
        made = rotate(purpose, ring, after_s)
        data = {**secret["data"], name: base64.b64encode(ring.read_bytes()).decode()}
    return {**secret, "data": data}, made


def main() -> int:
    """Read, rotate, write. Returns 1, and writes nothing, where it is refused."""
    parser = argparse.ArgumentParser(prog="python -m local.cluster.rotate")
    parser.add_argument("purpose", choices=(*SYMMETRIC, *SIGNING))
    parser.add_argument(
        "--after", type=float, default=AFTER_S, metavar="SECONDS", help=f"when it is used ({AFTER_S:g})"
    )
    arguments = parser.parse_args()
    try:
        secret, made = rotated(json.load(sys.stdin), arguments.purpose, arguments.after)
    except (Refused, SettingError, ValueError, TypeError, KeyError) as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    json.dump(secret, sys.stdout)
    print(f"{made} is used in {arguments.after:g} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
