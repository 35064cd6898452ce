"""The public standing of a sale: through the edge without a token, and behind a cache that many read from."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local.servers import binaries, ports
from local.servers.envoy import endpoints
from local.servers.server import Server
from local.stack import Stack

READERS = 40

CACHE = """\
admin: {{ address: {{ socket_address: {{ address: {host}, port_value: {admin} }} }} }}
static_resources:
  listeners:
    - name: cache
      address: {{ socket_address: {{ address: {host}, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: cache
                http_filters:
                  - name: envoy.filters.http.cache
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig
                      typed_config:
                        "@type": type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
                route_config:
                  virtual_hosts:
                    - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: / }}, route: {{ cluster: origin }} }}] }}
  clusters:
    - name: origin
      type: STATIC
      load_assignment: {{ cluster_name: origin, endpoints: [{{ lb_endpoints: {origin} }}] }}
"""  # noqa: E501 - Envoy's type names are that long


class Cache(Server):
    """A caching proxy that knows nothing of Catraca: Envoy with its own cache."""

    def __init__(self, folder: Path, origin: str) -> None:
        super().__init__("cache", folder)
        self.admin = ports.reserve()
        self.origin = origin

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def prepare(self) -> None:
        text = CACHE.format(
            host=ports.HOST, port=self.port, admin=self.admin, origin=endpoints([self.origin])
        )
        (self.folder / "cache.yaml").write_text(text)

    def command(self) -> Sequence[str]:
        config = str(self.folder / "cache.yaml")
        return [str(binaries.envoy()), "--config-path", config, "--concurrency", "1", "--disable-hot-restart"]

    def probe(self) -> None:
        self.connect().close()

    async def asked(self, browser: aiohttp.ClientSession, status: str = "completed") -> int:
        """How many requests came through to the origin; "304" counts only those that brought nothing new."""
        async with browser.get(
            f"http://{ports.HOST}:{self.admin}/stats?filter=^cluster.origin.upstream_rq_{status}$"
        ) as answer:
            text = (await answer.text()).strip()
            return int(text.rpartition(" ")[2]) if text else 0


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def cache(stack: Stack, tmp_path: Path) -> AsyncIterator[Cache]:
    """A cache in front of the edge."""
    proxy = Cache(tmp_path, stack.parts["edge"].addresses[0])
    await proxy.up()
    yield proxy
    await asyncio.to_thread(proxy.stop)


def names_anyone(text: str, *names: str) -> bool:
    return any(name in text for name in names)


async def test_anybody_reads_it_without_a_token_from_any_page(
    house: Any, browser: aiohttp.ClientSession
) -> None:
    name = await house.sale(opens_in_s=600)
    buyer = house.buyer(name, "somebody-with-a-name")
    await buyer.join()
    url = f"{house.running.edge_url}/standing/{name}"

    async with browser.get(url, headers={"Origin": "https://elsewhere.example"}) as answer:
        said = await answer.json()
        text = await answer.text()

        assert answer.status == HTTPStatus.OK
        assert answer.headers["Cache-Control"] == "public, max-age=1"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Date" in answer.headers
    assert (said["phase"], said["joined"], said["serving"]) == ("LOBBY", 1, 0)
    assert not names_anyone(text, "somebody-with-a-name")


async def test_whoever_has_it_already_is_told_so(house: Any, browser: aiohttp.ClientSession) -> None:
    name = await house.sale(opens_in_s=600)
    url = f"{house.running.edge_url}/standing/{name}"
    async with browser.get(url) as answer:
        etag = answer.headers["ETag"]
    assert etag.startswith('"')

    for known in (etag, f'"something", {etag}', f"W/{etag}", "*"):
        async with browser.get(url, headers={"If-None-Match": known}) as answer:
            assert answer.status == HTTPStatus.NOT_MODIFIED
            assert answer.headers["ETag"] == etag
            assert await answer.read() == b""
    await house.buyer(name).join()
    async with asyncio.timeout(30):
        while True:
            async with browser.get(url, headers={"If-None-Match": etag}) as answer:
                if answer.status == HTTPStatus.OK:
                    break
            await asyncio.sleep(0.05)
    assert answer.headers["ETag"] != etag


async def test_what_has_no_standing_is_refused_by_name(house: Any, browser: aiohttp.ClientSession) -> None:
    for sale, reason in (
        ("no-such-sale", "SALE_NOT_FOUND"),
        ("..%20*>", "SALE_NOT_FOUND"),
        (await house.sale(line=False), "NO_LINE"),
    ):
        async with browser.get(f"{house.running.edge_url}/standing/{sale}") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (HTTPStatus.NOT_FOUND, reason)
    async with browser.post(f"{house.running.edge_url}/standing/{sale}") as answer:
        assert answer.status == HTTPStatus.METHOD_NOT_ALLOWED


async def test_a_cache_carries_a_crowd_and_keeps_up(
    house: Any, cache: Cache, browser: aiohttp.ClientSession
) -> None:
    name = await house.sale(opens_in_s=600)
    url = f"{cache.url}/standing/{name}"

    async def read(**headers: str) -> tuple[int, aiohttp.ClientResponse, Any]:
        async with browser.get(url, headers=headers) as answer:
            body = await answer.json() if answer.status == HTTPStatus.OK else None
            return answer.status, answer, body

    _, first, said = await read()
    assert said["joined"] == 0
    crowd = await asyncio.gather(*(read() for _ in range(READERS)))
    assert {status for status, _, _ in crowd} == {HTTPStatus.OK}
    assert 1 <= await cache.asked(browser) < READERS / 4

    # Stale after a second, it is asked for anew; nothing has changed, and the time moves on nevertheless.
    await asyncio.sleep(2.1)
    status, again, said = await read()
    assert (status, said["joined"], again.headers["ETag"]) == (HTTPStatus.OK, 0, first.headers["ETag"])
    assert await cache.asked(browser, "304") >= 1
    moment, later = (parsedate_to_datetime(each.headers["Date"]) for each in (first, again))
    assert later > moment
    status, _, _ = await read(**{"If-None-Match": first.headers["ETag"]})
    assert status == HTTPStatus.NOT_MODIFIED

    await house.buyer(name).join()
    async with asyncio.timeout(30):
        while said["joined"] == 0:
            await asyncio.sleep(0.2)
            _, newer, said = await read()
    assert newer.headers["ETag"] != first.headers["ETag"]
