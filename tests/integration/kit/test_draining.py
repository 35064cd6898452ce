"""A service told to stop: it says so, lets calls finish, and ends in time."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import grpc.aio
import pytest
from catraca.queue.v1 import queue_pb2 as pb
from catraca.queue.v1 import queue_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.channels import Channels
from services.kit.errors import refusal_of
from services.kit.settings import CommonSettings, variable_of
from services.kit.tasks import stop

# A GetDraw takes as long as its `sale` says, and answers how many objects no garbage collection looks at.
# Join tells which process answered.
PROGRAM = """
import asyncio
import gc
import os
import time
from catraca.queue.v1 import queue_pb2 as pb
from catraca.queue.v1 import queue_pb2_grpc
from services.kit import logs, server
from services.kit.settings import CommonSettings, load_or_exit

class Line(queue_pb2_grpc.QueueServiceServicer):
    async def GetDraw(self, request, context):
        print("called", flush=True)
        await asyncio.sleep(float(request.sale))
        return pb.GetDrawResponse(draw=pb.Draw(cohort=gc.get_freeze_count()))

    async def Join(self, request, context):
        return pb.JoinResponse(receipt=pb.Receipt(key_id=str(os.getpid())))

    async def Leave(self, request, context):
        # Busy, so that the others wait to begin.
        time.sleep(0.02)
        return pb.LeaveResponse()

    async def JoinMany(self, requests, context):
        async for _ in requests:
            yield pb.JoinManyResponse()

async def drain():
    print("draining", flush=True)

async def main():
    settings = load_or_exit(CommonSettings)
    logs.configure("line")
    name = "catraca.queue.v1.QueueService"
    services = [(queue_pb2_grpc.add_QueueServiceServicer_to_server, Line(), name)]
    public = [f"/{name}/{method}" for method in ("GetDraw", "Join", "Leave", "JoinMany")]
    await server.serve("line", settings, services, on_drain=drain, public=public)
    print("ended", flush=True)

