"""The edge's template: complete, routed as the contract says, and refusing with the services' own words."""

import base64
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from catraca.checkout.v1 import checkout_pb2
from catraca.inventory.v1 import inventory_pb2
from catraca.notifier.v1 import notifier_pb2
from catraca.queue.v1 import queue_pb2
from catraca.sale.v1 import sale_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from local.servers.envoy import TEMPLATE, Upstreams, endpoints, render
from services.inventory.config import InventorySettings
from services.kit.channels import NOT_REPEATED
from services.kit.errors import Refusal, trailing_metadata_of
from services.notifier.config import Settings as NotifierSettings
from services.queue.config import Settings as QueueSettings

TEXT = TEMPLATE.read_text()
WORDS = set(re.findall(r"\$\{([A-Z_]+)\}", TEXT))

BUYERS = {
    queue_pb2.DESCRIPTOR.services_by_name["QueueService"]: "queue",
    sale_pb2.DESCRIPTOR.services_by_name["SaleService"]: "queue",
    inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"]: "inventory",
    checkout_pb2.DESCRIPTOR.services_by_name["OrderService"]: "checkout",
    notifier_pb2.DESCRIPTOR.services_by_name["NotifierService"]: "notifier",
}
OURS = [
    inventory_pb2.DESCRIPTOR.services_by_name["LedgerService"],
    checkout_pb2.DESCRIPTOR.services_by_name["SettlementService"],
]
# Without an id made by the caller: repeated after somebody else's change they would undo it.
NOT_REPEATABLE = {method for _, method in NOT_REPEATED}


def rendered() -> dict[str, Any]:
    """The template with an address for everything."""
    addresses = {name: ["127.0.0.1:1", "127.0.0.1:2"] for name in {*BUYERS.values(), "standing"}}
    given = Upstreams("http://issuer", "http://127.0.0.1:3/jwks.json", "catraca", addresses).values(
        Path("/nowhere")
    )
    numbers = {word for word in WORDS if word.endswith(("_PORT", "_HOPS", "_PER_S"))}
    rest = {word: "7" if word in numbers else "[]" for word in WORDS - given.keys()}
    loaded: dict[str, Any] = yaml.safe_load(render(TEXT, given | rest))
    return loaded


CONFIG = rendered()
MANAGER = CONFIG["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
ROUTES = MANAGER["route_config"]["virtual_hosts"][0]["routes"]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def route_of(path: str) -> dict[str, Any] | None:
    """The first route that takes the path, as Envoy finds it."""
    for route in ROUTES:
        match = route["match"]
        if "headers" in match:
            # For what is no gRPC.
            continue
        if (
            match.get("path") == path
            or ("prefix" in match and path.startswith(match["prefix"]))
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path))
        ):
            return route.get("route", {})
    return None


methods = pytest.mark.parametrize(
    "method", [method for service in BUYERS for method in service.methods], ids=path_of
)


@methods
def test_every_method_of_buyers_reaches_its_service(method: MethodDescriptor) -> None:
    route = route_of(path_of(method))

    assert route is not None and route["cluster"] == BUYERS[method.containing_service]


@methods
def test_streams_have_no_timeout_but_ends_and_calls_have_one(method: MethodDescriptor) -> None:
    route = route_of(path_of(method))
    assert route is not None

    streaming = method.client_streaming or method.server_streaming
    assert (route["timeout"] == "0s") is streaming
    assert ("idle_timeout" in route) is streaming
    assert ("max_stream_duration" in route["max_stream_duration"]) is streaming


@methods
def test_only_what_may_be_repeated_is_repeated(method: MethodDescriptor) -> None:
    route = route_of(path_of(method))
    assert route is not None

    policy = route.get("retry_policy", {}).get("retry_on", "").split(",")
    # The requests of a stream are not kept to be sent again.
    assert ("retry_policy" in route) is not method.client_streaming
    repeatable = not method.client_streaming and method.name not in NOT_REPEATABLE
    assert ({"unavailable", "cancelled", "reset"} <= set(policy)) is repeatable
    assert repeatable or {"unavailable", "cancelled", "reset"}.isdisjoint(policy)


@pytest.mark.parametrize("service", OURS, ids=lambda service: service.full_name)
def test_what_services_say_among_themselves_has_no_route(service: ServiceDescriptor) -> None:
    assert [path for path in map(path_of, service.methods) if route_of(path) is not None] == []


@pytest.mark.parametrize("settings", [QueueSettings, InventorySettings, NotifierSettings])
def test_heartbeats_come_well_before_a_silent_stream_is_ended(settings: type[Any]) -> None:
    (slowest,) = (
        each.metadata["maximum"] for each in dataclasses.fields(settings) if each.name == "heartbeat_s"
    )

    ends = {route["route"]["idle_timeout"] for route in ROUTES if "idle_timeout" in route.get("route", {})}
    assert ends == {"60s"}
    assert slowest * 2 < 60


def test_routes_name_clusters_that_there_are() -> None:
    clusters = {cluster["name"] for cluster in CONFIG["static_resources"]["clusters"]}
    named = {entry["route"]["cluster"] for entry in ROUTES if "route" in entry}
    # Preflights that the cors filter does not answer go to nobody.
    assert named - clusters == {"nobody"}


def test_every_cluster_of_ours_is_asked_for_its_health_and_takes_replicas() -> None:
    clusters = {cluster["name"]: cluster for cluster in CONFIG["static_resources"]["clusters"]}

    for name in {*BUYERS.values()}:
        assert "grpc_health_check" in clusters[name]["health_checks"][0]
        assert len(clusters[name]["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2


def test_the_edge_refuses_with_the_services_words() -> None:
    mappers = MANAGER["local_reply_config"]["mappers"]
    words = re.findall(r"^ +# ([A-Z_]+)$", TEXT, re.MULTILINE)

    assert len(words) == len(mappers) > 0
    for word, mapper in zip(words, mappers, strict=True):
        headers = {each["header"]["key"]: each["header"]["value"] for each in mapper["headers_to_add"]}
        refusal = Refusal(word)
        ((_, details),) = trailing_metadata_of(refusal)
        assert headers["grpc-status-details-bin"] == base64.b64encode(details).decode().rstrip("="), word
        assert headers["edge-status"] == str(refusal.code.value[0]), word


def test_every_word_is_explained_and_a_plain_replace_does_the_same() -> None:
    header = "\n".join(line for line in TEXT.splitlines()[:25] if line.startswith("#"))
    assert (
        set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bAUDIENCE\b|\bDISCOVERY\b", header)) - {"STRICT_DNS"}
        == WORDS
    )

    values = {word: f"<{word}>" for word in WORDS}
    replaced = TEXT
    for word, value in values.items():
        replaced = replaced.replace(f"${{{word}}}", value)
    assert render(TEXT, values) == replaced


def test_a_word_without_a_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        render(TEXT, {})


def test_addresses_become_endpoints() -> None:
    assert yaml.safe_load(endpoints(["127.0.0.1:80"])) == [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}}}}
    ]
