"""Who may call whom in a cluster: no flow too few or too many, and both ends agree."""

import re
import typing
from typing import Any

import pytest
import yaml

from tests.cluster.chart.charts import (
    EXAMPLES,
    component_of,
    environment,
    example,
    objects,
    of_kind,
    pods,
    rendered_text,
)
from tests.cluster.chart.ours import our_pods

Json = dict[str, Any]

examples = pytest.mark.parametrize("name", EXAMPLES)


def policy_of(bodies: list[Json], component: str) -> Json:
    (policy,) = (each for each in of_kind(bodies, "NetworkPolicy", component))
    return typing.cast("Json", policy["spec"])


def called(policy: Json) -> set[tuple[str, int]]:
    """Components and ports that a policy lets its pods call within the release."""
    return {
        (peer["podSelector"]["matchLabels"][COMPONENT_LABEL], port["port"])
        for rule in policy["egress"]
        for peer in rule.get("to", [])
        if COMPONENT_LABEL in peer.get("podSelector", {}).get("matchLabels", {})
        for port in rule["ports"]
    }


def calling(policy: Json) -> set[tuple[str, int]]:
    return {
        (peer["podSelector"]["matchLabels"][COMPONENT_LABEL], port["port"])
        for rule in policy["ingress"] or []
        for peer in rule.get("from", [])
        if COMPONENT_LABEL in peer.get("podSelector", {}).get("matchLabels", {})
        for port in rule["ports"]
    }


COMPONENT_LABEL = "app.kubernetes.io/component"


