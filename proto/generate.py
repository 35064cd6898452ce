"""Generates `proto/gen` from the contract, or tells with --check whether it has drifted from it.

With --typescript it generates what browsers call with instead, which is not committed.
"""

import argparse
import os
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
GENERATED = ROOT / "gen" / "catraca"
PACKAGE_DOCSTRING = '"""Generated from proto/ by `make gen`: change the .proto file, never this folder."""\n'


def include_paths() -> list[Path]:
    """Where imports are looked up: our contract, protobuf's own types, and google.rpc."""
    grpc_tools, google = find_spec("grpc_tools"), find_spec("google.rpc")
    assert grpc_tools and grpc_tools.submodule_search_locations
    assert google and google.submodule_search_locations
    return [
        ROOT,
        Path(grpc_tools.submodule_search_locations[0]) / "_proto",
        Path(google.submodule_search_locations[0]).parents[1],
    ]


def generate(target: Path) -> None:
    """Write the whole generated package tree below `target`."""
    # The plugins lie beside this interpreter, whether or not its environment is activated.
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}"
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path) for path in (ROOT / "catraca").rglob("*.proto"))
    plugins = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet:")
    outputs = [f"--{plugin}{target}" for plugin in plugins]
    includes = [f"--proto_path={path}" for path in include_paths()]
    if protoc.main(["protoc", *includes, *outputs, *sources]) != 0:
        sys.exit("protoc refused the contract, see above")
    package = target / "catraca"
    for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_DOCSTRING)


def generate_typescript(target: Path, plugin: Path) -> None:
    """Write ECMAScript modules with their types below `target`, made by npm's `protoc-gen-es`."""
    target.mkdir(parents=True, exist_ok=True)
    details = include_paths()[-1] / "google" / "rpc" / "error_details.proto"
    sources = [*sorted((ROOT / "catraca").rglob("*.proto")), details]
    arguments = [
        "protoc",
        *(f"--proto_path={path}" for path in include_paths()),
        f"--plugin=protoc-gen-es={plugin}",
        f"--es_out={target}",
        "--es_opt=target=js+dts,import_extension=js",
        *(str(source) for source in sources),
    ]
    if protoc.main(arguments) != 0:
        sys.exit("protoc refused the contract, see above")


def contents(package: Path) -> dict[str, bytes]:
    """Every generated file by its path, without what Python itself leaves behind."""
    return {
        str(path.relative_to(package)): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def drift(fresh: Path) -> list[str]:
    """Paths that differ between the committed package and a fresh one."""
    committed, wanted = contents(GENERATED), contents(fresh)
    return sorted(name for name in committed | wanted if committed.get(name) != wanted.get(name))


def replace(fresh: Path) -> None:
    """Make the committed package equal to the fresh one, touching only what differs."""
    wanted = contents(fresh)
    for name in drift(fresh):
        path = GENERATED / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[name])
        else:
            path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if proto/gen has drifted")
    parser.add_argument("--typescript", type=Path, metavar="FOLDER", help="write the browsers' client there")
    parser.add_argument("--plugin", type=Path, help="the protoc-gen-es to use for it")
    arguments = parser.parse_args()
    if arguments.typescript:
        generate_typescript(arguments.typescript, arguments.plugin)
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "catraca"
        generate(Path(folder))
        if arguments.check:
            if different := drift(fresh):
                sys.exit(f"proto/gen has drifted from proto/, run `make gen`: {', '.join(different)}")
            return
        replace(fresh)


if __name__ == "__main__":
    main()
