"""The image, built twice without a registry, and every command of it as a cluster runs it.

It takes minutes and tools that a machine may lack, so it is asked for: `make images`.
"""

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local.parts import SERVICES
from local.servers import ports
from local.stack import Stack
from tests.integration.delivery.commands import ROOT, told_nothing
from tests.integration.delivery.images import TOOLS, USER, Builder, Image, missing

ASKED = os.environ.get("CATRACA_TEST_IMAGES", "") not in ("", "0")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catraca" / "images"
READY_S = 60.0
MIB = 1024 * 1024
# Ours, without the base: twice this would tell that something large came in unseen.
LARGEST_MIB = 300

pytestmark = [
    pytest.mark.skipif(
        not ASKED,
        reason=f"images are built by `make images` (CATRACA_TEST_IMAGES=1), which needs {', '.join(TOOLS)}",
    ),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Everything that a build needs, gathered beforehand."""
    reason = missing()
    assert not reason, reason
    builder = Builder(tmp_path_factory.mktemp("images"))
    builder.make_base(CACHE)
    builder.get_wheels()
    return builder


@pytest.fixture(scope="module")
def digest(builder: Builder) -> str:
    """The digest of the image."""
    return builder.build("once")


@pytest.fixture(scope="module")
def image(builder: Builder, digest: str) -> Image:
    """The image."""
    return builder.image("once")


def test_the_same_sources_make_the_same_image(builder: Builder, digest: str) -> None:
    assert builder.build("again") == digest


def test_it_says_what_it_is(image: Image) -> None:
    assert image.config["User"] == USER
    assert image.config["Labels"]["org.opencontainers.image.revision"] == "tested"
    assert "org.opencontainers.image.licenses" in image.config["Labels"]
    # Kubernetes' probes ask; a check of the image's own would be a second opinion.
    assert "HEALTHCHECK" not in (ROOT / "Dockerfile").read_text()


def test_nothing_to_build_with_is_inside(image: Image) -> None:
    names = {"pip", "pip3", "gcc", "cc", "make", "hatchling", "pytest", "redis-server", "postgres", "envoy"}
    found = [path for path in image.root.rglob("*") if path.name in names and os.access(path, os.X_OK)]
    assert [path for path in found if path.is_file() or path.name == "pip"] == []


def test_it_is_small(image: Image) -> None:
    ours = sum(
        file.lstat().st_size
        for folder in ("opt/catraca", "opt/own")
        for file in (image.root / folder).rglob("*")
        if not file.is_symlink()
    )
    print(f"the image has {image.size() / MIB:.0f} MiB, {ours / MIB:.0f} of them ours")
    assert ours < LARGEST_MIB * MIB


def test_every_command_starts_as_nobody_in_a_root_that_is_read_only(image: Image, tmp_path: Path) -> None:
    assert told_nothing(image.command(), image.environment, tmp_path) == {}


def test_no_file_is_written_to_the_root(image: Image, tmp_path: Path) -> None:
    tried = "import pathlib, os; print(os.getuid()); pathlib.Path('/opt/catraca/x').touch()"
    ended = subprocess.run(
        image.command("python", "-c", tried),
        env=image.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout == USER.split(":")[0] + "\n"
    assert "Read-only file system" in ended.stderr


def test_the_command_line_works_in_it(image: Image) -> None:
    ended = subprocess.run(
        image.command(*image.config["Cmd"]),
        env=image.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0 and "audit" in ended.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the image's user finds keys and URLs."""
    return tmp_path_factory.mktemp("mounted")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("beside")) as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_of_the_image_serves_beside_those_of_the_stack(
    image: Image, stack: Stack, keys: Path, service: str
) -> None:
    variables = lent(stack, service, keys)
    target = variables["CATRACA_LISTEN"]
    process = subprocess.Popen(
        image.command("python", "-m", f"services.{service}", mounted=keys),
        env=image.environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
            request = health_pb2.HealthCheckRequest()
            health = health_pb2_grpc.HealthStub(channel)
            answer = health.Check(request, timeout=READY_S, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=READY_S)
    finally:
        process.kill()
    assert process.returncode == 0, printed


def lent(stack: Stack, service: str, keys: Path) -> dict[str, str]:
    """What the stack tells its own process of the service, with other ports and copies of its files."""
    told = dict(stack.parts[service].processes[0].variables)
    for name, value in told.items():
        if value.startswith(str(stack.data)):
            copy = keys / Path(value).relative_to(stack.data)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(Path(value).read_bytes())
            copy.chmod(0o444)
            told[name] = f"/mnt/{copy.relative_to(keys)}"
        elif name.endswith("LISTEN"):
            told[name] = f"{ports.HOST}:{ports.reserve()}"
    keys.chmod(0o755)
    return told
