"""The dashboard and the alert rules ask only for metrics, labels and values that exist."""

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from catraca_operator.fleet import COMPONENT, PART_OF
from catraca_operator.spec import SERVICES
from prometheus_client import Counter, Gauge, Histogram

from services.checkout.states import OrderState
from services.inventory.states import WORDS as LEDGER_WORDS
from services.kit import metrics
from services.kit.reasons import NEVER_A_STATUS, WORDS
from services.queue.states import Phase
from tests.contract.promql import Known, Malformed, parse, problems

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts/catraca/files"
DOCUMENTED = (ROOT / "docs/observability.md").read_text()
# What Prometheus adds to every sample.
TARGET = frozenset({"job", "instance"})
UNIT_STATES = frozenset({"free", "held", "sold", "blocked"})
VALUES = {
    "reason": WORDS | NEVER_A_STATUS,
    "state": UNIT_STATES | {state.value for state in OrderState},
    "phase": frozenset(phase.value for phase in Phase),
    "word": frozenset().union(*LEDGER_WORDS.values()),
    "command": frozenset(LEDGER_WORDS),
}


def known() -> Known:
    """Every sample that a service shows, and the few of Prometheus' own."""
    for path in (ROOT / "services").glob("*/metrics.py"):
        importlib.import_module(f"services.{path.parent.name}.metrics")
    importlib.import_module("catraca_operator.metrics")
    samples: dict[str, tuple[str, frozenset[str]]] = {
        "up": ("gauge", TARGET),
        "process_cpu_seconds_total": ("counter", TARGET),
        "process_resident_memory_bytes": ("gauge", TARGET),
    }
    for family in metrics.REGISTRY._collector_to_names:
        if isinstance(family, Counter | Gauge | Histogram):
            labels = frozenset(family._labelnames) | TARGET
            samples |= dict(_samples(family, labels))
    return samples


def _samples(family: Any, labels: frozenset[str]) -> Iterator[tuple[str, tuple[str, frozenset[str]]]]:
    if isinstance(family, Histogram):
        yield f"{family._name}_bucket", ("bucket", labels | {"le"})
        yield f"{family._name}_sum", ("counter", labels)
        yield f"{family._name}_count", ("counter", labels)
    elif isinstance(family, Counter):
        yield f"{family._name}_total", ("counter", labels)
    else:
        yield family._name, ("gauge", labels)


def dashboard() -> dict[str, Any]:
    return dict(json.loads((FILES / "dashboard.json").read_text()))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def scaled_objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / "scaledobjects.yaml").read_text()))


def expressions() -> list[Any]:
    """Every expression with where it stands."""
    shown = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    return [
        pytest.param(text, id=where)
        for where, text in [*shown, *((rule["alert"], rule["expr"]) for rule in rules())]
    ]


@pytest.mark.parametrize("text", expressions())
def test_an_expression_asks_for_what_exists(text: str) -> None:
    assert problems(text, known(), VALUES) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("catraca_line_length", "there is no metric catraca_line_length"),
        ("rate(catraca_webhooks[5m])", "there is no metric catraca_webhooks"),
        ("rate(catraca_webhooks_total)", "needs a range"),
        ("catraca_units[5m]", "needs a range within a function over time, and only there"),
        ("sum(catraca_webhooks_total)", "only grows"),
        ("rate(catraca_units[5m])", "is a gauge"),
        ("histogram_quantile(0.9, rate(catraca_script_seconds_sum[5m]))", "quantiles are of buckets"),
        ("rate(catraca_script_seconds_bucket[5m])", "buckets are for quantiles"),
        ('catraca_units{order="x"}', "has no label order"),
        ("sum by (buyer) (catraca_units)", "nothing has the label buyer"),
        ('catraca_units{state="gone"}', "state is never gone"),
        ('catraca_orders{state=~"CAPTURING|PAYING"}', "state is never PAYING"),
        ('rate(catraca_rpc_refusals_total{reason!="SOLDOUT"}[5m])', "reason is never SOLDOUT"),
        ("sum(catraca_units", "not closed"),
        ("catraca_units)", "not opened"),
        ("frobnicate(catraca_units)", "no function"),
        ("1 > 0", "names no metric"),
        ("catraca_units{state=held}", "matches nothing"),
        ("catraca_units ; 1", "';"),
    ],
)
def test_a_wrong_expression_is_found(text: str, problem: str) -> None:
    assert any(problem in found for found in problems(text, known(), VALUES))


def test_an_expression_is_read_as_it_is_written() -> None:
    found = parse('sum by (a, b) (rate(m_total{x="1", y=~"2|3"}[5m])) / on (a) group_left (c) max(n) > 0.5')

    rate, plain = found.selectors
    assert (rate.metric, rate.has_range, rate.within) == ("m_total", True, ("sum", "rate"))
    assert rate.matchers == [("x", "=", "1"), ("y", "=~", "2|3")]
    assert (plain.metric, plain.has_range, plain.within) == ("n", False, ("max",))
    assert found.grouped == {"a", "b", "c"}
    with pytest.raises(Malformed):
        parse("sum by a (m)")


@pytest.mark.parametrize("body", scaled_objects(), ids=lambda body: body["metadata"]["name"])
def test_keda_scales_a_service_by_what_is_documented(body: dict[str, Any]) -> None:
    service = body["metadata"]["name"]
    assert body["metadata"]["labels"] == {PART_OF: "catraca", COMPONENT: service}
    assert body["spec"]["scaleTargetRef"] == {"name": service}
    # The operator owns it.
    assert "minReplicaCount" not in body["spec"]
    (trigger,) = body["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert problems(query, known(), VALUES) == []
    assert re.search(rf"^\| {service} \| .* \| `{re.escape(query)}` \|$", DOCUMENTED, re.MULTILINE)


def test_keda_may_scale_every_service() -> None:
    assert [body["metadata"]["name"] for body in scaled_objects()] == list(SERVICES)


def test_the_dashboard_shows_every_metric() -> None:
    asked = {each.metric for text in expressions() for each in parse(text.values[0]).selectors}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known() if name.startswith("catraca_")}
    assert ours - shown == set()


def test_panels_have_their_own_place_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_a_legend_names_only_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel["targets"]:
            grouped = parse(target["expr"]).grouped or {"job", "instance"}
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= grouped, target


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    grouped = parse(rule["expr"]).grouped | TARGET
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= grouped
    assert f"### {rule['alert']}\n" in DOCUMENTED


def test_every_metric_is_documented_and_none_that_is_not_there() -> None:
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known() if name.startswith("catraca_")}
    listed = set(re.findall(r"^\| `(catraca_\w+)` ", DOCUMENTED, re.MULTILINE))
    assert listed == ours
    alerts = {rule["alert"] for rule in rules()}
    assert set(re.findall(r"^### (Catraca\w+)$", DOCUMENTED, re.MULTILINE)) == alerts
