"""Two hundred sales at once: how long until each is heeded, and what each costs the API server."""

import re
import time

import pytest

from tests.cluster.estate import Estate, histogram, manifest, samples
from tests.cluster.plane.api import Api
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import aside

MANY = 200
PATIENCE_S = 150.0
SOON = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}
REQUESTS = re.compile(r'^apiserver_request_total\{(.*resource="ticketsales".*)\} (\S+)$', re.MULTILINE)
WATCHING = re.compile(r'verb="(LIST|WATCH|CONNECT)"')


def asked(api: Api) -> float:
    """How often the API server was asked about TicketSales, watches and lists left aside."""
    found = REQUESTS.findall(api.text("/metrics"))
    return sum(float(count) for labels, count in found if not WATCHING.search(labels))


@pytest.mark.timeout(300)
async def test_two_hundred_sales_at_once(estate: Estate, name: str) -> None:
    names = [f"{name}-{number}" for number in range(MANY)]
    with estate.operated(CATRACA_IDLE_S="30") as operator:
        began, before = time.monotonic(), asked(estate.api)
        for each in names:
            await aside(estate.apply, manifest(each, **SOON))
        await aside(
            eventually,
            lambda: sum(
                samples(operator).get(each, 0) for each in samples(operator) if "wait_seconds_count" in each
            ),
            lambda done: done >= MANY,
            PATIENCE_S,
        )
        took_s = time.monotonic() - began
        calls = (asked(estate.api) - before - MANY) / MANY
        count, most_s = histogram(operator, "catraca_operator_wait_seconds")
        for each in (names[0], names[-1]):
            assert estate.condition(each, "SpecValid")["status"] == "True"
        print(f"{MANY} sales in {took_s:.1f} s; each heeded within {most_s} s; {calls:.2f} writes each")
        assert count >= MANY
        # A finalizer, a status; and a little for what is told of 400 sales that want the same replicas.
        assert calls <= 4
        assert samples(operator)["catraca_operator_sales"] == MANY
