"""A sale's whole life in fast motion, and what a killed operator or API server changes of it: nothing."""

import asyncio
from datetime import datetime
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2 as sales

from tests.cluster.estate import BASE, Estate, Story, histogram, manifest, samples
from tests.cluster.plane.control_plane import ControlPlane
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import Shop, aside

pytestmark = pytest.mark.timeout(240)
LATENESS = "catraca_operator_lateness_seconds"
# Long enough for pods and people on a busy machine; what is asserted is an order, or the services' clock.
TIMES = {"lobby_s": 8.0, "opens_s": 16.0, "closes_s": 25.0}
# In these an operator starts between any two stages.
KILLED_TIMES = {"lobby_s": 10.0, "opens_s": 20.0, "closes_s": 32.0}
LEAD_S = 8.0
SCALING = {
    "leadTime": "8s",
    "warmUpSteps": 2,
    "cooldown": "3s",
    "services": {
        "queue": {"floor": 4, "peak": 8, "max": 16},
        "checkout": {"floor": 3, "peak": 5, "max": 16},
    },
}


def end_of(estate: Estate, name: str) -> dict[str, Any]:
    """What is left of a sale, without times and revisions."""
    status = estate.sale(name)["status"]
    return {
        "phase": status["phase"],
        "counts": status["counts"],
        "joined": status["line"]["joined"],
        "floors": status["floors"],
        "conditions": {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]},
        "least": {
            service: estate.least(service) for service in ("queue", "checkout", "inventory", "notifier")
        },
    }


END = {
    "phase": "Closed",
    "counts": {"capacity": 4, "free": 0, "promised": 0, "held": 0, "sold": 4, "blocked": 0},
    "joined": 2,
    "floors": {"queue": 0, "checkout": 0},
    "conditions": {
        "Ready": ("True", "AsAsked"),
        "SpecValid": ("True", "Defined"),
        "Prewarmed": ("False", "FloorsRestored"),
        "WindowOpen": ("False", "Closed"),
        "SoldOut": ("True", "SoldOut"),
        "Drained": ("True", "Settled"),
        "Paused": ("False", "Calling"),
        "CapacityLimited": ("False", "Enough"),
    },
    "least": dict.fromkeys(("queue", "checkout", "inventory", "notifier"), BASE),
}


async def test_a_sale_from_its_definition_to_restored_floors(estate: Estate, shop: Shop, name: str) -> None:
    with estate.operated() as operator, Story(estate, name) as story:
        applied = await aside(estate.apply, manifest(name, **TIMES, scaling=SCALING))
        # The floor of the lobby, and pods that run for it.
        await aside(
            eventually, lambda: (estate.least("queue"), estate.running_pods("queue")), lambda at: min(at) >= 4
        )
        await aside(estate.until, name, "Prewarmed", reason="FloorsReady")
        await aside(estate.until, name, "WindowOpen", "False", reason="Lobby")
        async with asyncio.timeout(60):
            orders = await asyncio.gather(*(shop.bought(name, 2) for _ in range(2)))
        assert [len(order.tickets) for order in orders] == [2, 2]
        await aside(estate.until, name, "SoldOut")
        await aside(estate.until, name, "Prewarmed", "False", reason="FloorsRestored")
        await aside(eventually, lambda: estate.ready("queue"), lambda ready: ready == BASE)
        assert end_of(estate, name) == END

        window = applied["spec"]["window"]
        lobby, opens, closes = (_seconds(window[each]) for each in ("lobbyOpensAt", "opensAt", "closesAt"))
        # Each condition at its time, by the services' clock.
        assert lobby - LEAD_S <= story.at("Prewarmed", "FloorsReady") < opens
        assert opens <= story.at("WindowOpen", "Open") < opens + 3
        assert opens < story.at("SoldOut", "SoldOut") < closes
        assert closes <= story.at("WindowOpen", "Closed") < closes + 3
        assert closes <= story.at("Drained", "Settled")
        assert story.of("WindowOpen")[-3:] == [("False", "Lobby"), ("True", "Open"), ("False", "Closed")]
        after = [reason for _, reason in story.of("Prewarmed") if reason != "Restoring"]
        assert after[-2:] == ["CoolingDown", "FloorsRestored"]
        # Up in steps, and down in one.
        assert story.floors["queue"][-4:] == [4, 6, 8, BASE]
        assert story.floors["inventory"][-1:] == [BASE]
        for boundary in ("open", "close"):
            count, most_s = histogram(operator, LATENESS, boundary=boundary)
            assert (count, most_s <= 1.0) == (1, True)
        assert samples(operator)["catraca_operator_sales"] == 1
        told = [each["reason"] for each in estate.events(name)]
        assert [each for each in told if each != "FloorsReady"] == [
            "Defined", "Open", "SoldOut", "Closed", "Settled", "FloorsRestored",
        ]  # fmt: skip
        assert "FloorsReady" in told
        assert "nextTransition" not in estate.sale(name)["status"]
    await shop.audited(name)