server.run(main)
"""


class Service:
    """The program above as a process."""

    def __init__(self, settings: CommonSettings, **changes: str) -> None:
        environ = dict(os.environ)
        environ |= {variable_of(name): str(value) for name, value in vars(settings).items() if value}
        # Left out above as it is 0: nobody here has to be told to go elsewhere first.
        environ["CATRACA_LAME_DUCK_S"] = str(settings.lame_duck_s)
        environ |= changes
        self.port = environ["CATRACA_LISTEN"].rpartition(":")[2]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    async def ended(self) -> tuple[int, str, str]:
        out, err = await asyncio.to_thread(self.process.communicate, timeout=30)
        return self.process.returncode, out, err


Start = Callable[..., Service]


@pytest.fixture
def start(settings: CommonSettings, unused_tcp_port: int) -> Iterator[Start]:
    """Starts the program with changed variables; what still runs after the test is killed."""
    started: list[Service] = []

    def start(**changes: str) -> Service:
        started.append(Service(settings, **{"CATRACA_LISTEN": f"127.0.0.1:{unused_tcp_port}"} | changes))
        return started[-1]

    yield start
    for service in started:
        service.process.kill()
        service.process.communicate()


@pytest.fixture
def service(start: Start) -> Service:
    return start()


@pytest.fixture
async def channel(service: Service) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        yield channel


def call(channel: grpc.aio.Channel, seconds: float) -> "asyncio.Task[pb.GetDrawResponse]":
    stub = queue_pb2_grpc.QueueServiceStub(channel)

    async def get() -> pb.GetDrawResponse:
        return await stub.GetDraw(pb.GetDrawRequest(sale=str(seconds)))  # type: ignore[misc]

    return asyncio.create_task(get())


async def heard(service: Service, word: str) -> None:
    assert service.process.stdout is not None
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(service.process.stdout.readline) == f"{word}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_calls_finish_and_the_process_ends_well(
    service: Service, channel: grpc.aio.Channel, number: signal.Signals
) -> None:
    health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
    running = call(channel, 0.5)
    await heard(service, "called")
    service.process.send_signal(number)
    assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    health.cancel()
    assert (await running).HasField("draw")
    code, out, _ = await service.ended()
    assert (code, out) == (0, "draining\nended\n")


async def test_collections_leave_alone_what_was_there_before_the_first_call(
    service: Service, channel: grpc.aio.Channel
) -> None:
    answer = await call(channel, 0)
    assert answer.draw.cohort > 10_000, "modules alone are that many objects"
    service.process.send_signal(signal.SIGTERM)
    assert (await service.ended())[0] == 0


async def test_a_second_signal_ends_what_still_runs(start: Start) -> None:
    service = start(CATRACA_DRAIN_S="600")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        running = call(channel, 600)
        await heard(service, "called")
        service.process.send_signal(signal.SIGTERM)
        await heard(service, "draining")
        service.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            with pytest.raises(grpc.aio.AioRpcError):
                await running
    assert (await service.ended())[0] == 0


async def test_calls_that_do_not_finish_in_time_are_ended(start: Start) -> None:
    service = start(CATRACA_DRAIN_S="0.2")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        running = call(channel, 60)
        await heard(service, "called")
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError):
            await running
    assert (await service.ended())[0] == 0


async def test_calls_are_taken_until_the_lame_duck_is_over(start: Start) -> None:
    service = start(CATRACA_LAME_DUCK_S="600")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream = queue_pb2_grpc.QueueServiceStub(channel).JoinMany()  # type: ignore[misc]
        service.process.send_signal(signal.SIGTERM)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        running = call(channel, 0)
        await heard(service, "called")
        assert (await running).HasField("draw")
        await stream.write(pb.JoinManyRequest())
        assert await stream.read() == pb.JoinManyResponse()
    # Whoever waits no longer signals again.
    service.process.send_signal(signal.SIGTERM)
    assert (await service.ended())[:2] == (0, "ended\n")


async def test_what_was_accepted_in_time_begins_and_is_answered(start: Start) -> None:
    service = start(CATRACA_LAME_DUCK_S="0.05", CATRACA_DRAIN_S="60")
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{service.port}", options=[("grpc.enable_retries", 0)]
    ) as channel:
        async with asyncio.timeout(30):
            await channel.channel_ready()
        line = queue_pb2_grpc.QueueServiceStub(channel)
        leaving = [line.Leave(pb.LeaveRequest()) for _ in range(100)]
        await leaving[0]  # type: ignore[misc]
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*leaving) == [pb.LeaveResponse()] * 100
    assert (await service.ended())[0] == 0


async def test_a_stream_of_requests_is_sent_elsewhere_with_a_hint(
    service: Service, channel: grpc.aio.Channel
) -> None:
    stream = queue_pb2_grpc.QueueServiceStub(channel).JoinMany()  # type: ignore[misc]
    await stream.write(pb.JoinManyRequest())
    assert await stream.read() == pb.JoinManyResponse()
    service.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.word == "UNAVAILABLE"
    assert refusal.retry_after_s is not None
    assert (await service.ended())[0] == 0


async def test_nobody_who_calls_through_a_channel_of_ours_notices_a_restart(
    start: Start, settings: CommonSettings, unused_tcp_port_factory: Callable[[], int]
) -> None:
    ports = [unused_tcp_port_factory() for _ in range(2)]
    ends = {f"127.0.0.1:{port}" for port in ports}
    pair = [start(CATRACA_LISTEN=end, CATRACA_LAME_DUCK_S="0.5") for end in sorted(ends)]
    channels = Channels(settings.service_token_file)
    line = queue_pb2_grpc.QueueServiceStub(channels.channel(f"ipv4:{','.join(sorted(ends))}"))
    answered: list[int] = []

    async def ask() -> None:
        while True:
            answer = await line.Join(pb.JoinRequest(), timeout=30)  # type: ignore[misc]
            answered.append(int(answer.receipt.key_id))

    async def both_answer() -> None:
        answered.clear()
        async with asyncio.timeout(30):
            while not {service.process.pid for service in pair} <= set(answered):
                await asyncio.sleep(0.01)

    for end in ends:
        async with grpc.aio.insecure_channel(end) as channel, asyncio.timeout(30):
            await channel.channel_ready()
    asking = [asyncio.create_task(ask()) for _ in range(8)]
    try:
        await both_answer()
        for index, service in enumerate(pair):
            service.process.send_signal(signal.SIGTERM)
            assert (await service.ended())[0] == 0
            pair[index] = start(CATRACA_LISTEN=f"127.0.0.1:{service.port}", CATRACA_LAME_DUCK_S="0.5")
            await both_answer()
        assert [task for task in asking if task.done()] == []
    finally:
        await stop(*asking)
        await channels.close()


@pytest.mark.parametrize(
    ("variable", "value", "begins"),
    [
        ("CATRACA_DRAIN_S", "long", "CATRACA_DRAIN_S is 'long'; expected a number from 0 to 600"),
        (
            "CATRACA_BUYER_HASH_KEY_FILE",
            "/nowhere",
            "CATRACA_BUYER_HASH_KEY_FILE is '/nowhere' (No such file",
        ),
        ("CATRACA_LISTEN", "203.0.113.1:1", "CATRACA_LISTEN is '203.0.113.1:1', where this process cannot"),
    ],
)
async def test_a_wrong_setting_stops_the_start_by_name(
    start: Start, variable: str, value: str, begins: str
) -> None:
    code, out, err = await start(**{variable: value}).ended()
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(begins)
    assert "Traceback" not in err
