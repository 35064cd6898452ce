"""What the chart renders: settings that there are, files that are mounted, refusals by name."""

import dataclasses
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.authority import Authority
from local.cluster import contents
from local.servers import binaries
from services.kit.settings import file_variable_of, load, variable_of
from tests.cluster.chart.charts import (
    CHART,
    EXAMPLES,
    INSTALLED,
    SERVICES,
    NotRendered,
    component_of,
    environment,
    example,
    of_kind,
    pods,
    rendered_text,
)
from tests.cluster.chart.ours import OURS, our_pods
from tests.cluster.plane.programs import program

Json = dict[str, Any]
examples = pytest.mark.parametrize("name", EXAMPLES)


@pytest.mark.parametrize("major", [3, 4])
@examples
def test_lint_finds_nothing(name: str, major: int) -> None:
    command = [str(program(f"helm{major}")), "lint", "--strict", str(CHART), "--values", str(EXAMPLES[name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout


@examples
def test_helm_3_and_4_render_the_same(name: str) -> None:
    assert example(name, major=3) == example(name, major=4)


# ---- what programs are told ----


@examples
def test_every_variable_is_a_setting(name: str) -> None:
    for component, pod in our_pods(name):
        fields = dataclasses.fields(OURS[component])
        known = {variable_of(field.name) for field in fields}
        known |= {file_variable_of(field.name) for field in fields if field.metadata["secret"]}
        assert set(environment(pod)) - known == set(), component


@examples
def test_every_setting_that_is_required_is_said_and_fits(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("anything")
    for component, pod in our_pods(name):
        cls = OURS[component]
        told = environment(pod)
        # Secrets are read from their files with the settings; other files are read later.
        in_files = {
            file_variable_of(field.name) for field in dataclasses.fields(cls) if field.metadata["secret"]
        }
        load(cls, told | dict.fromkeys(in_files & set(told), str(secret)))
        assert "" not in told.values()


@examples
def test_every_file_that_is_named_is_mounted(name: str) -> None:
    for component, pod in pods(example(name)):
        there = files_of(pod)
        container = pod["spec"]["containers"][0]
        said = [*environment(pod).values(), *container.get("args", []), *container.get("command", [])]
        for path in (each for each in said if each.startswith("/")):
            assert path in there or any(f"{path}/".startswith(f"{folder}/") for folder in writable(pod)), (
                component,
                path,
            )


def files_of(pod: Json) -> set[str]:
    """Files and folders that are mounted read-only."""
    volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
    found = set()
    for mount in pod["spec"]["containers"][0].get("volumeMounts", []):
        volume = volumes.get(mount["name"], {})
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in sources:
            for item in (source.get("secret") or {}).get("items", []):
                path = Path(mount["mountPath"]) / item["path"]
                found |= {str(path), str(path.parent)}
        if "configMap" in volume:
            found.add(f"{mount['mountPath']}/envoy.yaml")
    return found


def writable(pod: Json) -> list[str]:
    """Folders that the pod may write to."""
    return [
        mount["mountPath"]
        for mount in pod["spec"]["containers"][0].get("volumeMounts", [])
        if not mount.get("readOnly")
    ]


@examples
def test_a_service_has_its_own_keys_and_urls_and_nobody_elses(name: str) -> None:
    keys = {
        "queue": {"admission", "buyer-hash", "receipt"},
        "inventory": {"admission", "buyer-hash"},
        "checkout": {"admission", "buyer-hash", "ticket"},
        "notifier": {"buyer-hash"},
    }
    for component, pod in our_pods(name):
        mounted = {Path(file).stem for file in files_of(pod) if file.startswith("/etc/catraca/keys/")}
        assert mounted == keys.get(component, set())
        if component in SERVICES:
            (volume,) = (each for each in pod["spec"]["volumes"] if "projected" in each)
            urls = [
                item["key"]
                for source in volume["projected"]["sources"]
                for item in source["secret"]["items"]
                if item["path"].startswith("stores/")
            ]
            assert set(urls) == {component}


@examples
def test_every_secret_that_is_mounted_is_given_or_made(name: str) -> None:
    """Made by the hook or by who keeps tokens, or asked of cert-manager or CloudNativePG."""
    bodies = example(name)
    (queue,) = of_kind(bodies, "Deployment", "queue")
    release = queue["metadata"]["name"].removesuffix("-queue")
    hooks = [
        environment(pod)["CATRACA_SECRETS_MADE"] for component, pod in pods(bodies) if component == "secrets"
    ]
    made = {f"{release}-{what}" for hook in hooks for what in hook.split(",")}
    made |= {each["metadata"]["name"] for each in of_kind(bodies, "Secret")}
    made |= {each["spec"]["secretName"] for each in of_kind(bodies, "Certificate")}
    made |= {f"{each['metadata']['name']}-app" for each in of_kind(bodies, "Cluster")}
    given = set(re.findall(r"[\w.-]+", EXAMPLES[name].read_text()))
    mounted = {
        secret.get("name", secret.get("secretName")) for _, pod in pods(bodies) for secret in secrets_of(pod)
    }
    assert mounted <= made | given
    assert {what for hook in hooks for what in hook.split(",")} <= set(contents.MAKERS)


def secrets_of(pod: Json) -> list[Json]:
    """The Secrets that a pod mounts, whole or within a projection."""
    volumes = pod["spec"].get("volumes", [])
    sources = [
        source for volume in volumes for source in volume.get("projected", {}).get("sources", [volume])
    ]
    return [source["secret"] for source in sources if "secret" in source]


def test_what_the_hook_makes_has_what_is_mounted_of_it() -> None:
    made = {
        what: set(maker.new(contents.Addresses("r:1", "n:2", "p:3")))
        for what, maker in contents.MAKERS.items()
    }
    for _, pod in pods(example("trial")):
        for secret in secrets_of(pod):
            what = secret.get("name", secret.get("secretName")).removeprefix("catraca-")
            if what in made:
                assert {item["key"] for item in secret["items"]} <= made[what], what


# ---- pods ----


@examples
def test_pods_have_grace_for_all_that_a_replica_does(name: str) -> None:
    for component, pod in our_pods(name):
        if component in SERVICES:
            told = environment(pod)
            needed = float(told["CATRACA_LAME_DUCK_S"]) + float(told["CATRACA_DRAIN_S"])
            assert pod["spec"]["terminationGracePeriodSeconds"] > needed
            # Longer than the edge takes to notice: it asks every second and believes the second answer.
            assert float(told["CATRACA_LAME_DUCK_S"]) > 2


@examples
def test_every_pod_that_serves_is_probed_and_nobody_writes_to_its_root(name: str) -> None:
    for component, pod in pods(example(name)):
        (container,) = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert "requests" in container["resources"]
        assert "memory" in container["resources"].get("limits", {"memory": ""}) or component == "placeholder"
        if container.get("ports"):
            assert "readinessProbe" in container, component
        # Only those that ask the API server have a token for it.
        assert pod["spec"]["automountServiceAccountToken"] is (
            component in ("operator", "secrets", "tokens", "farewell")
        )


@examples
def test_replicas_and_floors_are_left_to_their_owners(name: str) -> None:
    bodies = example(name)
    for service in SERVICES:
        (deployment,) = of_kind(bodies, "Deployment", service)
        (scaler,) = of_kind(bodies, "HorizontalPodAutoscaler", service) + of_kind(
            bodies, "ScaledObject", service
        )
        (budget,) = of_kind(bodies, "PodDisruptionBudget", service)
        assert "replicas" not in deployment["spec"]
        assert not {"minReplicas", "minReplicaCount"} & set(scaler["spec"])
        assert scaler["metadata"]["annotations"]["catraca.dev/base-floor"].isdecimal()
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_metrics_to_scale_by_are_those_of_the_documentation() -> None:
    text = (CHART.parents[1] / "docs/observability.md").read_text()
    for service in SERVICES:
        (scaler,) = of_kind(example("trial"), "HorizontalPodAutoscaler", service)
        metric = scaler["spec"]["metrics"][0]["external"]["metric"]["name"]
        assert re.search(rf"\| {service} \| .*{metric}", text)


def test_keda_asks_what_its_file_has() -> None:
    """With the thresholds and limits of the values, in place of the file's."""
    wanted = {
        each["metadata"]["name"]: each["spec"]["triggers"][0]["metadata"]["query"]
        for each in yaml.safe_load_all((CHART / "files/scaledobjects.yaml").read_text())
    }
    for service in SERVICES:
        (made,) = of_kind(example("operators"), "ScaledObject", service)
        (trigger,) = made["spec"]["triggers"]
        assert trigger["metadata"] == {
            "serverAddress": "http://prometheus.monitoring.svc:9090",
            "query": wanted[service],
            "threshold": trigger["metadata"]["threshold"],
        }
        (scaler,) = of_kind(example("trial"), "HorizontalPodAutoscaler", service)
        (metric,) = scaler["spec"]["metrics"]
        assert metric["external"]["target"]["averageValue"] == trigger["metadata"]["threshold"]
        assert made["spec"]["maxReplicaCount"] == scaler["spec"]["maxReplicas"]
        behavior = made["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior == scaler["spec"]["behavior"]


def test_large_numbers_are_written_in_full() -> None:
    text = rendered_text(
        "--values",
        str(EXAMPLES["trial"]),
        *(
            "--set",
            "checkout.settings.buyers_paused=2000000",
            "--set",
            "queue.autoscaling.perReplica=3000000",
        ),
        *("--set", "edge.requestsPerSecond=4000000"),
    )
    assert {"2000000", "3000000", "4000000"} <= set(re.findall(r"\b[234]000000\b", text))
    assert not re.search(r"\d\.?\d*e\+\d", text)


# ---- files ----


def test_the_operators_rights_are_those_of_the_file() -> None:
    (role,) = of_kind(example("trial"), "Role", "operator")
    (wanted,) = (
        each
        for each in yaml.safe_load_all((CHART / "files/operator-rbac.yaml").read_text())
        if each["kind"] == "Role"
    )
    assert role["rules"] == wanted["rules"]


def test_the_definition_of_sales_is_the_files_and_stays() -> None:
    (crd,) = of_kind(example("trial"), "CustomResourceDefinition")
    wanted = yaml.safe_load((CHART / "files/ticketsales.catraca.dev.yaml").read_text())
    wanted["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    assert crd == wanted
    assert of_kind(example("gateway"), "CustomResourceDefinition") == []


def test_alerts_and_dashboard_are_the_files() -> None:
    bodies = example("operators")
    (rule,) = of_kind(bodies, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    (dashboard,) = (each for each in of_kind(bodies, "ConfigMap") if "catraca.json" in each["data"])
    assert json.loads(dashboard["data"]["catraca.json"]) == json.loads(
        (CHART / "files/dashboard.json").read_text()
    )
    (monitor,) = of_kind(bodies, "ServiceMonitor")
    scraped = [
        each
        for each in of_kind(bodies, "Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
        and "metrics" in [port["name"] for port in each["spec"]["ports"]]
    ]
    assert {component_of(each) for each in scraped} == {*SERVICES, "operator"}


@pytest.mark.parametrize("name", ["trial", "production", "operators"])
def test_envoy_takes_the_edges_configuration(name: str, tmp_path: Path) -> None:
    """The real Envoy reads it, with certificates where the chart mounts some."""
    (config,) = of_kind(example(name), "ConfigMap", "edge")
    assert "${" not in config["data"]["envoy.yaml"]
    lay_certificate(tmp_path)
    mounted = re.compile(r"/etc/(envoy|tls/inner|tls/public|tls/issuer)\b|/etc/ssl/certs(?=/ca-certificates)")
    for file, text in config["data"].items():
        (tmp_path / file).write_text(mounted.sub(str(tmp_path), text))
    done = subprocess.run(
        [str(binaries.envoy()), "--mode", "validate", "--config-path", str(tmp_path / "envoy.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = yaml.safe_load(config["data"]["envoy.yaml"])
    clusters = {each["name"]: each for each in loaded["static_resources"]["clusters"]}
    kinds = {service: clusters[service]["transport_socket"]["name"] for service in (*SERVICES, "issuer")}
    assert set(kinds.values()) <= {"tls", "plain"}
    assert {kinds[service] for service in SERVICES} == {"tls" if name == "operators" else "plain"}
    assert kinds["issuer"] == ("plain" if name == "trial" else "tls")


def lay_certificate(folder: Path) -> None:
    """A certificate with its key and CA, under the names that mounted Secrets have."""
    authority = Authority(folder / "authority")
    made = authority.issue("edge", ["edge"])
    names = {made.cert: "tls.crt", made.key: "tls.key", made.ca: "ca.crt"}
    for source, name in names.items():
        (folder / name).write_bytes(source.read_bytes())
    (folder / "ca-certificates.crt").write_bytes(made.ca.read_bytes())


@examples
def test_a_port_says_that_it_is_plain_only_where_it_is(name: str) -> None:
    for service in SERVICES:
        (body,) = of_kind(example(name), "Service", service)
        (said,) = (each.get("appProtocol") for each in body["spec"]["ports"] if each["name"] == "grpc")
        assert said == (None if name == "operators" else "kubernetes.io/h2c")


# ---- refusals ----

REFUSED = {
    "nothing is given": ([], "set redis.existingSecret, or dev.redis.enabled for a trial"),
    "an unknown value": (["--set", "queue.autoscaling.least=2"], "least"),
    "a wrong setting": (["--set", "queue.settings.call_batch=5000"], "call_batch"),
    "an unknown setting": (["--set", "queue.settings.redis_url=x"], "redis_url"),
    "a level that is none": (["--set", "logLevel=loud"], "logLevel"),
    "two Postgres": (["--set", "postgres.cloudNativePG.enabled=true"], "not both"),
    "a floor above the roof": (
        ["--set", "queue.autoscaling.baseFloor=50"],
        "baseFloor is more than maxReplicas",
    ),
    "a floor of the edge above its roof": (
        ["--set", "edge.autoscaling.minReplicas=50"],
        "edge.autoscaling.minReplicas is more than maxReplicas",
    ),
    "longer than a service takes": (["--set", "shutdown.drainSeconds=900"], "drainSeconds"),
    "a label of the chart's own": (
        ["--set", "commonLabels.app\\.kubernetes\\.io/component=x"],
        "commonLabels",
    ),
    "a label that is none": (["--set", "commonLabels.team=the tickets"], "commonLabels"),
    "certificates for nobody": (["--set", "tls.certManager.enabled=true"], "tls.enabled"),
    "a gateway without a class": (["--set", "gateway.enabled=true"], "gateway.className"),
    "a gateway and TLS": (
        ["--set", "gateway.enabled=true,gateway.className=x,tls.enabled=true"],
        "shows the services no certificate",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(case: str) -> None:
    arguments, words = REFUSED[case]
    given = [] if case == "nothing is given" else ["--values", str(EXAMPLES["trial"])]
    with pytest.raises(NotRendered, match=re.escape(words)):
        rendered_text(*given, *arguments)


@pytest.mark.parametrize("release", ["2026-final", "final.2026"])
def test_a_name_that_no_service_may_have_is_refused(release: str) -> None:
    trial = ("--values", str(EXAMPLES["trial"]))
    with pytest.raises(NotRendered, match="fullnameOverride"):
        rendered_text(*trial, release=release)
    assert rendered_text(*trial, "--set", "fullnameOverride=final", release=release)


@pytest.mark.parametrize(
    ("value", "api"),
    [
        ("monitoring.serviceMonitor.enabled", "monitoring.coreos.com/v1"),
        ("monitoring.prometheusRule.enabled", "monitoring.coreos.com/v1"),
        ("tls.certManager.enabled", "cert-manager.io/v1"),
        ("gateway.enabled", "gateway.networking.k8s.io/v1"),
        ("gateway.envoyGateway.enabled", "gateway.envoyproxy.io/v1alpha1"),
        ("postgres.cloudNativePG.enabled", "postgresql.cnpg.io/v1"),
    ],
)
def test_what_the_cluster_lacks_is_named(value: str, api: str) -> None:
    with pytest.raises(NotRendered, match=re.escape(api)):
        rendered_text(
            *(
                "--values",
                str(EXAMPLES["trial"]),
                "--set",
                f"{value}=true",
                "--set",
                "dev.postgres.enabled=false",
            ),
            *(() if "cloud" in value else ("--set", "postgres.existingSecret=x")),
            apis=False,
        )


def test_every_kind_that_the_examples_render_is_known_to_the_tests() -> None:
    kinds = {(each["apiVersion"], each["kind"]) for name in EXAMPLES for each in example(name)}
    assert {(api, kind) for api, all_kinds in INSTALLED.items() for kind in all_kinds} <= kinds
