"""What an installation can be asked to run, found in the sources, and what each says that is told nothing."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Folder of sources, by what it adds to the path.
SOURCES = {"services": ROOT, "local": ROOT, "catraca_operator": ROOT / "operator"}
# Started by others of ours, with what no person would type.
INNER = frozenset({"local.rush", "local.servers.guard", "local.cli"})
UNSET = re.compile(r"CATRACA_[A-Z_]+ is not set; expected .+")
MISSING = re.compile(r"error: the following arguments are required: .+$")
PATIENCE_S = 60.0


def modules() -> list[str]:
    """Every module that is a command: `python -m <module>`."""
    found = []
    for package, base in SOURCES.items():
        for file in sorted((base / package).rglob("*.py")):
            if '\nif __name__ == "__main__":' in file.read_text():
                parts = file.relative_to(base).with_suffix("").parts
                found.append(".".join(parts).removesuffix(".__main__"))
    return [name for name in found if name not in INNER]


def told_nothing(prefix: Sequence[str], environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Starts every command without a setting, all at once. Answers by module what was wrong with its end.

    The right end is status 2, and one sentence that names the setting or, for a program, the argument.
    """
    started = {
        module: subprocess.Popen(
            [*prefix, "python", "-m", module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment),
            cwd=folder,
        )
        for module in modules()
    }
    wrong = {}
    for module, process in started.items():
        try:
            printed, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        named = UNSET.fullmatch(printed.strip()) or MISSING.search(printed.strip())
        if process.returncode != 2 or not named:
            wrong[module] = f"status {process.returncode}: {printed}"
    return wrong
