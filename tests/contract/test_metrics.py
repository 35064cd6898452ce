"""Every metric's name ends with its unit, it says what it is, and its labels cannot grow without bound."""

import importlib
import re
from pathlib import Path

import pytest
from prometheus_client import Metric

from services.kit import metrics

ROOT = Path(__file__).parents[2]
UNITS = (
    "seconds",
    "items",
    "messages",
    "changes",
    "states",
    "buyers",
    "units",
    "orders",
    "place",
    "buyers_per_second",
    "replicas",
    "sales",
)
# What is counted in itself or is a fact: its name says it.
PLAIN = {
    "catraca_units",
    "catraca_orders",
    "catraca_line_phase",
    "catraca_line_leader",
    "catraca_line_serving_place",
    "catraca_store_broken",
    "catraca_turns_running",
    "catraca_claims_open",
    "catraca_rpc_streams_open",
    "catraca_saga_orders_in_flight",
}
# Each has as many values as the code or the contract has, but for `sale`, which metrics.bounded bounds.
LABELS = {
    "act", "batcher", "boundary", "call", "command", "durable", "method", "outcome", "phase", "provider",
    "reason", "sale", "script", "service", "state", "step", "store", "stream", "word",
}  # fmt: skip


def families() -> list[Metric]:
    """Every family of ours."""
    for path in (ROOT / "services").glob("*/metrics.py"):
        importlib.import_module(f"services.{path.parent.name}.metrics")
    importlib.import_module("catraca_operator.metrics")
    return [family for family in metrics.REGISTRY.collect() if family.name.startswith("catraca_")]


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_the_name_ends_with_a_unit(family: Metric) -> None:
    assert re.fullmatch(r"catraca(_[a-z]+)+", family.name)
    if family.type == "histogram":
        assert family.name.endswith(("_seconds", "_items"))
    elif family.type == "gauge":
        assert family.name in PLAIN or family.name.endswith(UNITS)
    else:
        # The library takes the ending `_total` off the family and puts it on its samples.
        assert family.type == "counter"


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_it_says_what_it_is(family: Metric) -> None:
    assert re.fullmatch(r"[A-Z0-9].*\.", family.documentation)


def test_labels_are_of_the_bounded_kinds() -> None:
    used = {
        label
        for collector in metrics.REGISTRY._collector_to_names
        for label in getattr(collector, "_labelnames", ())
    }
    assert used == LABELS
