"""One real control plane for all cluster tests of a run, and a namespace for each of them."""

import secrets
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.stack import Stack
from tests.cluster.plane.api import Api, Json
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.crds import apply_crd
from tests.cluster.plane.programs import NotBuilt
from tests.cluster.plane.waiting import eventually
from tests.resting import resting_after


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The shared control plane. What a test kills of it runs again after the test."""
    plane = _made(tmp_path_factory.mktemp("cluster"))
    with plane:
        request.config.stash[_LOGS] = plane.logs
        yield plane


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Api:
    """Calls to the API server as its administrator."""
    return plane.client()


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """The name of a namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    # Its controller makes it a moment later, and no pod is admitted before.
    eventually(lambda: api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    yield name
    api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubectl(plane: ControlPlane, namespace: str) -> Callable[..., str]:
    """Runs kubectl in the test's namespace: `kubectl("get", "pods")`."""

    def run(*arguments: str, stdin: str | None = None) -> str:
        return plane.tools.kubectl("--namespace", namespace, *arguments, stdin=stdin)

    return run


@pytest.fixture(scope="session")
def ticket_sales(api: Api) -> Json:
    """The CRD as the API server stores it; its resources can be made from now on."""
    return apply_crd(api)


@pytest.fixture(scope="session")
async def stack(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> AsyncIterator[Stack]:
    """Every server and service, real, on this machine: what pods would be."""
    async with Stack(tmp_path_factory.mktemp("stack")) as running:
        with resting_after(Path(__file__).parent, running, pytestconfig):
            yield running


def _made(folder: Path) -> ControlPlane:
    try:
        return ControlPlane(folder)
    except NotBuilt as error:
        why = str(error)
    # Failed, not skipped: a run without a cluster has not shown what these tests are for.
    pytest.fail(why, pytrace=False)


_LOGS = pytest.StashKey[Path]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say with every failure where the control plane's own words are."""
    report: Any = yield
    logs = item.config.stash.get(_LOGS, None)
    if report.failed and logs is not None:
        report.sections.append(("control plane", f"its logs: {logs}"))
    return report
