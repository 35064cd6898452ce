"""What every service has in common: its health, its reflection, and that a wrong setting stops its start."""

import os
import subprocess
import sys
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from local.parts import PythonProcess

OFFERED = {
    "queue": {"catraca.queue.v1.QueueService", "catraca.sale.v1.SaleService"},
    "inventory": {"catraca.inventory.v1.InventoryService", "catraca.inventory.v1.LedgerService"},
    "checkout": {"catraca.checkout.v1.OrderService", "catraca.checkout.v1.SettlementService"},
    "notifier": {"catraca.notifier.v1.NotifierService"},
}
# One kind of mistake for each service: they read their settings alike.
WRONG = [
    ("queue", "CATRACA_NATS_URL_FILE", "/nowhere", "'/nowhere' (No such file or directory)"),
    ("inventory", "CATRACA_DRAIN_S", "soon", "'soon'"),
    ("checkout", "CATRACA_INTAKE_BATCH", "0", "'0'"),
    ("notifier", "CATRACA_LOG_LEVEL", "loud", "'loud'"),
]


@pytest.mark.parametrize("service", OFFERED)
async def test_answers_health_as_a_whole_and_for_each_of_its_services(house: Any, service: str) -> None:
    async with grpc.aio.insecure_channel(house.stack.parts[service].addresses[0]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", *OFFERED[service]):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name


@pytest.mark.parametrize("service", OFFERED)
async def test_answers_reflection(house: Any, service: str) -> None:
    async with grpc.aio.insecure_channel(house.stack.parts[service].addresses[0]) as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = reflection.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {each.name for each in (await call.read()).list_services_response.service}
        assert OFFERED[service] | {"grpc.health.v1.Health"} <= listed
        for name in OFFERED[service]:
            await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            assert (await call.read()).file_descriptor_response.file_descriptor_proto, name
        call.cancel()


@pytest.mark.parametrize(("service", "variable", "value", "found"), WRONG)
def test_a_wrong_setting_stops_the_start_with_its_name(
    house: Any, service: str, variable: str, value: str, found: str
) -> None:
    process = house.stack.parts[service].processes[0]
    assert isinstance(process, PythonProcess)
    ended = subprocess.run(
        [sys.executable, "-P", "-m", process.module],
        env={**os.environ, **process.variables, "CATRACA_LISTEN": "127.0.0.1:0", variable: value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (sentence,) = ended.stderr.splitlines()
    assert sentence.startswith(f"{variable} is {found}; expected ")
    assert not ended.stdout
