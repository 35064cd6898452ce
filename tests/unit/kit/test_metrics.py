"""The page of metrics: what it shows of a store that answers, and of one that does not."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Gauge

from services.kit import metrics
from services.kit.batcher import Batcher
from services.kit.settings import SettingError


@pytest.fixture
def family() -> Gauge:
    return Gauge("catraca_test", "A test.", ["sale", "state"], registry=CollectorRegistry())


def shown(family: Gauge) -> dict[tuple[str, ...], float]:
    """What the family shows, by its labels' values."""
    return {tuple(each.labels.values()): each.value for of in family.collect() for each in of.samples}


def sample(name: str, **labels: str) -> float:
    """A value on this process's page; 0 where nothing was counted yet."""
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_is_gone_is_not_shown_any_more(family: Gauge) -> None:
    table = metrics.Shown(family)
    table.show({("a", "held"): 1, ("b", "held"): 2})

    table.show({("b", "held"): 3})

    assert shown(family) == {("b", "held"): 3}


def test_two_tables_of_one_family_leave_each_other_alone(family: Gauge) -> None:
    one, other = metrics.Shown(family), metrics.Shown(family)
    one.show({("a", "held"): 1})
    other.show({("b", "sold"): 2})

    one.show({})

    assert shown(family) == {("b", "sold"): 2}


def test_sales_are_bounded_and_stay_the_same_ones() -> None:
    sales = [f"sale-{number:04}" for number in range(2 * metrics.MOST_SALES)]

    assert metrics.bounded(reversed(sales)) == sales[: metrics.MOST_SALES]


async def test_a_reading_that_fails_or_hangs_costs_only_its_own_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "READING_S", 0.05)
    read: list[str] = []

    async def good() -> None:
        read.append("good")

    async def down() -> None:
        raise ConnectionError("the store is down")

    async def hangs() -> None:
        await asyncio.Event().wait()

    with (
        metrics.read_before_scrape(down),
        metrics.read_before_scrape(hangs),
        metrics.read_before_scrape(good),
    ):
        page = await metrics.page()
    await metrics.page()

    assert read == ["good"]
    assert b"catraca_rpc_duration_seconds" in page


async def test_health_follows_the_service() -> None:
    serving = [True]
    async with TestClient(TestServer(metrics.application(lambda: serving[0]))) as client:
        assert (await client.get("/healthz")).status == 200
        serving[0] = False
        assert (await client.get("/healthz")).status == 503
        answer = await client.get("/metrics")
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:99999", "127.0.0.1:", "192.0.2.1:9000"])
async def test_an_address_that_cannot_be_listened_on_stops_the_start(listen: str) -> None:
    class Settings:
        metrics_listen = listen

    with pytest.raises(SettingError, match="CATRACA_METRICS_LISTEN"):
        async with metrics.listening(Settings(), lambda: True):
            pass


async def test_without_a_setting_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings:
        metrics_listen = None

    def forbidden(*_: Any) -> Any:
        raise AssertionError("it listens")

    monkeypatch.setattr(metrics.web, "AppRunner", forbidden)
    async with metrics.listening(Settings(), lambda: True):
        pass


async def test_a_batch_is_measured_by_its_batchers_name() -> None:
    async def run(items: list[int]) -> list[int]:
        return items

    before = sample("catraca_batch_items_sum", batcher="tested")
    await Batcher(run, name="tested").submit_many([1, 2, 3])

    assert sample("catraca_batch_items_sum", batcher="tested") - before == 3
    assert sample("catraca_batch_run_seconds_count", batcher="tested") >= 1
