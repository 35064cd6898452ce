"""Many sales: how long until each is heeded, what each costs the API server, and that memory stays flat."""

import time

import pytest

from local.stack import Stack
from tests.cluster.estate import Estate, histogram, manifest, samples
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.churn import churn
from tests.cluster.ticketsales.conftest import aside
from tests.cluster.ticketsales.costs import Costs, Sample, asked

MANY = 200
PATIENCE_S = 150.0
SOON = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}
# Half an hour of it is `make churn`; this is enough to see that sales come to their ends and leave nothing.
MINUTES = 0.4
# In so short a time the allocator still takes its share; half an hour may take no more than this either.
MOST_MB = 8.0


@pytest.mark.timeout(300)
async def test_two_hundred_sales_at_once(estate: Estate, name: str) -> None:
    names = [f"{name}-{number}" for number in range(MANY)]
    with estate.operated(CATRACA_IDLE_S="30") as operator:
        began, before = time.monotonic(), asked(estate.api)
        first = Sample(0, samples(operator), {})
        for each in names:
            await aside(estate.apply, manifest(each, **SOON))
        await aside(
            eventually,
            lambda: sum(value for each, value in samples(operator).items() if "wait_seconds_count" in each),
            lambda done: done >= MANY,
            PATIENCE_S,
        )
        took_s = time.monotonic() - began
        costs = Costs(
            sales={"at once": MANY},
            failures=[],
            samples=[first, Sample(took_s, samples(operator), {})],
            asked=asked(estate.api) - before - MANY,
        )
        print(costs.report())
        count, _ = histogram(operator, "catraca_operator_wait_seconds")
        for each in (names[0], names[-1]):
            assert estate.condition(each, "SpecValid")["status"] == "True"
        assert count >= MANY
        # A finalizer, a status; and a little for what is told of 400 sales that want the same replicas.
        assert costs.asked / MANY <= 4
        assert samples(operator)["catraca_operator_sales"] == MANY


@pytest.mark.timeout(300)
async def test_sales_that_come_and_go_leave_nothing(stack: Stack, estate: Estate, name: str) -> None:
    with estate.operated() as operator:
        costs = await aside(churn, stack, estate, operator, MINUTES, name)
        print(costs.report())
        assert costs.problems(MOST_MB) == []
        # Each way of coming and going was gone to its end.
        assert len(costs.sales) == 6
        first, last = costs.samples[1].page, costs.samples[-1].page
        assert last["process_open_fds"] <= first["process_open_fds"] + 4
    assert estate.names() == []
