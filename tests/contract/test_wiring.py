"""The embedded stack tells each service what its settings ask for, under the names that they read."""

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from local.parts import SERVICES, GrpcProcess, Part, service_process
from local.wiring import USERS, Keys, Wiring
from services.kit.settings import CommonSettings, file_variable_of, load, variable_of


def settings_of(service: str) -> type[Any]:
    """The one settings dataclass of a service."""
    module = import_module(f"services.{service}.config")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, CommonSettings)
        and value.__module__ == module.__name__
    ]
    assert len(found) == 1
    return found[0]


def variables_of(service: str, folder: Path) -> dict[str, str]:
    """What the stack tells that service."""
    parts = {
        name: Part(name, [service_process(name)(name, folder, module)]) for name, module in SERVICES.items()
    }
    wiring = Wiring(
        data=folder,
        keys=Keys(folder / "keys"),
        urls={
            "redis": dict.fromkeys(USERS["redis"], "redis://user:secret@127.0.0.1:1/0"),
            "nats": dict.fromkeys(USERS["nats"], "nats://user:secret@127.0.0.1:2"),
            "postgres": dict.fromkeys(USERS["postgres"], "postgresql://user:secret@127.0.0.1:3/catraca"),
        },
        issuer_url="http://127.0.0.1:4",
        sandbox_url="http://127.0.0.1:5",
        services=parts,
    )
    process = parts[service].processes[0]
    assert isinstance(process, GrpcProcess)
    return wiring.variables(service, process)


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_stack_tells_is_all_a_service_needs(service: str, tmp_path: Path) -> None:
    variables = variables_of(service, tmp_path)

    settings = load(settings_of(service), variables)

    assert settings.listen == variables["CATRACA_LISTEN"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_key_file_has_a_reader(service: str, tmp_path: Path) -> None:
    fields = dataclasses.fields(settings_of(service))
    read = {variable_of(field.name) for field in fields}
    read |= {file_variable_of(field.name) for field in fields if field.metadata["secret"]}

    only_here = set(variables_of(service, tmp_path)) - set.intersection(
        *(set(variables_of(other, tmp_path)) for other in SERVICES)
    )
    assert only_here - read == set()
