"""Which programs make a control plane, which Go module each comes from, and where they lie once built.

Every group of programs is a Go module of its own under `modules/`, so that choosing versions for one cannot
move another. What was built is kept in the user's cache, in a folder named after what it was built from.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MODULES = Path(__file__).with_name("modules")
CACHE_VARIABLE = "CATRACA_PLANE_CACHE"
# The same everywhere: no C compiler is needed, and no path of the building machine gets into a program.
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false")
ENVIRONMENT = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
KEY_LENGTH = 16


class NotBuilt(Exception):
    """A program is not in the cache; the message says which command puts it there, or why that failed."""


@dataclass(frozen=True)
class Group:
    """Programs of one Go module."""

    name: str
    source: str
    """The module whose version they have."""
    packages: dict[str, str]
    """Main packages by the program's name."""
    version_variables: tuple[str, ...] = ()
    """Go variables set to the version while linking, where the program does not know it by itself."""

    @property
    def module(self) -> Path:
        """The folder with go.mod and go.sum."""
        return MODULES / self.name

    @cached_property
    def version(self) -> str:
        """The version of its source as go.mod has it: `v1.36.3`."""
        text = (self.module / "go.mod").read_text()
        (version,) = re.findall(
            rf"^(?:require)?\s+{re.escape(self.source)} (v[0-9.]+)(?: // indirect)?$", text, re.MULTILINE
        )
        return str(version)

    @property
    def linking(self) -> str:
        """What the linker is told: no symbol tables, and the version."""
        major, minor, _ = self.version.removeprefix("v").split(".")
        values = {"version": self.version, "major": major, "minor": minor}
        return " ".join(["-s", "-w", *(f"-X {each.format_map(values)}" for each in self.version_variables)])

    @property
    def folder(self) -> Path:
        """Where its programs lie, once built."""
        how = "\n".join([*FLAGS, self.linking, *ENVIRONMENT.values(), *self.packages])
        what = [(self.module / name).read_bytes() for name in ("go.mod", "go.sum")]
        key = hashlib.sha256(b"\0".join([how.encode(), *what])).hexdigest()[:KEY_LENGTH]
        return cache_folder() / f"{self.name}-{self.version}-{key}"

    @property
    def built(self) -> bool:
        """Whether its programs are there. They appear all at once."""
        return self.folder.is_dir()


_KUBERNETES_VERSION = "k8s.io/component-base/version"
GROUPS = (
    Group("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Group(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
        },
        (
            f"{_KUBERNETES_VERSION}.gitVersion={{version}}",
            f"{_KUBERNETES_VERSION}.gitMajor={{major}}",
            f"{_KUBERNETES_VERSION}.gitMinor={{minor}}",
            f"{_KUBERNETES_VERSION}.gitTreeState=clean",
        ),
    ),
    Group(
        "helm4",
        "helm.sh/helm/v4",
        {"helm4": "helm.sh/helm/v4/cmd/helm"},
        ("helm.sh/helm/v4/internal/version.version={version}",),
    ),
    Group(
        "helm3",
        "helm.sh/helm/v3",
        {"helm3": "helm.sh/helm/v3/cmd/helm"},
        ("helm.sh/helm/v3/internal/version.version={version}",),
    ),
)


def cache_folder() -> Path:
    """Where programs are kept: CATRACA_PLANE_CACHE, else `catraca/plane` in the user's cache."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catraca" / "plane"


def failure_note() -> Path:
    """Where the latest build left word of why it failed, for the tests to say."""
    return cache_folder() / "failure"


def program(name: str) -> Path:
    """Where a program lies, by its name: `kube-apiserver`, `helm4`. Raises NotBuilt."""
    (group,) = (group for group in GROUPS if name in group.packages)
    if not group.built:
        note = failure_note()
        why = f" The latest try failed: {note.read_text()}" if note.exists() else ""
        raise NotBuilt(f"The control plane for the tests is not built: `make plane` builds it.{why}")
    return group.folder / name


def require_all() -> None:
    """Raises NotBuilt where a program is missing."""
    for group in GROUPS:
        for name in group.packages:
            program(name)
