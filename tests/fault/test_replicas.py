"""Replicas stop or are killed in the middle of a sale: it stays sound, and a restart is not noticed."""

import io
from collections.abc import AsyncIterator, Callable

import pytest
from rich.console import Console

from local.parts import SERVICES
from local.rush.run import rush
from local.rush.settings import RushSettings
from local.rush.upheaval import Upheaval, rolling_restart
from local.stack import Stack

REPLICAS = 3
KILLED = 1
SETTINGS = RushSettings(
    buyers=600,
    tickets=240,
    direct=60,
    bffs=2,
    lobby_s=3.0,
    late_s=4.0,
    # Slow, so that nobody who is to come is left out; it goes on as fast as it can when all is back.
    rate=1.0,
    turn_s=6.0,
    think_s=0.5,
    payment_window_s=8.0,
    grace_s=2.0,
    timeout_s=240.0,
)


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Three replicas of each service."""
    settings = {"CATRACA_LAME_DUCK_S": "0.5", "CATRACA_RESUME_S": "1", "CATRACA_RELAY_STALE_S": "0.5"}
    replicas = dict.fromkeys(SERVICES, REPLICAS)
    async with Stack(tmp_path_factory.mktemp("replicas"), replicas=replicas, settings=settings) as running:
        yield running


async def kill_one_of_each(stack: Stack, done: Callable[[str, int], None]) -> None:
    """kill -9, one service after the other, while the other replicas go on."""
    for name in SERVICES:
        stack.kill9(name, KILLED)
        await stack.restart_replica(name, KILLED)
        done(name, KILLED)


@pytest.mark.timeout(300)
async def test_a_rolling_restart_loses_nothing_and_nobody_notices(stack: Stack) -> None:
    report = await rush(SETTINGS, Console(file=io.StringIO()), stack, upheaval=rolling_restart())

    assert report["failures"] == [], (report["verdict"]["examples"], report["upheaval"])
    assert len(report["upheaval"]["replicas"]) == REPLICAS * len(SERVICES)
    assert report["upheaval"]["refused"] == {}
    assert report["reconnects"] > 0
    assert report["tickets"]["sold"] == report["units_confirmed"] == SETTINGS.tickets


@pytest.mark.timeout(300)
async def test_replicas_that_are_killed_cost_nobody_anything(stack: Stack) -> None:
    killed = Upheaval("kill of one of each", kill_one_of_each, unnoticed=False)
    report = await rush(SETTINGS, Console(file=io.StringIO()), stack, upheaval=killed)

    assert report["failures"] == [], (report["verdict"]["examples"], report["upheaval"])
    assert report["upheaval"]["replicas"] == [f"{name}-{KILLED + 1}" for name in SERVICES]
    assert report["tickets"]["sold"] == report["units_confirmed"] == SETTINGS.tickets