STAGES = [
    ("SpecValid", "True", "Defined"),
    ("Prewarmed", "False", "WarmingUp"),
    ("WindowOpen", "False", "Lobby"),
    ("WindowOpen", "True", "Open"),
    ("SoldOut", "True", "SoldOut"),
    ("WindowOpen", "False", "Closed"),
    ("Drained", "True", "Settled"),
    ("Prewarmed", "False", "FloorsRestored"),
]


def reached(estate: Estate, name: str, stage: int) -> None:
    """Wait until a sale is at a stage, or beyond: nobody tells of one that passes while no operator runs."""

    def told() -> set[tuple[str, str, str]]:
        found = estate.sale(name).get("status", {}).get("conditions", [])
        return {(each["type"], each["status"], each["reason"]) for each in found}

    eventually(told, lambda conditions: not conditions.isdisjoint(STAGES[stage:]))


async def test_an_operator_that_is_killed_at_every_stage_ends_the_same(
    estate: Estate, shop: Shop, name: str
) -> None:
    operator = estate.operator()

    def killed_and_started() -> None:
        operator.kill9()
        operator.start()

    operator.start()
    await aside(estate.apply, manifest(name, **KILLED_TIMES, scaling=SCALING))
    in_lobby = STAGES.index(("WindowOpen", "False", "Lobby"))
    for stage in range(in_lobby + 1):
        await aside(killed_and_started)
        await aside(reached, estate, name, stage)
    buyers = asyncio.gather(*(shop.bought(name, 2) for _ in range(2)))
    for stage in range(in_lobby + 1, len(STAGES)):
        await aside(killed_and_started)
        await aside(reached, estate, name, stage)
    await buyers
    assert end_of(estate, name) == END
    await shop.audited(name)
    # A deletion is a stage too.
    await aside(estate.api.delete, estate.sale_path(name))
    await aside(killed_and_started)
    await aside(eventually, estate.names, lambda names: name not in names)
    assert (await shop.organiser.sale(name)).phase == sales.SALE_PHASE_ARCHIVED


async def test_without_an_operator_a_sale_opens_and_closes_by_itself(
    estate: Estate, shop: Shop, name: str
) -> None:
    with estate.operated():
        await aside(estate.apply, manifest(name, lobby_s=3, opens_s=9, closes_s=14, scaling=SCALING))
        await aside(estate.until, name, "SpecValid")
    seen = set()
    async with asyncio.timeout(60):
        while sales.SALE_PHASE_CLOSED not in seen:
            answer = await shop.asked(name)
            phase, window = answer.sale.phase, answer.sale.spec.window
            # On time to the millisecond, by the clock that counts.
            is_open = window.opens_at.ToMilliseconds() <= answer.now.ToMilliseconds()
            is_over = window.closes_at.ToMilliseconds() <= answer.now.ToMilliseconds()
            assert (phase == sales.SALE_PHASE_OPEN) == (is_open and not is_over)
            seen.add(phase)
            await asyncio.sleep(0.1)
    assert sales.SALE_PHASE_OPEN in seen
    assert estate.condition(name, "WindowOpen").get("reason") != "Closed"
    with estate.operated() as operator:
        await aside(estate.until, name, "WindowOpen", "False", reason="Closed")
        await aside(estate.until, name, "Prewarmed", "False", reason="FloorsRestored")
        # It was not there to see how late it was, and does not make a number up.
        assert histogram(operator, LATENESS)[0] == 0
    assert estate.least("queue") == BASE


async def test_an_api_server_that_is_killed_is_waited_for(
    estate: Estate, plane: ControlPlane, shop: Shop, name: str
) -> None:
    with estate.operated() as operator:
        await aside(estate.apply, manifest(name, lobby_s=4, opens_s=8, closes_s=22, scaling=SCALING))
        await aside(estate.until, name, "SpecValid")
        with plane.without(plane.api):
            async with asyncio.timeout(60):
                while (await shop.organiser.sale(name)).phase != sales.SALE_PHASE_OPEN:
                    await asyncio.sleep(0.1)
            # The services could be asked all the same.
            await aside(eventually, lambda: histogram(operator, LATENESS, boundary="open")[0] == 1)
        await aside(estate.until, name, "WindowOpen", reason="Open")
        await aside(estate.until, name, "Prewarmed", "False", reason="FloorsRestored")
        assert operator.running
        count, most_s = histogram(operator, LATENESS, boundary="open")
        assert (count, most_s <= 1.0) == (1, True)


async def test_two_operators_write_as_one(estate: Estate, name: str) -> None:
    with estate.operated() as one, estate.operated() as other, Story(estate, name) as story:
        await aside(estate.apply, manifest(name, lobby_s=5, opens_s=12, closes_s=15, scaling=SCALING))
        await aside(estate.until, name, "Prewarmed", "False", reason="FloorsRestored")
        assert story.floors["queue"][-4:] == [4, 6, 8, BASE]
        # No condition goes back and forth.
        opened = story.of("WindowOpen")
        assert len(opened) == len(set(opened))
        assert [each["reason"] for each in estate.events(name)].count("Open") == 1
        for process in (one, other):
            assert process.running
            assert histogram(process, LATENESS, boundary="open")[0] == 1


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
