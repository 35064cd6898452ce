"""Builds images with buildah and without a registry, and runs what is in them as a cluster would."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration.delivery.commands import ROOT

TOOLS = ("buildah", "mmdebstrap", "unshare", "chroot")
BASE = "localhost/catraca-base"
PACKAGES = "python3,python3-venv,ca-certificates,libstdc++6"
SUITE, BASE_PYTHON = "bookworm", "3.11"
# Any moment, the same for every build.
EPOCH = "1767225600"
USER = "10001:10001"
# Becomes the command in a root that nobody can write to, with a /tmp, and the machine's folder $2 as /mnt.
READ_ONLY = """\
set -e
mount --bind "$1" "$1"
mount -t tmpfs tmpfs "$1/tmp"
[ -z "$2" ] || mount --bind "$2" "$1/mnt"
mount -o remount,bind,ro "$1"
root=$1; shift 2
exec chroot --userspec="$0" "$root" "$@"
"""
MARKER = re.compile(r" ; [^\\]+")


def missing() -> str:
    """Why no image can be built here; empty where one can."""
    tools = [tool for tool in TOOLS if shutil.which(tool) is None]
    if tools:
        return f"images need {', '.join(tools)}, which are not installed"
    if os.geteuid() != 0:
        return "images need root, for the file systems that they are made of"
    return ""


class Builder:
    """A storage of images of its own, below a folder, and the wheels that they are made from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self.wheels = folder / "wheels"
        self._pip_conf = folder / "pip.conf"

    def buildah(self, *arguments: str | Path) -> str:
        """Runs buildah; what it printed."""
        return _run(["buildah", "--storage-driver", "vfs", *self._storage, *map(str, arguments)])

    def make_base(self, cache: Path) -> None:
        """A base image of Debian's packages, which `cache` keeps as a tar for the next time."""
        made_of = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
        kept = cache / f"base-{made_of}.tar"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_name(f"{kept.name}.{os.getpid()}.tar")
            _run(["mmdebstrap", "--variant=essential", f"--include={PACKAGES}", SUITE, str(draft)])
            draft.rename(kept)
        container = self.buildah("from", "scratch").strip()
        self.buildah("add", "--quiet", container, kept, "/")
        self.buildah("commit", "--quiet", "--rm", "--timestamp", EPOCH, container, BASE)

    def get_wheels(self) -> None:
        """Everything locked that the base's Python may want, so that a build needs no network."""
        self.wheels.mkdir()
        self._pip_conf.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
        for name in ("runtime", "build"):
            # Which of them apply the build's own Python says, not this one.
            locked = self.folder / f"{name}.txt"
            locked.write_text(MARKER.sub(" ", (ROOT / f"requirements/{name}.txt").read_text()))
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            where = ["--python-version", BASE_PYTHON, "--only-binary", ":all:", "--dest", str(self.wheels)]
            _run([*pip, *where, "--requirement", str(locked)])

    def build(self, tag: str) -> str:
        """Builds the Dockerfile as if nothing was ever built. Answers the image's digest."""
        digest = self.folder / f"{tag}.digest"
        arguments = {"BASE": BASE, "SOURCE_DATE_EPOCH": EPOCH, "REVISION": "tested"}
        self.buildah(
            *("bud", "--quiet", "--isolation", "chroot", "--no-cache", "--pull-never"),
            *("--timestamp", EPOCH, "--identity-label=false"),
            *(part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")),
            *("--secret", f"id=pip.conf,src={self._pip_conf}", "--volume", f"{self.wheels}:/wheels:ro"),
            *("--iidfile", digest, "--tag", f"localhost/catraca:{tag}", ROOT),
        )
        return digest.read_text()

    def image(self, tag: str) -> "Image":
        """The image unpacked, to look at and to run."""
        container = self.buildah("from", "--pull-never", f"localhost/catraca:{tag}").strip()
        root = Path(self.buildah("mount", container).strip())
        inspected = json.loads(self.buildah("inspect", "--type", "container", container))
        return Image(root, inspected["OCIv1"]["config"])


class Image:
    """An image's file system and what it says of itself."""

    def __init__(self, root: Path, config: Mapping[str, Any]) -> None:
        self.root = root
        self.config = config

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every process in it has."""
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    def command(self, *command: str, mounted: Path | None = None) -> list[str]:
        """Runs that in it: as nobody of the machine, in a root that is read-only but for /tmp."""
        script = ["unshare", "--mount", "sh", "-c", READ_ONLY, USER, str(self.root), str(mounted or "")]
        return [*script, *command]

    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.lstat().st_size for file in self.root.rglob("*") if not file.is_symlink())


def _run(command: Sequence[str]) -> str:
    ended = subprocess.run(
        list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise AssertionError(f"{' '.join(command[:8])} …: {ended.stdout}{ended.stderr}")
    return ended.stdout
