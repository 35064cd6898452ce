"""A service over gRPC: who calls, what is refused and how, for every kind of call."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import redis.exceptions
import structlog
from catraca.queue.v1 import queue_pb2 as pb
from catraca.queue.v1 import queue_pb2_grpc
from catraca.sale.v1.sale_pb2 import Sale
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.kit.channels import Channels
from services.kit.errors import Refusal, abort_with, refusal_of
from services.kit.identity import buyer_for, buyer_of, caller
from services.kit.server import Server
from services.kit.settings import CommonSettings, SettingError
from tests.integration.kit.conftest import Issuer

SERVICE = "catraca.queue.v1.QueueService"
Metadata = list[tuple[str, str]]


class Line(queue_pb2_grpc.QueueServiceServicer):
    """Fails as its `sale` says, on every kind of call."""

    def __init__(self) -> None:
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()
        self.errors: dict[str, Callable[[], BaseException]] = {
            "refusal": lambda: Refusal("NOT_CALLED_YET", "Wait.", retry_after_s=3, place=7),
            "defect": lambda: ValueError("the password is hunter2"),
            "timeout": TimeoutError,
            "redis": lambda: redis.exceptions.ConnectionError("10.0.0.7 refused"),
        }

    def _maybe_fail(self, sale: str) -> None:
        if sale in self.errors:
            raise self.errors[sale]()

    async def _wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        who = caller(context)
        receipt = pb.Receipt(key_id=f"{who.namespace}/{who.subject}/{','.join(sorted(who.roles))}")
        return pb.JoinResponse(receipt=receipt)

    async def GetPlace(self, request: pb.GetPlaceRequest, context: Any) -> pb.GetPlaceResponse:
        self._maybe_fail(request.sale)
        if request.sale == "abort":
            await abort_with(context, Refusal("NO_LINE"))
        if request.sale == "wait":
            await self._wait()
        return pb.GetPlaceResponse()

    async def Leave(self, request: pb.LeaveRequest, context: Any) -> pb.LeaveResponse:
        buyer = buyer_of(context)
        return pb.LeaveResponse(place=pb.Place(index=len(buyer.id_in(Sale()))))

    async def WatchSale(
        self, request: pb.WatchSaleRequest, context: Any
    ) -> AsyncIterator[pb.WatchSaleResponse]:
        yield pb.WatchSaleResponse(heartbeat=True)
        self._maybe_fail(request.sale)
        if request.sale == "wait":
            await self._wait()

    async def Watch(self, request: pb.WatchRequest, context: Any) -> None:
        # A method may write by itself instead of yielding.
        await context.write(pb.WatchResponse(heartbeat=True))
        self._maybe_fail(request.sale)

    async def JoinMany(
        self, requests: AsyncIterator[pb.JoinManyRequest], context: Any
    ) -> AsyncIterator[pb.JoinManyResponse]:
        async for request in requests:
            self._maybe_fail(request.sale)
            ids = [buyer_for(caller(context), item.subject).id_in(Sale()) for item in request.items]
            yield pb.JoinManyResponse(results=[pb.PlaceResult(refusal=each) for each in ids])

    async def GetDraw(self, request: pb.GetDrawRequest, context: Any) -> pb.GetDrawResponse:
        return pb.GetDrawResponse()


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
async def target(settings: CommonSettings, line: Line) -> AsyncIterator[str]:
    services = [(queue_pb2_grpc.add_QueueServiceServicer_to_server, line, SERVICE)]
    server = Server("queue", settings, services, public=[f"/{SERVICE}/GetDraw"])
    port = await server.start()
    yield f"127.0.0.1:{port}"
    await server.abandon()


@pytest.fixture
async def channel(target: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(target) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return queue_pb2_grpc.QueueServiceStub(channel)


def bearing(token: str, buyer: str | None = None) -> Metadata:
    metadata = [("authorization", f"Bearer {token}")]
    return metadata if buyer is None else [*metadata, ("catraca-buyer", buyer)]


async def requests(*sales: str) -> AsyncIterator[pb.JoinManyRequest]:
    for sale in sales:
        yield pb.JoinManyRequest(sale=sale, items=[pb.JoinItem(subject="ana")])


async def refused(call: Any) -> tuple[grpc.StatusCode, Refusal]:
    """Status and refusal of a call that must be refused; a streaming one is read to its end."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    assert caught.value.details() == refusal.message
    return caught.value.code(), refusal


def every_kind(stub: Any, sale: str, metadata: Metadata) -> Iterator[Any]:
    """One call after the other."""
    yield stub.GetPlace(pb.GetPlaceRequest(sale=sale), metadata=metadata)
    yield stub.WatchSale(pb.WatchSaleRequest(sale=sale), metadata=metadata)
    yield stub.Watch(pb.WatchRequest(sale=sale), metadata=metadata)
    yield stub.JoinMany(requests(sale), metadata=metadata)


async def test_the_caller_is_whom_the_token_names(stub: Any, issuer: Issuer) -> None:
    token = issuer.token("ana", roles=["staff", "buyer"])
    answer = await stub.Join(pb.JoinRequest(), metadata=bearing(token))
    assert answer.receipt.key_id == "public/ana/buyer,staff"


