"""kubectl and helm as programs against one control plane, with homes of their own."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.plane.programs import program

TIMEOUT_S = 90.0
# Where a person's own settings for kubectl and helm come from: none of them may reach these.
_PERSONAL = ("KUBE", "HELM_", "XDG_")


class CommandFailed(Exception):
    """kubectl or helm ended with an error; the message is what it wrote."""


class Tools:
    """Runs kubectl and helm with a kubeconfig, and a home below `folder`."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._home = folder / "home"
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl wrote. Raises CommandFailed."""
        return self._run("kubectl", arguments, stdin)

    def helm(self, *arguments: str, major: int = 4) -> str:
        """What Helm 3 or 4 wrote. Raises CommandFailed."""
        return self._run(f"helm{major}", arguments, None)

    def environment(self) -> Mapping[str, str]:
        """The environment that the programs are run in."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_PERSONAL)}
        return {**kept, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self._home)}

    def _run(self, name: str, arguments: tuple[str, ...], stdin: str | None) -> str:
        self._home.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [str(program(name)), *arguments],
            input=stdin if stdin is not None else "",
            env=dict(self.environment()),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise CommandFailed(f"{name} {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout
