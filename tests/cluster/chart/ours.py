"""Our own programs among what the chart renders, and the settings that each is told."""

from importlib import import_module
from typing import Any

from local.cluster import check, farewell, prepare, secrets, tokens
from local.issuer import __main__ as issuer
from local.sandbox.config import SandboxSettings
from tests.cluster.chart.charts import example, pods

Json = dict[str, Any]
OURS: dict[str, type[Any]] = {
    "queue": import_module("services.queue.config").Settings,
    "inventory": import_module("services.inventory.config").InventorySettings,
    "checkout": import_module("services.checkout.config").Settings,
    "notifier": import_module("services.notifier.config").Settings,
    "operator": import_module("catraca_operator.config").Settings,
    "prepare": prepare.Settings,
    "secrets": secrets.Settings,
    "tokens": tokens.Settings,
    "test": check.Settings,
    "farewell": farewell.Settings,
    "issuer": issuer.Settings,
    "sandbox": SandboxSettings,
}
"""What each of our programs is told."""


def our_pods(name: str) -> list[tuple[str, Json]]:
    """The components that are ours, and their pods, as the example renders them."""
    return [(component, pod) for component, pod in pods(example(name)) if component in OURS]
