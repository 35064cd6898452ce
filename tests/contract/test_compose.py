"""compose.yaml tells every container what its settings ask for, and names only what others are and make."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from catraca_operator.config import Settings as OperatorSettings

from local import compose
from local.compose import Settings as DeskSettings
from local.issuer.__main__ import Settings as IssuerSettings
from local.parts import SERVICES
from local.sandbox.config import SandboxSettings
from services.kit.settings import REQUIRED, file_variable_of, load, variable_of
from tests.contract.test_wiring import settings_of

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
SETTINGS: dict[str, type[Any]] = {
    "desk": DeskSettings,
    "issuer": IssuerSettings,
    "sandbox": SandboxSettings,
    **{service: settings_of(service) for service in SERVICES},
}
# Where the image's containers have the volume with keys and secrets.
KEPT = "/var/lib/catraca/.catraca"
KNOWN = {
    *("build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "ports"),
    *("read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes"),
}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
DEFAULT = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")

ours = pytest.mark.parametrize("name", SETTINGS)
containers = pytest.mark.parametrize("name", CONTAINERS)


def told(name: str) -> dict[str, str]:
    """A container's environment, with the defaults that the file gives."""
    return {key: DEFAULT.sub(r"\1", value) for key, value in CONTAINERS[name]["environment"].items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the desk makes: the folders `.catraca` and `stores` below this one."""
    folder = tmp_path_factory.mktemp("compose")
    settings = load(DeskSettings, told("desk"))
    compose.make(folder / ".catraca", folder / "stores", settings)
    return folder


def test_everything_of_ours_has_a_container() -> None:
    assert {*SERVICES, "issuer", "sandbox", "desk", "edge", "redis", "nats", "postgres"} == set(CONTAINERS)
    # The one part that needs a Kubernetes.
    assert OperatorSettings not in SETTINGS.values()


@containers
def test_a_container_is_described_in_words_that_exist(name: str) -> None:
    container = CONTAINERS[name]

    assert set(container) <= KNOWN
    assert all(isinstance(value, str) for value in container.get("environment", {}).values())
    for other, how in container.get("depends_on", {}).items():
        assert other in CONTAINERS and how["condition"] in CONDITIONS
        assert how["condition"] != "service_healthy" or "healthcheck" in CONTAINERS[other]
    for volume in container.get("volumes", []):
        source, target, *mode = volume.split(":")
        assert source in COMPOSE["volumes"] and target.startswith("/") and mode in ([], ["ro"])
    for port in container.get("ports", []):
        # Nothing here is for the world: neither the issuer nor the sandbox asks who one is.
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


def test_every_volume_is_used() -> None:
    used = {volume.split(":")[0] for each in CONTAINERS.values() for volume in each.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])


def test_no_container_waits_for_itself() -> None:
    def behind(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, seen
        for other in CONTAINERS[name].get("depends_on", {}):
            behind(other, (*seen, name))

    for name in CONTAINERS:
        behind(name)


@ours
def test_a_container_is_told_only_what_it_reads(name: str) -> None:
    read = {variable_of(field.name) for field in dataclasses.fields(SETTINGS[name])}
    read |= {
        file_variable_of(field.name)
        for field in dataclasses.fields(SETTINGS[name])
        if field.metadata["secret"]
    }

    assert set(told(name)) - read == set()


@ours
def test_a_container_is_told_all_that_it_needs(name: str, made: Path) -> None:
    variables = {key: value.replace(KEPT, str(made / ".catraca")) for key, value in told(name).items()}

    settings = load(SETTINGS[name], variables)

    for field in dataclasses.fields(SETTINGS[name]):
        if field.default is REQUIRED and field.default_factory is REQUIRED:
            assert getattr(settings, field.name)


@ours
def test_the_files_that_a_container_is_told_of_are_made(name: str, made: Path) -> None:
    files = [Path(value) for key, value in told(name).items() if key.endswith("_FILE")]

    assert name == "desk" or files
    for file in files:
        assert (made / ".catraca" / file.relative_to(KEPT)).is_file(), file


@pytest.mark.parametrize("name", ["edge", "redis", "nats", "postgres"])
def test_a_server_reads_configuration_that_is_made(name: str, made: Path) -> None:
    words = [*CONTAINERS[name]["command"], *CONTAINERS[name].get("environment", {}).values()]

    files = [word for word in words if word.startswith("/stores/")]

    assert len(files) == 1
    file = made / "stores" / files[0].removeprefix("/stores/")
    assert file.is_file() and file.stat().st_mode & 0o004


@ours
def test_a_container_runs_a_command_of_the_image(name: str) -> None:
    program, flag, module = CONTAINERS[name]["command"]
    assert (program, flag) == ("python", "-m")
    package = import_module(module)
    source = Path(str(package.__file__))
    source = source.with_name("__main__.py") if source.name == "__init__.py" else source
    assert '__name__ == "__main__"' in source.read_text()


@ours
def test_an_address_is_of_a_container_that_listens_there(name: str) -> None:
    listening = {
        f"{other}:{value.rsplit(':')[-1]}"
        for other in SETTINGS
        for key, value in told(other).items()
        if key.endswith("LISTEN")
    }
    inside = [
        match
        for value in told(name).values()
        for match in re.findall(r"(?:^|//)([a-z]+:\d+)", value)
        if not match.startswith("localhost")
    ]
    assert set(inside) <= listening


def test_the_desk_knows_where_the_containers_are() -> None:
    listening = {name: told(name) for name in SETTINGS}
    for service in SERVICES:
        assert listening[service]["CATRACA_LISTEN"] == f"0.0.0.0:{compose.GRPC_PORT}"
        assert listening[service]["CATRACA_METRICS_LISTEN"] == f"0.0.0.0:{compose.METRICS_PORT}"
    assert listening["queue"]["CATRACA_STANDING_LISTEN"] == f"0.0.0.0:{compose.STANDING_PORT}"
    assert listening["issuer"]["CATRACA_ISSUER_LISTEN"] == "0.0.0.0:" + compose.ISSUER.split(":")[1]
    assert listening["sandbox"]["CATRACA_SANDBOX_LISTEN"] == "0.0.0.0:" + compose.SANDBOX.split(":")[1]
    assert {address.split(":")[0] for address in compose.STORES.values()} <= set(CONTAINERS)
    published = {
        port.split(":")[1]: port.split(":")[2]
        for each in CONTAINERS.values()
        for port in each.get("ports", [])
    }
    assert published["8080"] == str(compose.EDGE_PORT)


def test_what_is_secret_is_for_its_owner_alone(made: Path) -> None:
    private = [file for file in (made / ".catraca").rglob("*") if file.is_file()]
    assert private and [file for file in private if file.stat().st_mode & 0o077] == []


def test_whatever_may_be_replaced_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    assert len(DEFAULT.findall(text)) == text.count("${") > 0