@examples
def test_every_pod_has_a_policy_and_both_ends_agree(name: str) -> None:
    bodies = example(name)
    # Placeholders say nothing, and the farewell comes when the policies are gone.
    running = {component for component, _ in pods(bodies)} - {"placeholder", "farewell"}
    assert {component_of(each) for each in of_kind(bodies, "NetworkPolicy")} == {*running, "network"}
    out = {(one, other, port) for one in running for other, port in called(policy_of(bodies, one))}
    into = {(one, other, port) for other in running for one, port in calling(policy_of(bodies, other))}
    assert out == into
    (deny,) = of_kind(bodies, "NetworkPolicy", "network")
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in deny["spec"] and "egress" not in deny["spec"]
    for _, pod in pods(bodies):
        assert deny["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


ADDRESS = re.compile(r"(?:dns:///|https?://)?([\w.-]+):(\d+)")


def test_flows_are_those_that_programs_are_told_of() -> None:
    """Of the trial, where everything is in the release: each address in a pod's environment, and no other."""
    bodies = example("trial")
    told: set[tuple[str, str, int]] = set()
    for component, pod in our_pods("trial"):
        for variable, value in environment(pod).items():
            matched = ADDRESS.search(value)
            # Its own addresses, those that others are told, and what only makes passwords.
            if not matched or component == "secrets" or variable in OF_ONESELF:
                continue
            called_one = matched[1].split(".")[0].removeprefix("catraca-")
            if matched[1] != "0.0.0.0" and called_one != component:
                told.add((component, called_one, int(matched[2])))
    for component, stores in {
        "queue": {("redis", 6379), ("nats", 4222)},
        "inventory": {("redis", 6379), ("nats", 4222)},
        "checkout": {("nats", 4222), ("postgres", 5432)},
        "notifier": {("nats", 4222)},
        "prepare": {("nats", 4222), ("postgres", 5432)},
        # Of webhooks and pages it is told by checkout.
        "sandbox": {("checkout", 8080)},
        "test": {("sandbox", 8090)},
    }.items():
        told |= {(component, *store) for store in stores}
    (config,) = of_kind(bodies, "ConfigMap", "edge")
    for cluster in yaml.safe_load(config["data"]["envoy.yaml"])["static_resources"]["clusters"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        address = endpoint["endpoint"]["address"]["socket_address"]
        host = address["address"].split(".")[0].removeprefix("catraca-")
        told.add(("edge", host, address["port_value"]))
    running = {component for component, _ in pods(bodies)} - {"farewell"}
    allowed = {(one, *other) for one in running for other in called(policy_of(bodies, one))}
    assert allowed == told


# `iss` of tokens, which nobody connects to, and where others reach checkout.
OF_ONESELF = {"CATRACA_OIDC_ISSUER", "CATRACA_WEBHOOK_URL"}


def test_only_who_needs_it_reaches_the_api_server_and_the_outside() -> None:
    bodies = example("production")
    elsewhere = {
        component_of(each): sorted(
            port["port"]
            for rule in each["spec"]["egress"]
            if not any("podSelector" in peer for peer in rule.get("to", []))
            for port in rule["ports"]
        )
        for each in of_kind(bodies, "NetworkPolicy")
        if component_of(each) != "network"
    }
    assert elsewhere == {
        "queue": [443, 4222, 4318, 6379],
        "inventory": [443, 4222, 4318, 6379],
        "checkout": [443, 4222, 4318, 5432],
        "notifier": [443, 4222, 4318],
        "operator": [443, 6443],
        "tokens": [443, 443, 6443],
        "edge": [443],
        "prepare": [4222, 5432],
        "test": [],
    }


@examples
def test_a_job_that_runs_before_its_version_has_its_policy_before_it(name: str) -> None:
    """At an upgrade the release's other policies are those of the version before, with its addresses."""
    bodies = example(name)
    hook, weight, after = (f"helm.sh/hook{end}" for end in ("", "-weight", "-delete-policy"))
    early = [each for each in of_kind(bodies, "Job") if "pre-upgrade" in annotations(each).get(hook, "")]
    ahead = [each for each in of_kind(bodies, "NetworkPolicy") if hook in annotations(each)]
    assert {component_of(each) for each in ahead} == {component_of(each) for each in early}
    for policy in ahead:
        assert annotations(policy)[hook] == "pre-install,pre-upgrade"
        assert annotations(policy)[after] == "before-hook-creation,hook-succeeded"
        assert int(annotations(policy)[weight]) < min(int(annotations(each)[weight]) for each in early)


def annotations(body: Json) -> Json:
    return typing.cast("Json", body["metadata"].get("annotations", {}))


@pytest.mark.parametrize(
    ("component", "example_of", "given", "ports"),
    [
        ("edge", "trial", (), [8080]),
        ("sandbox", "trial", (), []),
        ("sandbox", "gateway", (), [8090]),
        ("issuer", "trial", (), []),
        ("issuer", "trial", ("--set", "identity.issuer=https://login.example"), [8080]),
    ],
)
def test_who_has_an_address_for_browsers_is_reached_from_everywhere(
    component: str, example_of: str, given: tuple[str, ...], ports: list[int]
) -> None:
    bodies = objects(rendered_text("--values", str(EXAMPLES[example_of]), *given))
    rules = policy_of(bodies, component)["ingress"] or []
    assert [port["port"] for rule in rules if "from" not in rule for port in rule["ports"]] == ports


def test_the_outside_is_reached_at_the_ports_of_its_urls() -> None:
    given = {
        "identity.issuer": "http://login.auth:8081/realms/x",
        "identity.jwksUrl": "http://login.auth:8081/realms/x/certs",
        "identity.tokens.client.tokenUrl": "http://login.auth:8082/token",
        "payment.sandbox.url": "http://pay.shop:8090",
        "monitoring.tracing.endpoint": "http://otel.monitoring:14318/v1/traces",
    }
    told = [word for path, url in given.items() for word in ("--set", f"{path}={url}")]
    bodies = objects(rendered_text("--values", str(EXAMPLES["production"]), *told))
    ports = {
        component: {port["port"] for rule in policy_of(bodies, component)["egress"] for port in rule["ports"]}
        for component in ("queue", "inventory", "checkout", "notifier", "edge", "tokens")
    }
    for component in ("queue", "inventory", "checkout", "notifier"):
        assert {8081, 14318} <= ports[component]
    assert 8090 in ports["checkout"] and 8090 not in ports["queue"]
    assert 8081 in ports["edge"] and 8082 in ports["tokens"] and 8081 not in ports["tokens"]


def test_addresses_name_services_that_there_are() -> None:
    for name in EXAMPLES:
        bodies = example(name)
        known = {
            (each["metadata"]["name"], port["port"])
            for each in of_kind(bodies, "Service")
            for port in each["spec"]["ports"]
        }
        for component, pod in our_pods(name):
            for value in environment(pod).values():
                for host, port in ADDRESS.findall(value):
                    if ".svc." in host and component != "secrets" and "otel" not in host:
                        assert (host.split(".")[0], int(port)) in known, (component, value)
