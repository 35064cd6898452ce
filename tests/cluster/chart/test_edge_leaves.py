"""An Envoy with the chart's configuration asks its clients to go when its pod is told to stop."""

import subprocess
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml

from local.servers import binaries, ports
from local.servers.process import Process
from tests.cluster.chart.charts import example, of_kind

LISTENER, ADMIN = 8080, 9901


class Edge(Process):
    """The edge's container, listening where this test may."""

    def __init__(self, folder: Path) -> None:
        super().__init__("edge", folder)
        self.ports = {LISTENER: ports.reserve(), ADMIN: ports.reserve()}
        self._config = folder / "envoy.yaml"

    @property
    def address(self) -> str:
        return f"{ports.HOST}:{self.ports[LISTENER]}"

    def command(self) -> Sequence[str]:
        (deployment,) = of_kind(example("trial"), "Deployment", "edge")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        config = {"/etc/envoy/envoy.yaml": str(self._config)}
        return [str(binaries.envoy()), *(config.get(each, each) for each in container["args"])]

    def probe(self) -> None:
        status, _ = ask(HTTPConnection(self.address, timeout=5))
        if status != 200:
            raise ConnectionError(f"/healthz answered {status}")


def ask(connection: HTTPConnection) -> tuple[int, str | None]:
    """Status, and whether the connection is to be closed."""
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    process = Edge(tmp_path)
    (made,) = of_kind(example("trial"), "ConfigMap", "edge")
    config = yaml.safe_load(made["data"]["envoy.yaml"])
    places = [config["admin"]["address"]["socket_address"]]
    places += [each["address"]["socket_address"] for each in config["static_resources"]["listeners"]]
    for place in places:
        place.update(address=ports.HOST, port_value=process.ports[place["port_value"]])
    for cluster in config["static_resources"]["clusters"]:
        # There is no DNS that knows them, and nobody is asked here.
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        cluster["type"] = "STATIC"
        endpoint["endpoint"]["address"]["socket_address"] = {"address": ports.HOST, "port_value": 1}
    (tmp_path / "envoy.yaml").write_text(yaml.safe_dump(config))
    process.start()
    process.wait_ready(60)
    yield process
    process.stop()


def test_clients_are_asked_to_go_before_it_ends(edge: Edge) -> None:
    (deployment,) = of_kind(example("trial"), "Deployment", "edge")
    pod = deployment["spec"]["template"]["spec"]
    command = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = int(command[-1].rpartition("sleep ")[2])
    assert pod["terminationGracePeriodSeconds"] > drain_s
    connection = HTTPConnection(edge.address, timeout=5)
    assert ask(connection) == (200, None)

    here = [
        each.replace(str(ADMIN), str(edge.ports[ADMIN])).replace(f"sleep {drain_s}", "sleep 0")
        for each in command
    ]
    subprocess.run(here, check=True, timeout=30)

    # It still serves, and each answer is the last one of its connection.
    assert ask(connection) == (200, "close")
    assert ask(HTTPConnection(edge.address, timeout=5)) == (200, "close")
