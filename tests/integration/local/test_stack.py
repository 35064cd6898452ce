"""The embedded stack as a library: found by others, restarted part by part, one to a folder."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local import discovery
from local.parts import SERVICES, State
from local.servers.process import StartFailed
from local.servers.redis import Redis
from local.stack import SERVERS, Stack


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("local-stack"), replicas={"notifier": 2}) as running:
        yield running


async def is_serving(target: str) -> bool:
    async with grpc.aio.insecure_channel(target) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_every_part_is_ready(stack: Stack) -> None:
    assert {name: part.state for name, part in stack.parts.items()} == dict.fromkeys(stack.parts, State.READY)
    assert set(stack.parts) == {*SERVERS, *SERVICES, "issuer", "sandbox", "edge"}


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_answers_health(stack: Stack, service: str) -> None:
    assert await is_serving(stack.running.targets[service])


async def test_another_terminal_finds_the_stack(stack: Stack) -> None:
    found = discovery.find(stack.data)

    assert found == stack.running
    assert found.minter().issuer == found.issuer
    assert [purpose for purpose, path in found.keys.items() if not Path(path).is_file()] == []


async def test_nobody_else_may_read_keys_and_secrets(stack: Stack) -> None:
    private = [
        stack.data / discovery.FILE,
        *(stack.data / "keys").iterdir(),
        *(stack.data / "secrets").iterdir(),
    ]

    assert [path for path in private if stat.S_IMODE(path.stat().st_mode) != 0o600] == []


async def test_replicas_run_side_by_side(stack: Stack) -> None:
    part = stack.parts["notifier"]

    assert len(set(part.pids)) == len(set(part.addresses)) == 2
    assert [await is_serving(address) for address in part.addresses] == [True, True]
    assert await is_serving(part.target)


async def test_a_killed_service_is_seen_and_restarted_at_its_address(stack: Stack) -> None:
    part = stack.parts["queue"]
    address, pids = part.addresses, part.pids

    stack.kill9("queue")
    assert part.state is State.ENDED
    await stack.restart("queue")

    assert part.state is State.READY
    assert part.addresses == address
    assert part.pids != pids
    assert await is_serving(part.target)
    assert discovery.find(stack.data).pids["queue"] == part.pids


async def test_one_replica_is_restarted_while_the_other_goes_on(stack: Stack) -> None:
    part = stack.parts["notifier"]
    address, (one, other) = part.addresses, part.pids

    stack.kill9("notifier", 0)
    assert part.pids == [other]
    assert part.state is State.ENDED
    restarting = asyncio.create_task(stack.restart_replica("notifier", 0))
    async with asyncio.timeout(30):
        while part.state is not State.RESTARTING:
            await asyncio.sleep(0)
        await restarting

    assert part.state is State.READY
    assert part.addresses == address
    assert one not in part.pids
    assert other in part.pids
    assert await is_serving(part.addresses[0])
    assert discovery.find(stack.data).pids["notifier"] == part.pids


async def test_a_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(discovery.AlreadyRunning):
        async with Stack(stack.data):
            pytest.fail("two stacks share a folder")

    assert discovery.find(stack.data).pids == stack.running.pids


def test_where_no_stack_runs_none_is_found(tmp_path: Path) -> None:
    with pytest.raises(discovery.NotRunning, match="catraca up"):
        discovery.find(tmp_path)


async def test_a_failed_start_names_the_part_and_stops_the_others(tmp_path: Path) -> None:
    stack = Stack(tmp_path, settings={"CATRACA_DRAIN_S": "forever"})

    with pytest.raises(StartFailed) as caught:
        async with stack:
            pytest.fail("a wrong setting was accepted")

    assert caught.value.name in SERVICES
    assert "CATRACA_DRAIN_S" in caught.value.log
    assert [part.pids for part in stack.parts.values() if part.pids] == []
    with pytest.raises(discovery.NotRunning):
        discovery.find(tmp_path)


async def test_a_cancelled_start_stops_what_it_started(tmp_path: Path) -> None:
    stack = Stack(tmp_path)

    async def hold() -> None:
        async with stack:
            pytest.fail("the start was not cancelled in time")

    task = asyncio.create_task(hold())
    while not (stack.parts and stack.parts["redis"].state is State.READY):
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [part.pids for part in stack.parts.values() if part.pids] == []


async def test_a_given_server_takes_the_place_of_ours(
    tmp_path: Path, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CATRACA_REDIS_URL", redis_server.url)

    async with Stack(tmp_path) as stack:
        assert stack.parts["redis"].state is State.GIVEN
        assert stack.parts["redis"].addresses == [redis_server.address]
        assert stack.running.redis_url == redis_server.url

    assert redis_server.running
