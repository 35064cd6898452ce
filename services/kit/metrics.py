"""What this process counts and measures, and the page where Prometheus reads it.

Names begin with `catraca_` and end with the base unit. Labels are bounded: methods, words, steps, and sales
up to `MOST_SALES`; never a buyer or an order. What the stores know (a line's length, units sold) is not
tracked on the way but read when the page is asked for, so it costs buyers nothing.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from services.kit import http
from services.kit.logs import get_logger

# Beyond so many sales at once the rest is left out: a page that grows without bound stops being read at all.
MOST_SALES = 500
# A store that is slower leaves its numbers out of this page; a scrape gives up after 10 s.
READING_S = 3.0

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SCRIPT_BUCKETS_S = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0)
DELAY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)
ITEM_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_log = get_logger("metrics")

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)


def counter(name: str, doc: str, *labels: str) -> Counter:
    """A counter; its name ends with `_total`."""
    return Counter(name, doc, labels, registry=REGISTRY)


def gauge(name: str, doc: str, *labels: str) -> Gauge:
    """A number that goes up and down."""
    return Gauge(name, doc, labels, registry=REGISTRY)


def histogram(name: str, doc: str, *labels: str, buckets: Sequence[float] = LATENCY_BUCKETS_S) -> Histogram:
    """A distribution; its name ends with the unit."""
    return Histogram(name, doc, labels, buckets=buckets, registry=REGISTRY)


RPC_DURATION = histogram(
    "catraca_rpc_duration_seconds", "Time a unary call took, refused ones included.", "method"
)
RPC_REFUSALS = counter(
    "catraca_rpc_refusals_total", "Calls that ended with a refusal; INTERNAL is a defect.", "method", "reason"
)
RPC_ITEM_REFUSALS = counter(
    "catraca_rpc_item_refusals_total",
    "Items of a batch call that were refused, while the call went on.",
    "method",
    "reason",
)
RPC_STREAMS = gauge("catraca_rpc_streams_open", "Streams that are open.", "method")

BATCH_ITEMS = histogram(
    "catraca_batch_items", "Items that ran together.", "batcher", buckets=[float(n) for n in ITEM_BUCKETS]
)
BATCH_LINGER = histogram(
    "catraca_batch_linger_seconds",
    "Time a batch waited for company before it ran.",
    "batcher",
    buckets=SCRIPT_BUCKETS_S,
)
BATCH_RUN = histogram("catraca_batch_run_seconds", "Time a batch took to run.", "batcher")
SCRIPT = histogram(
    "catraca_script_seconds",
    "Time from sending a script's commands to Redis until the answer was read.",
    "script",
    buckets=SCRIPT_BUCKETS_S,
)

RELAY_DELAY = histogram(
    "catraca_relay_delay_seconds",
    "Time from a change of state until JetStream had it.",
    "stream",
    buckets=DELAY_BUCKETS_S,
)
RELAY_CONFLICTS = counter(
    "catraca_relay_conflicts_total",
    "Publications that the fence refused: another replica was faster.",
    "stream",
)
RELAY_UNPUBLISHED = gauge(
    "catraca_relay_unpublished_changes",
    "Changes of a sale that JetStream does not have yet.",
    "stream",
    "sale",
)
STORE_BROKEN = gauge(
    "catraca_store_broken",
    "1 while a sale's store has lost changes that were published: it is refused until it is rebuilt.",
    "store",
    "sale",
)
REBUILDS = counter(
    "catraca_store_rebuilds_total",
    "Times this replica filled the store of a sale again that had lost changes.",
    "store",
)
CONSUMER_DELAY = histogram(
    "catraca_consumer_delay_seconds",
    "Time from a message's arrival in the stream until its handler was done with it.",
    "durable",
    buckets=DELAY_BUCKETS_S,
)
CONSUMER_PENDING = gauge(
    "catraca_consumer_pending_messages",
    "Messages that a consumer has not been handed yet, or is not done with.",
    "durable",
)
CONSUMER_OUTCOMES = counter(
    "catraca_consumer_outcomes_total",
    "What became of delivered messages: done, again, failed (the handler's store was down), dead.",
    "durable",
    "outcome",
)


def count_item_refusals(method: str, words: Iterable[str]) -> None:
    """Count refused items; `method` is "/package.Service/Method", as of calls."""
    for word, times in collections.Counter(words).items():
        RPC_ITEM_REFUSALS.labels(method, word).inc(times)


# ---- what is read when the page is asked for ----

Reading = Callable[[], Awaitable[None]]

_readings: dict[Reading, None] = {}


@contextlib.contextmanager
def read_before_scrape(reading: Reading) -> Iterator[None]:
    """Within the block, `reading` sets gauges each time the page is asked for."""
    _readings[reading] = None
    try:
        yield
    finally:
        _readings.pop(reading, None)


class Shown:
    """Values of a gauge by its labels. What is gone from one reading to the next is not shown any more."""

    def __init__(self, family: Gauge) -> None:
        self._family = family
        self._labels: set[tuple[str, ...]] = set()

    def show(self, rows: Mapping[tuple[str, ...], float]) -> None:
        """Show these and no others."""
        for gone in self._labels - rows.keys():
            self._family.remove(*gone)
        for labels, value in rows.items():
            self._family.labels(*labels).set(value)
        self._labels = set(rows)


def bounded(sales: Iterable[str]) -> list[str]:
    """The sales that are shown: all of them, or the first by name where there are too many."""
    return sorted(sales)[:MOST_SALES]


async def page() -> bytes:
    """The page as Prometheus reads it."""
    await asyncio.gather(*(_read(reading) for reading in tuple(_readings)))
    return generate_latest(REGISTRY)


async def _read(reading: Reading) -> None:
    try:
        async with asyncio.timeout(READING_S):
            await reading()
    except Exception as problem:
        # The rest of the page is needed most when a store is down.
        _log.warning("not_read", problem=repr(problem))


# ---- the listener ----


class ListenSettings(Protocol):
    """What the listener reads of a service's settings."""

    @property
    def metrics_listen(self) -> str | None: ...


@contextlib.asynccontextmanager
async def listening(settings: ListenSettings, healthy: Callable[[], bool]) -> AsyncIterator[None]:
    """Serve `/metrics` and `/healthz` for the block, where the settings name an address.

    Raises SettingError where this process cannot listen there.
    """
    if settings.metrics_listen is None:
        yield
        return
    async with http.listening(application(healthy), settings.metrics_listen, "metrics_listen"):
        yield


def application(healthy: Callable[[], bool]) -> web.Application:
    """The page, and whether the process serves (200) or is on its way out (503)."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await page(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_: web.Request) -> web.Response:
        if healthy():
            return web.json_response({"status": "ok"})
        return web.json_response({"status": "draining"}, status=503)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", health)
    return app
