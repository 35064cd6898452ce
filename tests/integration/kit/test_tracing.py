"""Who may decide what is traced, where a trace goes with a call, and that logs name it."""

import asyncio
import gzip
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from catraca.queue.v1 import queue_pb2 as pb
from catraca.queue.v1 import queue_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from local.servers import ports
from services.kit import logs, tracing
from services.kit.batcher import Batcher
from services.kit.channels import Channels
from services.kit.errors import Refusal
from services.kit.server import Server
from services.kit.settings import CommonSettings
from services.kit.streams import cloud_headers
from tests.integration.kit.conftest import Issuer

SERVICE = "catraca.queue.v1.QueueService"
THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


class Line(queue_pb2_grpc.QueueServiceServicer):
    """Fails as its `sale` says."""

    async def GetPlace(self, request: pb.GetPlaceRequest, context: Any) -> pb.GetPlaceResponse:
        if request.sale == "defect":
            raise ValueError("the password is hunter2")
        if request.sale == "refused":
            raise Refusal("NO_LINE")
        return pb.GetPlaceResponse()


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """Everything is traced, and every span that is over is kept here."""
    exporter = InMemorySpanExporter()
    provider = tracing.provider_of("test")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    yield exporter
    tracing.use(None)


@pytest.fixture
async def target(settings: CommonSettings) -> AsyncIterator[str]:
    server = Server("queue", settings, [(queue_pb2_grpc.add_QueueServiceServicer_to_server, Line(), SERVICE)])
    port = await server.start()
    yield f"127.0.0.1:{port}"
    await server.abandon()


async def call(target: str, token: str, sale: str = "", traceparent: str = "") -> None:
    """One call, whatever it comes to."""
    metadata = [("authorization", f"Bearer {token}")]
    if traceparent:
        metadata.append(("traceparent", traceparent))
    async with grpc.aio.insecure_channel(target) as channel:
        try:
            await queue_pb2_grpc.QueueServiceStub(channel).GetPlace(
                pb.GetPlaceRequest(sale=sale), metadata=metadata
            )
        except grpc.aio.AioRpcError:
            assert sale


async def finished(exporter: InMemorySpanExporter, count: int) -> tuple[ReadableSpan, ...]:
    """The spans once there are so many: a call is answered before its span ends."""
    async with asyncio.timeout(10):
        while len(exporter.get_finished_spans()) < count:
            await asyncio.sleep(0.01)
    spans = exporter.get_finished_spans()
    assert len(spans) == count
    return spans


async def one(exporter: InMemorySpanExporter) -> ReadableSpan:
    (span,) = await finished(exporter, 1)
    return span


async def test_a_buyer_begins_a_trace_and_cannot_choose_it(
    exporter: InMemorySpanExporter, target: str, issuer: Issuer
) -> None:
    await call(target, issuer.token(), traceparent=THEIRS)

    span = await one(exporter)
    assert span.name == "queue.v1.QueueService/GetPlace"
    assert span.parent is None and span.context.trace_id != TRACE_ID


@pytest.mark.parametrize("role", ["bff", "service"])
async def test_the_trace_of_one_of_ours_goes_on(
    exporter: InMemorySpanExporter, target: str, issuer: Issuer, role: str
) -> None:
    await call(target, issuer.token(roles=[role]), traceparent=THEIRS)

    span = await one(exporter)
    assert span.context.trace_id == TRACE_ID and span.parent is not None


@pytest.mark.parametrize("traceparent", ["", "garbage", THEIRS[:-1] + "0", "00-" + "0" * 32 + THEIRS[35:]])
async def test_between_services_no_trace_begins(
    exporter: InMemorySpanExporter, target: str, issuer: Issuer, traceparent: str
) -> None:
    await call(target, issuer.token(roles=["service"]), traceparent=traceparent)
    await call(target, issuer.token())

    assert (await one(exporter)).parent is None


async def test_a_channel_takes_the_trace_along(
    exporter: InMemorySpanExporter, target: str, settings: CommonSettings
) -> None:
    channels = Channels(settings.service_token_file)
    with tracing.beginning("the click"):
        await queue_pb2_grpc.QueueServiceStub(channels.channel(target)).GetPlace(pb.GetPlaceRequest())
    await channels.close()

    by_kind = {span.kind: span for span in await finished(exporter, 3) if span.name != "the click"}
    (click,) = [span for span in exporter.get_finished_spans() if span.name == "the click"]
    served, called = by_kind[tracing.SpanKind.SERVER], by_kind[tracing.SpanKind.CLIENT]
    assert served.parent is not None and called.parent is not None
    assert served.parent.span_id == called.context.span_id
    assert called.parent.span_id == click.context.span_id


