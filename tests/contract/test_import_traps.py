"""Two folders of this repository have names of the standard library; neither may ever stand in its way."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import operator, pathlib, queue, sys, sysconfig
standard = pathlib.Path(sysconfig.get_path("stdlib")).resolve()
for module in (operator, queue):
    assert pathlib.Path(module.__file__).resolve().parent == standard, module.__file__
services = pathlib.Path("services").resolve()
assert services.is_dir()
assert services not in [pathlib.Path(entry or ".").resolve() for entry in sys.path]
import services.queue, services.kit, catraca.queue.v1.queue_pb2, catraca_operator
assert sys.modules["queue"] is queue
"""


def test_the_standard_library_stays_what_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_folder_is_a_package_with_a_name_of_the_standard_library() -> None:
    packages = {
        path.parent
        for top in ("operator", "tests", "local", "proto/gen")
        for path in (ROOT / top).rglob("__init__.py")
    }
    # Within a package such a name has its parent before it; elsewhere it would be on its own.
    shadowing = {
        folder.relative_to(ROOT)
        for folder in packages
        if folder.name in sys.stdlib_module_names and not (folder.parent / "__init__.py").exists()
    }
    assert shadowing == set()
    assert not (ROOT / "operator/__init__.py").exists()
