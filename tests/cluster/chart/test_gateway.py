"""Routes of the Gateway API lead every method of buyers where Envoy leads it, and no other anywhere."""

import pytest
from catraca.checkout.v1 import checkout_pb2
from catraca.inventory.v1 import inventory_pb2
from catraca.notifier.v1 import notifier_pb2
from catraca.queue.v1 import queue_pb2
from catraca.sale.v1 import sale_pb2
from google.protobuf.descriptor import MethodDescriptor

from services.checkout.__main__ import PUBLIC as CHECKOUT_PUBLIC
from services.kit.channels import NOT_REPEATED
from services.queue.__main__ import PUBLIC as QUEUE_PUBLIC
from tests.cluster.chart.charts import Json, example, of_kind

BUYERS = {
    queue_pb2.DESCRIPTOR.services_by_name["QueueService"]: "queue",
    sale_pb2.DESCRIPTOR.services_by_name["SaleService"]: "queue",
    inventory_pb2.DESCRIPTOR.services_by_name["InventoryService"]: "inventory",
    checkout_pb2.DESCRIPTOR.services_by_name["OrderService"]: "checkout",
    notifier_pb2.DESCRIPTOR.services_by_name["NotifierService"]: "notifier",
}
METHODS = [method for service in BUYERS for method in service.methods]


def matches() -> dict[tuple[str, str | None], tuple[str, str]]:
    """Kind of route and backend by service and method; a method of None is the whole service."""
    found = {}
    for route in of_kind(example("gateway"), "GRPCRoute"):
        kind = route["metadata"]["name"].removeprefix("catraca-")
        for rule in route["spec"]["rules"]:
            (match,), (backend,) = rule["matches"], rule["backendRefs"]
            key = match["method"]["service"], match["method"].get("method")
            assert key not in found
            assert backend["port"] == 50051
            found[key] = kind, backend["name"].removeprefix("catraca-")
    return found


def route_of(method: MethodDescriptor) -> tuple[str, str]:
    """The most specific match, as the Gateway API chooses it."""
    service = method.containing_service.full_name
    known = matches()
    return known.get((service, method.name)) or known[service, None]


def kind_of(method: MethodDescriptor) -> str:
    """What the contract and the services say of it."""
    service = method.containing_service.full_name
    if f"/{service}/{method.name}" in QUEUE_PUBLIC | CHECKOUT_PUBLIC:
        return "public"
    if method.client_streaming or method.server_streaming:
        return "streams"
    return "once" if (service, method.name) in NOT_REPEATED else "calls"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_every_method_is_led_as_it_has_to_be(method: MethodDescriptor) -> None:
    assert route_of(method) == (kind_of(method), BUYERS[method.containing_service])


def test_nothing_else_is_led_anywhere() -> None:
    known = {(method.containing_service.full_name, method.name) for method in METHODS}
    whole = {(service.full_name, None) for service in BUYERS}
    assert set(matches()) - known == whole


def policies(kind: str) -> dict[str, Json]:
    """Envoy Gateway's policies of a kind, by the route they are for."""
    found = {}
    for policy in of_kind(example("gateway"), kind):
        (target,) = policy["spec"]["targetRefs"]
        assert target["kind"] == "GRPCRoute"
        found[target["name"].removeprefix("catraca-")] = policy["spec"]
    return found


def test_every_route_has_its_policies() -> None:
    kinds = {kind for kind, _ in matches().values()}
    security, traffic = policies("SecurityPolicy"), policies("BackendTrafficPolicy")
    assert set(security) == set(traffic) == kinds
    assert {kind for kind, spec in security.items() if "jwt" not in spec} == {"public"}
    repeated = {
        kind: set(spec.get("retry", {}).get("retryOn", {}).get("triggers", []))
        for kind, spec in traffic.items()
    }
    assert repeated["once"] == {"connect-failure", "refused-stream"}
    assert repeated["streams"] == set()
    assert "unavailable" in repeated["calls"] & repeated["public"]
    assert traffic["streams"]["timeout"]["http"]["requestTimeout"] == "0s"