async def test_a_refusal_is_named_and_only_a_defect_is_an_error(
    exporter: InMemorySpanExporter, target: str, issuer: Issuer
) -> None:
    await call(target, issuer.token(), sale="refused")
    refused = await one(exporter)
    exporter.clear()
    await call(target, issuer.token(), sale="defect")
    defect = await one(exporter)

    assert refused.attributes is not None and defect.attributes is not None
    assert refused.attributes["catraca.refusal"] == "NO_LINE"
    assert refused.status.status_code is StatusCode.UNSET
    assert defect.attributes["catraca.refusal"] == "INTERNAL"
    assert defect.status.status_code is StatusCode.ERROR
    assert "hunter2" not in defect.to_json()


async def test_what_is_logged_of_a_failure_names_its_trace(
    exporter: InMemorySpanExporter,
    target: str,
    issuer: Issuer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "log").open("w+") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        logs.configure("test")
        await call(target, issuer.token(), sale="defect")
        await one(exporter)
        stderr.seek(0)
        lines = [json.loads(line) for line in stderr]
    monkeypatch.undo()
    logs.configure("test")

    (line,) = [line for line in lines if line["event"] == "a call failed"]
    context = (await one(exporter)).context
    assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


async def test_a_batch_is_seen_in_the_trace_of_each_who_waits_for_it(exporter: InMemorySpanExporter) -> None:
    seen: list[str] = []

    async def run(items: list[int]) -> list[int]:
        seen.append(tracing.traceparent())
        return items

    batcher = Batcher(run, name="tested")
    answers = []
    for number in range(3):
        with tracing.beginning(f"call {number}"):
            answers.append(asyncio.create_task(batcher.submit(number)))
            await asyncio.sleep(0)
    await asyncio.gather(*answers)

    finished = exporter.get_finished_spans()
    calls = {span.context.trace_id for span in finished if span.name.startswith("call")}
    batches = [span for span in finished if span.name == "batch tested"]
    assert {span.context.trace_id for span in batches} == calls and len(calls) == 3
    assert all(parent for parent in seen)


async def test_a_message_carries_the_current_trace_or_the_one_it_was_given(
    exporter: InMemorySpanExporter,
) -> None:
    event = ("type", "source", "subject", "id", 0)
    with tracing.beginning("the click"):
        carried = cloud_headers(*event, THEIRS)["traceparent"]

    assert carried.split("-")[1] == f"{(await one(exporter)).context.trace_id:032x}"
    assert cloud_headers(*event, THEIRS)["traceparent"] == THEIRS
    assert "traceparent" not in cloud_headers(*event)


async def test_without_an_endpoint_nothing_is_traced(
    target: str, issuer: Issuer, settings: CommonSettings
) -> None:
    tracing.configure("queue", settings)

    await call(target, issuer.token())
    with tracing.beginning("the click"), tracing.inner("a part"), tracing.continued("more", THEIRS):
        assert tracing.traceparent() == "" and tracing.headers() == {}


async def test_spans_go_to_the_endpoint(settings: CommonSettings) -> None:
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.Response()

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    async with TestServer(application) as collector:
        endpoint = str(collector.make_url("/v1/traces"))
        tracing.configure("queue", replace(settings, otlp_endpoint=endpoint, trace_ratio=1.0))
        with tracing.beginning("the click"):
            pass
        await asyncio.to_thread(tracing.close)

    assert b"the click" in b"".join(bodies) and b"queue" in b"".join(bodies)


async def test_a_collector_that_is_down_does_not_keep_the_process_from_ending(
    settings: CommonSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_S", 0.1)
    nobody = f"http://127.0.0.1:{ports.reserve()}/v1/traces"
    tracing.configure("queue", replace(settings, otlp_endpoint=nobody, trace_ratio=1.0))
    with tracing.beginning("the click"):
        pass

    began = time.monotonic()
    tracing.close()

    # The exporter alone would try for its whole time.
    assert time.monotonic() - began < tracing.SEND_S
    assert tracing.traceparent() == ""
