"""Reads the services' pages of metrics, every replica of each, as Prometheus does."""

import math
from collections import Counter
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
OF_CALLS = ("catraca_rpc_refusals_total", "catraca_rpc_item_refusals_total")
OF_WEBHOOKS = "catraca_webhooks_total"


async def read_page(http: aiohttp.ClientSession, url: str) -> Samples:
    """Every sample of one page."""
    async with http.get(url) as answer:
        assert answer.status == 200
        families = text_string_to_metric_families(await answer.text())
        return {
            (each.name, frozenset(each.labels.items())): each.value
            for family in families
            for each in family.samples
        }


async def read(house: Any, service: str) -> Samples:
    """Every sample of a service, summed over its replicas."""
    found: Samples = {}
    async with aiohttp.ClientSession() as http:
        for url in house.running.metrics[service]:
            for key, value in (await read_page(http, url)).items():
                found[key] = found.get(key, 0.0) + value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    wanted = labels.items()
    return math.fsum(
        value for (found, of), value in samples.items() if found == name and set(wanted) <= set(of)
    )


async def refusals(house: Any) -> tuple[Counter[str], Counter[str]]:
    """How often each reason was given so far, by all replicas: to calls and their items, and to webhooks."""
    calls: Counter[str] = Counter()
    webhooks: Counter[str] = Counter()
    for service in house.running.metrics:
        for (name, labels), value in (await read(house, service)).items():
            if name in OF_CALLS:
                calls[dict(labels)["reason"]] += round(value)
            elif name == OF_WEBHOOKS and ("outcome", "taken") not in labels:
                webhooks[dict(labels)["outcome"]] += round(value)
    return calls, webhooks