async def test_each_call_has_its_own_caller(stub: Any, issuer: Issuer) -> None:
    calls = [stub.Join(pb.JoinRequest(), metadata=bearing(issuer.token(f"b{n}"))) for n in range(50)]
    answers = [await call for call in calls]
    assert [answer.receipt.key_id for answer in answers] == [f"public/b{n}/buyer" for n in range(50)]


class Seen(Line):
    """Remembers the connections that it was called on."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: set[str] = set()

    async def GetDraw(self, request: pb.GetDrawRequest, context: Any) -> pb.GetDrawResponse:
        self.peers.add(context.peer())
        return pb.GetDrawResponse()


async def test_connections_end_by_their_age_and_no_call_with_them(
    settings: CommonSettings, issuer: Issuer
) -> None:
    seen = Seen()
    services = [(queue_pb2_grpc.add_QueueServiceServicer_to_server, seen, SERVICE)]
    aged = replace(settings, connection_age_s=0.5)
    server = Server("queue", aged, services, public=[f"/{SERVICE}/GetDraw"])
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = queue_pb2_grpc.QueueServiceStub(channel)
        stream = stub.WatchSale(pb.WatchSaleRequest(sale="wait"), metadata=bearing(issuer.token()))
        await stream.read()
        await seen.waiting.wait()
        async with asyncio.timeout(60):
            while len(seen.peers) < 3:
                await stub.GetDraw(pb.GetDrawRequest())
        assert not seen.cancelled.is_set()
    await server.abandon()


async def test_without_a_token_only_public_methods_answer(stub: Any, issuer: Issuer) -> None:
    for call in every_kind(stub, "fine", []):
        code, refusal = await refused(call)
        assert (code, refusal.word) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")
    await stub.GetDraw(pb.GetDrawRequest())
    _, refusal = await refused(stub.GetPlace(pb.GetPlaceRequest(), metadata=bearing(issuer.token(ttl_s=-1))))
    assert refusal.word == "TOKEN_EXPIRED"


@pytest.mark.parametrize(
    ("sale", "code", "word", "retry_after_s", "metadata"),
    [
        ("refusal", grpc.StatusCode.FAILED_PRECONDITION, "NOT_CALLED_YET", 3.0, {"place": "7"}),
        ("timeout", grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE", 0.5, {}),
        ("redis", grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE", 0.5, {}),
    ],
)
async def test_what_fails_is_refused_by_the_table(
    stub: Any,
    issuer: Issuer,
    sale: str,
    code: grpc.StatusCode,
    word: str,
    retry_after_s: float,
    metadata: dict[str, str],
) -> None:
    for call in every_kind(stub, sale, bearing(issuer.token(roles=["bff"]))):
        answered, refusal = await refused(call)
        assert (answered, refusal.word) == (code, word)
        assert (refusal.retry_after_s, refusal.metadata) == (retry_after_s, metadata)
        assert "10.0.0.7" not in refusal.message


async def test_a_defect_is_logged_and_tells_nothing(stub: Any, issuer: Issuer) -> None:
    for call in every_kind(stub, "defect", bearing(issuer.token(roles=["bff"]))):
        with structlog.testing.capture_logs() as logged:
            code, refusal = await refused(call)
        assert (code, refusal.word) == (grpc.StatusCode.INTERNAL, "INTERNAL")
        assert "hunter2" not in refusal.message + str(refusal.metadata)
        (line,) = [each for each in logged if each["event"] == "a call failed"]
        assert line["call_id"] == refusal.metadata["call_id"]
        assert "hunter2" in str(line["exc_info"])


async def test_an_abort_of_the_methods_own_passes(stub: Any, issuer: Issuer) -> None:
    _, refusal = await refused(
        stub.GetPlace(pb.GetPlaceRequest(sale="abort"), metadata=bearing(issuer.token()))
    )
    assert refusal.word == "NO_LINE"


@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_a_call_that_is_cancelled_cancels_the_method_and_is_no_failure(
    stub: Any, issuer: Issuer, line: Line, kind: str
) -> None:
    metadata = bearing(issuer.token())
    with structlog.testing.capture_logs() as logged:
        if kind == "unary":
            call = stub.GetPlace(pb.GetPlaceRequest(sale="wait"), metadata=metadata)
        else:
            call = stub.WatchSale(pb.WatchSaleRequest(sale="wait"), metadata=metadata)
        async with asyncio.timeout(10):
            await line.waiting.wait()
            call.cancel()
            await line.cancelled.wait()
        # Whatever the end of a call that is gone would bring up.
        await stub.Join(pb.JoinRequest(), metadata=metadata)
    assert logged == []


async def test_a_callers_deadline_cancels_the_method(stub: Any, issuer: Issuer, line: Line) -> None:
    call = stub.GetPlace(pb.GetPlaceRequest(sale="wait"), metadata=bearing(issuer.token()), timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await line.cancelled.wait()


async def test_a_message_that_is_too_large_is_refused_by_name(stub: Any, issuer: Issuer) -> None:
    metadata, large = bearing(issuer.token(roles=["bff"])), "x" * 80_000
    for call in every_kind(stub, large, metadata):
        code, refusal = await refused(call)
        assert (code, refusal.word) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
    # In the middle of a stream, what came before it was answered.
    answers = []
    with pytest.raises(grpc.aio.AioRpcError, match="at most 70000 bytes"):
        async for answer in stub.JoinMany(requests("fine", large), metadata=metadata):
            answers.append(answer)
    assert len(answers) == 1


async def test_bytes_that_are_no_message_are_the_callers_fault(
    channel: grpc.aio.Channel, issuer: Issuer
) -> None:
    for junk in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe"):
        call = channel.unary_unary(f"/{SERVICE}/Join")(junk, metadata=bearing(issuer.token()))
        code, refusal = await refused(call)
        assert (code, refusal.word) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


@pytest.mark.parametrize("method", [f"/{SERVICE}/Jion", "/catraca.Nothing/Join", f"/{SERVICE}/Enter"])
async def test_a_method_that_nobody_wrote_is_unknown(
    channel: grpc.aio.Channel, issuer: Issuer, method: str
) -> None:
    code, refusal = await refused(channel.unary_unary(method)(b"", metadata=bearing(issuer.token())))
    assert (code, refusal.word) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")


@pytest.mark.parametrize(
    ("roles", "buyer", "word"),
    [
        (["buyer"], None, "FINE"),
        (["buyer"], "ana", "FINE"),
        (["buyer"], "bia", "NOT_YOUR_BUYER"),
        (["buyer"], "", "NOT_YOUR_BUYER"),
        (["bff"], "bia", "FINE"),
        (["bff", "buyer"], "bia", "FINE"),
        (["bff"], None, "NOT_YOUR_BUYER"),
        (["bff"], "", "INVALID_FIELD"),
        (["bff"], "x" * 257, "INVALID_FIELD"),
        (["organiser"], None, "ROLE_REQUIRED"),
        (["service"], "bia", "ROLE_REQUIRED"),
        ([], None, "ROLE_REQUIRED"),
    ],
)
async def test_for_whom_a_caller_speaks(
    stub: Any, issuer: Issuer, roles: list[str], buyer: str | None, word: str
) -> None:
    call = stub.Leave(pb.LeaveRequest(), metadata=bearing(issuer.token("ana", roles=roles), buyer))
    if word == "FINE":
        assert (await call).place.index == 26
    else:
        assert (await refused(call))[1].word == word


async def test_a_bffs_items_are_its_own_namespaces_buyers(stub: Any, issuer: Issuer) -> None:
    ids = []
    for namespace in ("shop", "arena", "shop"):
        token = issuer.token("front", roles=["bff"], claims={"ns": namespace})
        answer = await stub.JoinMany(requests("fine"), metadata=bearing(token)).read()
        ids.append(answer.results[0].refusal)
    assert ids[0] == ids[2] != ids[1]
    _, refusal = await refused(stub.JoinMany(requests("fine"), metadata=bearing(issuer.token())))
    assert (refusal.word, refusal.metadata) == ("ROLE_REQUIRED", {"needs": "bff"})


async def test_health_and_reflection_need_no_token(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    stream = reflection.ServerReflectionInfo()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = (await stream.read()).list_services_response.service
    assert {"grpc.health.v1.Health", SERVICE} <= {each.name for each in listed}
    stream.cancel()


async def test_a_taken_port_fails_the_start(settings: CommonSettings, target: str) -> None:
    taken = type(settings)(**{**vars(settings), "listen": target})
    with pytest.raises(SettingError, match=f"CATRACA_LISTEN is '{target}', where this process cannot listen"):
        await Server("other", taken, []).start()


async def test_a_channel_bears_the_token_in_its_file(
    settings: CommonSettings, target: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.channels._LOOK_AGAIN_S", 0.0)
    channels = Channels(settings.service_token_file)
    assert channels.channel(target) is channels.channel(target)
    stub: Any = queue_pb2_grpc.QueueServiceStub(channels.channel(target))

    async def name() -> str:
        return str((await stub.Join(pb.JoinRequest())).receipt.key_id)

    assert await name() == "public/inventory/service"
    settings.service_token_file.write_text(issuer.token("checkout", roles=["bff"]))
    assert await name() == "public/checkout/bff"
    settings.service_token_file.unlink()
    assert await name() == "public/checkout/bff"
    answers = [answer async for answer in stub.JoinMany(requests("a", "b"))]
    assert len(answers) == 2
    await channels.close()


async def test_a_channel_without_a_token_does_not_call(tmp_path: Path, target: str) -> None:
    channels = Channels(tmp_path / "none")
    stub: Any = queue_pb2_grpc.QueueServiceStub(channels.channel(target))
    with pytest.raises(Refusal, match="UNAVAILABLE"):
        await stub.Join(pb.JoinRequest())
    (tmp_path / "none").write_text("junk")
    _, refusal = await refused(stub.Join(pb.JoinRequest()))
    assert refusal.word == "TOKEN_INVALID"
    await channels.close()
