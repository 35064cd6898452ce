"""The operator speaks TLS with the services: it believes their CA, and shows its own certificate."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from catraca.sale.v1 import sale_pb2 as sales
from catraca.sale.v1 import sale_pb2_grpc
from catraca_operator.__main__ import channels_of
from catraca_operator.clock import Clock
from catraca_operator.config import Settings
from catraca_operator.sales import Sales
from cryptography import x509

from local.authority import Authority
from services.kit import tls
from services.kit.errors import Refusal
from services.kit.settings import SettingError


class Services(sale_pb2_grpc.SaleServiceServicer):
    """Answers for the services, and keeps whom it was asked by."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        """Serial numbers of the callers' certificates."""
        self.tokens: list[str] = []

    async def GetSale(self, request: sales.GetSaleRequest, context: Any) -> sales.GetSaleResponse:
        (pem,) = context.auth_context()["x509_pem_cert"]
        self.shown.append(x509.load_pem_x509_certificate(pem).serial_number)
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        answer = sales.GetSaleResponse(sale=sales.Sale(sale=request.sale, phase=sales.SALE_PHASE_SCHEDULED))
        answer.now.GetCurrentTime()
        return answer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
async def target(authority: Authority, services: Services) -> AsyncIterator[str]:
    """Where they answer those who show a certificate of the authority."""
    own = authority.issue("queue")
    server = grpc.aio.server()
    sale_pb2_grpc.add_SaleServiceServicer_to_server(services, server)
    pair = (own.key.read_bytes(), own.cert.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], own.ca.read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def settings(target: str, folder: Path, **files: Path) -> Settings:
    token = folder / "token"
    token.write_text("a-token")
    return Settings(
        namespace="default",
        queue_target=target,
        checkout_target=target,
        organiser_token_file=token,
        **files,
    )


def shown(authority: Authority, name: str = "operator", **options: Any) -> dict[str, Path]:
    """Settings for a certificate of this authority."""
    own = authority.issue(name, **options)
    return {"tls_cert_file": own.cert, "tls_key_file": own.key, "tls_ca_file": own.ca}


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


async def phase(chosen: Settings) -> "sales.SalePhase.ValueType":
    """What the operator hears of a sale."""
    channels = channels_of(chosen)
    try:
        return (await Sales(channels, chosen.queue_target, chosen.checkout_target, Clock()).phase("show"))[0]
    finally:
        await channels.close()


async def test_it_shows_its_certificate_and_its_token(
    authority: Authority, services: Services, target: str, tmp_path: Path
) -> None:
    files = shown(authority)
    assert await phase(settings(target, tmp_path, **files)) == sales.SALE_PHASE_SCHEDULED
    assert services.shown == [serial(files["tls_cert_file"])]
    assert services.tokens == ["Bearer a-token"]


async def test_a_renewed_certificate_is_shown_without_a_restart(
    authority: Authority, services: Services, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_AGAIN_S", 0.0)
    files = shown(authority)
    chosen = settings(target, tmp_path, **files)
    channels = channels_of(chosen)
    asked = Sales(channels, target, target, Clock())
    await asked.phase("show")
    before = serial(files["tls_cert_file"])
    shown(authority)
    await asked.phase("show")
    await channels.close()
    assert services.shown == [before, serial(files["tls_cert_file"])]
    assert before != services.shown[-1]


async def test_without_what_is_needed_nothing_is_heard(
    authority: Authority, services: Services, target: str, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "another")
    for files in (
        {},
        {"tls_ca_file": authority.ca},
        shown(stranger),
        {**shown(stranger, "one"), "tls_ca_file": authority.ca},
        {**shown(authority, "two"), "tls_ca_file": stranger.ca},
    ):
        with pytest.raises(Refusal) as refused:
            await phase(settings(target, tmp_path, **files))
        assert refused.value.word == "UNAVAILABLE"
    assert services.shown == []


def test_files_that_cannot_be_used_stop_the_start(authority: Authority, tmp_path: Path) -> None:
    ended = shown(authority, "ended", lives=timedelta(minutes=-1))
    alone = {"tls_cert_file": shown(authority)["tls_cert_file"]}
    absent = {"tls_ca_file": tmp_path / "absent.pem"}
    for files, variable in ((ended, "CERT"), (alone, "KEY"), (absent, "CA")):
        with pytest.raises(SettingError) as wrong:
            channels_of(settings("127.0.0.1:1", tmp_path, **files))
        assert wrong.value.variable == f"CATRACA_TLS_{variable}_FILE"
