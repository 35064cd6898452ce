"""Every link with TLS works, and refuses a wrong CA, a wrong name, an ended certificate, a plain speaker."""

import asyncio
import contextlib
import dataclasses
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from local.authority import Authority, Certificate
from local.servers.nats import Nats
from local.servers.postgres import Postgres
from local.servers.redis import Redis
from services.checkout.config import Settings as CheckoutSettings
from services.kit import http, tls
from services.kit.channels import Channels
from services.kit.errors import Refusal
from services.kit.identity import Verifier
from services.kit.keys import LiveRing
from services.kit.redis import connect_to, require_noeviction
from services.kit.server import Server
from services.kit.settings import CommonSettings, SettingError
from services.kit.streams import connect_nats
from tests.integration.kit.conftest import AUDIENCE, ISSUER, Issuer
from tests.integration.kit.endings import ending

HEALTH = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
# What is wrong with a server's certificate, and how a client says so.
FAULTS = {
    "wrong CA": "local issuer certificate|self-signed certificate in",
    "wrong name": "not valid for",
    "ended": "certificate has expired",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def believing(settings: CommonSettings, authority: Authority) -> CommonSettings:
    """Settings that believe the authority, with a certificate of their own."""
    return showing(settings, authority, "queue")


def showing(settings: CommonSettings, authority: Authority, name: str) -> CommonSettings:
    own = authority.issue(name)
    return dataclasses.replace(
        settings, tls_cert_file=own.cert, tls_key_file=own.key, tls_ca_file=authority.ca
    )


def faulty(fault: str, authority: Authority, folder: Path) -> Certificate:
    """A certificate with this fault, for a server."""
    if fault == "wrong CA":
        return dataclasses.replace(Authority(folder / "another").issue("server"))
    if fault == "wrong name":
        return authority.issue("server", ["elsewhere.test", "127.0.0.2"])
    return authority.issue("server", lives=timedelta(minutes=-1))


# ---- gRPC ----


@asynccontextmanager
async def serving(settings: CommonSettings) -> AsyncIterator[str]:
    server = Server("queue", settings, [])
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.abandon()


@asynccontextmanager
async def raw_server(certificate: Certificate) -> AsyncIterator[str]:
    """A gRPC server that shows whatever certificate it is given."""
    server = grpc.aio.server()
    pair = (certificate.key.read_bytes(), certificate.cert.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def call(settings: CommonSettings, target: str) -> bytes:
    """Asks for health as one service calls another."""
    channels = Channels(settings.service_token_file, tls.ChannelFiles(settings))
    try:
        answer = await channels.channel(target).unary_unary(HEALTH)(b"", timeout=10)
        assert isinstance(answer, bytes)
        return answer
    finally:
        await channels.close()


@pytest.mark.parametrize("mutual", [False, True])
async def test_services_call_each_other(
    believing: CommonSettings, settings: CommonSettings, authority: Authority, mutual: bool
) -> None:
    strict = dataclasses.replace(believing, tls_client_cert_required=mutual)
    async with serving(strict) as one, serving(strict) as other:
        targets = [one, f"dns:///localhost:{one.split(':')[1]}", f"ipv4:{one},{other}"]
        for target in targets:
            assert await call(believing, target) == SERVING
        nameless = dataclasses.replace(settings, tls_ca_file=authority.ca)
        if mutual:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(nameless, one)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        else:
            assert await call(nameless, one) == SERVING


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_service_with_a_faulty_certificate_is_not_called(
    believing: CommonSettings, authority: Authority, tmp_path: Path, fault: str
) -> None:
    async with raw_server(faulty(fault, authority, tmp_path)) as target:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(believing, target)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    said = {"wrong CA": "CERTIFICATE_VERIFY_FAILED", "wrong name": "Hostname", "ended": "has expired"}[fault]
    assert said in (refused.value.details() or "")


async def test_plain_and_ciphered_do_not_meet(believing: CommonSettings, settings: CommonSettings) -> None:
    async with serving(believing) as ciphered, serving(settings) as plain:
        for who, target in ((settings, ciphered), (believing, plain)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(who, target)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_another_ca_is_refused(believing: CommonSettings, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "another").issue("stranger")
    strict = dataclasses.replace(believing, tls_client_cert_required=True)
    posing = dataclasses.replace(believing, tls_cert_file=stranger.cert, tls_key_file=stranger.key)
    async with serving(strict) as target:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(posing, target)
        assert await call(believing, target) == SERVING


async def serial_at(address: str, authority: Authority) -> str:
    """The serial number of the certificate that is shown there."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    host, _, port = address.partition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    serial = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return str(serial)


async def test_a_renewed_certificate_is_shown_without_a_restart(
    believing: CommonSettings, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.tls.LOOK_AGAIN_S", 0.0)
    shown: list[bytes] = []

    class Names(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            # The channel watches the server's health too: an empty answer there would say "not serving".
            if details.method != "/any/thing":
                return None

            async def answer(_request: bytes, context: Any) -> bytes:
                shown.append(context.auth_context()["x509_common_name"][0])
                return b""

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Names(),))
    strict = dataclasses.replace(showing(believing, authority, "server"), tls_client_cert_required=True)
    credentials = tls.server_credentials(strict)
    assert credentials is not None
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    channels = Channels(believing.service_token_file, tls.ChannelFiles(believing))
    try:
        ask = channels.channel(f"127.0.0.1:{port}").unary_unary("/any/thing")
        await ask(b"", timeout=10)
        renewed = authority.issue("renewed")
        assert believing.tls_cert_file is not None and believing.tls_key_file is not None
        renewed.key.replace(believing.tls_key_file)
        renewed.cert.replace(believing.tls_cert_file)
        await ask(b"", timeout=10)
    finally:
        await channels.close()
        await server.stop(None)
    assert shown == [b"queue", b"renewed"]


async def test_a_server_shows_its_renewed_certificate(
    believing: CommonSettings, authority: Authority
) -> None:
    page = web.Application()
    context = tls.for_clients(believing)
    async with serving(believing) as target:
        before = await serial_at(target, authority)
        renewed = authority.issue("queue")
        assert renewed.cert == believing.tls_cert_file
        assert await serial_at(target, authority) != before
    free = await _free_address()
    async with http.listening(page, free, "webhook_listen", context):
        first = await serial_at(free, authority)
        authority.issue("queue")
        assert await serial_at(free, authority) != first


async def _free_address() -> str:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"127.0.0.1:{port}"


# ---- Redis, NATS, Postgres, the issuer ----


@dataclasses.dataclass
class Link:
    """One server behind TLS: where it is, and the use of it."""

    url: str
    """As a setting has it, with TLS."""
    plain_url: str
    """The same address without TLS."""
    use: Callable[[CommonSettings], Awaitable[None]]
    setting: str
    shown: list[str] | None = None
    secret: str = ""

    def settings(self, settings: CommonSettings, url: str = "") -> CommonSettings:
        return dataclasses.replace(settings, **{self.setting: url or self.url})


async def use_redis(settings: CommonSettings) -> None:
    client = connect_to(settings)
    try:
        await require_noeviction(client)
    finally:
        await client.aclose()


async def use_nats(settings: CommonSettings) -> None:
    client = await connect_nats(settings, "queue", tls.to_nats(settings))
    await client.flush()
    await client.close()


async def use_postgres(settings: Any) -> None:
    context = tls.to_postgres(settings)
    try:
        connection = await asyncpg.connect(settings.postgres_url, ssl=context)
    except Exception as problem:
        why = tls.distrust(problem)
        if why is not None:
            raise tls.distrusted("postgres_url", "postgres_ca_file", why) from None
        raise
    assert await connection.fetchval("select 1") == 1
    await connection.close()


async def use_issuer(settings: CommonSettings) -> None:
    keys = LiveRing(settings.buyer_hash_key_file, "buyer_hash_key_file")
    verifier = Verifier(
        *(settings.jwks_url, ISSUER, AUDIENCE, keys),
        **{"fresh_s": 60, "remember_s": 60, "remember_most": 10},
        context=tls.to_issuer(settings),
    )
    token = settings.service_token_file.read_text().strip()
    await verifier.verify([("authorization", f"Bearer {token}")])


Opener = Callable[[Certificate], Any]


@pytest.fixture(params=["redis", "nats", "postgres", "jwks"])
def open_link(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the link behind a certificate; clients are asked for theirs and need not have one."""

    @asynccontextmanager
    async def redis(certificate: Certificate) -> AsyncIterator[Link]:
        server: Redis = request.getfixturevalue("redis_server")
        async with ending(server.address, certificate) as end:
            url = server.url_for("queue").replace(server.address, end.address)
            ciphered = url.replace("redis://", "rediss://")
            yield Link(ciphered, url, use_redis, "redis_url", end.shown, server.password_of("queue"))

    @asynccontextmanager
    async def nats(certificate: Certificate) -> AsyncIterator[Link]:
        server = Nats(tmp_path / "nats", certificate=certificate)
        await asyncio.to_thread(server.start)
        try:
            await _listens(server.address)
            plain = server.url_for("queue").replace("tls://", "nats://")
            yield Link(
                server.url_for("queue"), plain, use_nats, "nats_url", None, server.password_of("queue")
            )
        finally:
            await asyncio.to_thread(server.stop)

    @asynccontextmanager
    async def postgres(certificate: Certificate) -> AsyncIterator[Link]:
        server: Postgres = request.getfixturevalue("postgres_server")
        async with ending(server.address, certificate, postgres=True) as end:
            url = server.url.replace(server.address, end.address)
            secret = server.url.split(":")[2].split("@")[0]
            ciphered, plain = f"{url}?sslmode=verify-full", f"{url}?sslmode=disable"
            yield Link(ciphered, plain, use_postgres, "postgres_url", end.shown, secret)

    @asynccontextmanager
    async def jwks(certificate: Certificate) -> AsyncIterator[Link]:
        issuer: Issuer = request.getfixturevalue("issuer")
        application = web.Application()
        application.router.add_get("/jwks", issuer.answer)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.cert, certificate.key)
        server = TestServer(application, host="127.0.0.1")
        await server.start_server(ssl=context)
        try:
            url = f"https://127.0.0.1:{server.port}/jwks"
            yield Link(url, url.replace("https", "http"), use_issuer, "jwks_url")
        finally:
            await server.close()

    return {"redis": redis, "nats": nats, "postgres": postgres, "jwks": jwks}[request.param]


async def _listens(address: str) -> None:
    host, _, port = address.partition(":")
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                return
            await asyncio.sleep(0.02)


def with_postgres(settings: CommonSettings) -> Any:
    """The settings with checkout's fields, which name Postgres."""
    nowhere = dict.fromkeys(("admission_key_file", "ticket_key_file", "sandbox_key_file"), Path("/nowhere"))
    unused = dict.fromkeys(("postgres_url", "inventory_target", "webhook_url", "sandbox_url"), "unused")
    return CheckoutSettings(**{**vars(settings), **nowhere, **unused})


async def test_a_link_with_tls_works(
    open_link: Opener, believing: CommonSettings, settings: CommonSettings, authority: Authority
) -> None:
    async with open_link(authority.issue("server")) as link:
        await link.use(link.settings(with_postgres(believing)))
        # A client's own certificate went with it, to a server that asks.
        assert link.shown in (None, ["queue"])
        own = f"{link.setting.removesuffix('_url')}_ca_file"
        alone = dataclasses.replace(with_postgres(settings), **{own: authority.ca})
        await link.use(link.settings(alone))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_link_refuses_a_faulty_certificate_by_name(
    open_link: Opener, believing: CommonSettings, authority: Authority, tmp_path: Path, fault: str
) -> None:
    async with open_link(faulty(fault, authority, tmp_path)) as link:
        with capture_logs() as logs, pytest.raises((SettingError, Refusal)) as caught:
            async with asyncio.timeout(20):
                await link.use(link.settings(with_postgres(believing)))

    # The issuer may be down for a while, and so nobody waits for it at the start: its trouble is logged.
    told = str(caught.value) if isinstance(caught.value, SettingError) else str(logs)
    assert re.search(FAULTS[fault], told)
    assert isinstance(caught.value, Refusal) or told.startswith("CATRACA_")
    assert not link.secret or link.secret not in told + str(logs)


async def test_who_speaks_plainly_to_a_link_with_tls_comes_nowhere(
    open_link: Opener, settings: CommonSettings, authority: Authority
) -> None:
    async with open_link(authority.issue("server")) as link:
        lost = (
            RedisConnectionError,
            ConnectionError,
            asyncpg.PostgresError,
            Refusal,
            SettingError,
            TimeoutError,
        )
        with capture_logs() as logs, pytest.raises(lost):
            async with asyncio.timeout(2):
                await link.use(link.settings(with_postgres(settings), link.plain_url))
        assert not link.secret or link.secret not in str(logs)


async def test_a_nats_that_offers_no_tls_gets_no_password(
    nats_server: Nats, believing: CommonSettings
) -> None:
    url = nats_server.url_for("queue").replace("nats://", "tls://")

    with capture_logs() as logs, pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await use_nats(dataclasses.replace(believing, nats_url=url))

    assert {log["problem"] for log in logs} == {"the server offers no TLS, and the URL asks for it"}


async def test_webhooks_come_in_over_tls(believing: CommonSettings, authority: Authority) -> None:
    page = web.Application()
    page.router.add_get("/", _answer)
    free = await _free_address()
    context = ssl.create_default_context(cafile=str(authority.ca))
    listening = http.listening(page, free, "webhook_listen", tls.for_clients(believing))
    async with listening, aiohttp.ClientSession() as client:
        async with client.get(f"https://{free}/", ssl=context) as answer:
            assert await answer.text() == "here"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await client.get(f"https://{free}/")
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"http://{free}/")


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="here")
