"""What the operator does for a person: holds back, warns, overrides, refuses, drains, rehearses."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.sale.v1 import sale_pb2 as sales

from local.client import item
from services.kit.errors import Refusal
from tests.cluster.estate import BASE, Estate, manifest
from tests.cluster.plane.api import Refused
from tests.cluster.plane.kubelet import READY_ANNOTATION
from tests.cluster.plane.waiting import eventually
from tests.cluster.ticketsales.conftest import Shop, aside

pytestmark = pytest.mark.timeout(240)
SOON = {"lobby_s": 3600.0, "opens_s": 3700.0, "closes_s": 3800.0}


def unready(estate: Estate, service: str, *, ready: bool) -> None:
    """Pods of a service that are made from now on run without being ready, or are ready again."""
    value = None if ready else "false"
    template = {"metadata": {"annotations": {READY_ANNOTATION: value}}}
    path = f"/apis/apps/v1/namespaces/{estate.namespace}/deployments/{service}"
    estate.api.merge(path, {"spec": {"template": template}})


async def test_when_ready_holds_the_calling_back_until_the_replicas_stand(
    estate: Estate, shop: Shop, name: str
) -> None:
    unready(estate, "queue", ready=False)
    with estate.operated() as operator:
        await aside(estate.apply, manifest(name, lobby_s=3, opens_s=9, closes_s=120, openPolicy="WhenReady"))
        await aside(estate.until, name, "Paused", reason="HeldBack")
        # Whoever takes over knows whose pause it is.
        operator.kill9()
        operator.start()
        buying = asyncio.create_task(shop.bought(name, 1))
        await aside(estate.until, name, "WindowOpen", reason="Paused")
        # The sale is open, and nobody is called.
        assert (await shop.organiser.ledger(name)).watermark == 0
        assert estate.condition(name, "Ready")["reason"] == "HeldBack"
        await aside(unready, estate, "queue", ready=True)
        await aside(estate.until, name, "WindowOpen", reason="Open")
        assert (await asyncio.wait_for(buying, 60)).tickets
        assert not estate.sale(name)["status"]["heldBack"]


async def test_it_holds_back_no_longer_than_its_bound(estate: Estate, name: str) -> None:
    unready(estate, "queue", ready=False)
    with estate.operated(CATRACA_HOLD_BACK_MOST_S="3"):
        await aside(estate.apply, manifest(name, lobby_s=3, opens_s=8, closes_s=120, openPolicy="WhenReady"))
        await aside(estate.until, name, "Paused", reason="HeldBack")
        await aside(estate.until, name, "WindowOpen", reason="Open")
        assert estate.condition(name, "Prewarmed")["status"] == "False"


async def test_a_conflict_of_two_sales_is_told_to_both_ahead_of_time(estate: Estate, name: str) -> None:
    with estate.operated():
        for each in (name, f"{name}-too"):
            scaling = {"services": {"queue": {"floor": 6, "peak": 12, "max": 12}}}
            await aside(estate.apply, manifest(each, **SOON, scaling=scaling))
        for each in (name, f"{name}-too"):
            limited = await aside(estate.until, each, "CapacityLimited")
            assert "queue: 2 sales want " in limited["message"]
            assert limited["message"].endswith("maxReplicas is 20.")
        # Until then there is enough.
        assert estate.least("queue") == BASE


async def test_a_persons_override_stands_until_its_time(estate: Estate, name: str) -> None:
    with estate.operated():
        until = (
            (datetime.now(UTC) + timedelta(seconds=8)).isoformat(timespec="seconds").replace("+00:00", "Z")
        )
        override = {"until": until, "reason": "a rumour", "floors": {"notifier": 7}}
        await aside(estate.apply, manifest(name, **SOON, override=override))
        await aside(eventually, lambda: estate.least("notifier"), lambda least: least == 7)
        await aside(estate.until, name, "Prewarmed", reason="FloorsReady")
        assert estate.sale(name)["status"]["nextTransition"] == {"at": until, "action": "EndOverride"}
        await aside(eventually, lambda: estate.least("notifier"), lambda least: least == BASE)


async def test_a_pause_is_the_authors_or_an_emergency_of_somebody_else(
    estate: Estate, shop: Shop, name: str
) -> None:
    with estate.operated():
        made = manifest(name, lobby_s=-1, opens_s=1, closes_s=600)
        await aside(estate.apply, made)
        await aside(estate.until, name, "WindowOpen", reason="Open")
        await shop.organiser.pause(name, True)
        await aside(estate.until, name, "Paused", reason="PausedElsewhere")
        assert (await shop.organiser.sale(name)).phase == sales.SALE_PHASE_PAUSED
        await shop.organiser.pause(name, False)
        await aside(estate.until, name, "Paused", "False")
        made["spec"]["paused"] = True
        await aside(estate.apply, made)
        await aside(estate.until, name, "Paused", reason="Asked")
        made["spec"]["paused"] = False
        await aside(estate.apply, made)
        await aside(estate.until, name, "Paused", "False", reason="Calling")


async def test_deleting_waits_for_money_in_flight_and_then_archives(
    estate: Estate, shop: Shop, name: str
) -> None:
    with estate.operated():
        await aside(estate.apply, manifest(name, lobby_s=-1, opens_s=1, closes_s=600))
        await aside(estate.until, name, "WindowOpen", reason="Open")
        buyer = shop.buyer(name)
        order = await shop.ordered(buyer, 2)
        await aside(estate.api.delete, estate.sale_path(name))
        await aside(estate.until, name, "Paused", reason="Deleting")
        refused = await aside(estate.until, name, "Drained", "False", reason="SALE_NOT_SETTLED")
        assert refused["message"] == "1 orders are open; their money is in flight."
        assert (await shop.organiser.sale(name)).phase == sales.SALE_PHASE_CLOSED
        await shop.pay(order)
        assert len((await shop.told(buyer, checkout.ORDER_STATE_CONFIRMED)).tickets) == 2
        await aside(eventually, estate.names, lambda names: name not in names)
        assert (await shop.organiser.sale(name)).phase == sales.SALE_PHASE_ARCHIVED
        # Its name is not given again.
        await aside(estate.apply, manifest(name, **SOON))
        await aside(estate.until, name, "SpecValid", "False", reason="SALE_ARCHIVED")


async def test_deleting_a_sale_that_has_not_opened(estate: Estate, shop: Shop, name: str) -> None:
    with estate.operated() as operator:
        await aside(estate.apply, manifest(name, **SOON))
        await aside(estate.until, name, "SpecValid")
        operator.stop()
        await aside(estate.api.delete, estate.sale_path(name))
        # Nobody drains it: the finalizer keeps it.
        assert name in estate.names()
        operator.start()
        await aside(eventually, estate.names, lambda names: name not in names)
        assert (await shop.organiser.sale(name)).phase == sales.SALE_PHASE_ARCHIVED


async def test_a_rehearsal_runs_to_the_last_step_and_sells_nothing(
    estate: Estate, shop: Shop, name: str
) -> None:
    with estate.operated():
        await aside(estate.apply, manifest(name, lobby_s=-1, opens_s=2, closes_s=9, rehearsal=True))
        await aside(estate.until, name, "WindowOpen", reason="Open")
        buyer = shop.buyer(name)
        admission = await shop.admitted(buyer)
        for asked in (
            buyer.hold("a-hold-1", [item("floor", 1)], admission.token),
            buyer.order("an-order", [item("floor", 1)], admission=admission.token),
        ):
            with pytest.raises(Refusal, match="REHEARSAL"):
                await asked
        await aside(estate.until, name, "Drained", reason="Settled")
        assert estate.sale(name)["status"]["counts"]["sold"] == 0


# ---- what is refused, with words for a person ----

PAST = {"opensAt": "2020-01-01T10:00:00Z", "closesAt": "2020-01-02T10:00:00Z"}


def floor(capacity: int = 4, id: str = "floor", **ticket_type: Any) -> dict[str, Any]:
    """A section."""
    types = [{"id": "full", "price": 1500} | ticket_type]
    return {"id": id, "capacity": capacity, "ticketTypes": types}


def line(**changes: Any) -> dict[str, Any]:
    """A change of the line."""
    return {"line": {"turnDuration": "20s", **changes}}


STALLS = {
    "id": "stalls",
    "kind": "Seated",
    "seats": {"categories": ["A"]},
    "ticketTypes": [{"id": "full", "price": 1500}],
}
BY_THE_API_SERVER: list[tuple[dict[str, Any], str]] = [
    ({"currency": "EUR"}, "spec.currency"),
    ({"sections": [floor(id="hill")]}, "spec.sections"),
    ({"sections": [floor(3)]}, "may only grow"),
    (line(kind="None"), "spec.line.kind"),
]
BY_DEFINE: list[tuple[dict[str, Any], str, str]] = [
    ({"sections": [floor(price=9)]}, "DEFINITION_FIXED", "spec.sections[0].ticketTypes[0].price"),
    ({"sections": [floor(quota=2)]}, "DEFINITION_FIXED", "spec.sections[0].ticketTypes[0].quota"),
    (
        {"sections": [floor() | {"ticketTypes": [{"id": "half", "price": 1}]}]},
        "DEFINITION_FIXED",
        "ticketTypes",
    ),
    ({"sections": [floor(), floor(id="new")]}, "DEFINITION_FIXED", "spec.sections[1]"),
    (line(beacon=f"drand:{'a' * 64}"), "DEFINITION_INVALID", "spec.line.beacon"),
]


async def test_changes_that_may_not_be_are_refused_at_once_or_shown(estate: Estate, name: str) -> None:
    made = manifest(name, **SOON)
    with estate.operated():
        await aside(estate.apply, made)
        await aside(estate.until, name, "SpecValid")
        for change, field in BY_THE_API_SERVER:
            with pytest.raises(Refused, match="Invalid") as refused:
                await aside(estate.apply, {**made, "spec": {**made["spec"], **change}})
            assert field in str(refused.value)
        for change, reason, path in BY_DEFINE:
            await aside(estate.apply, {**made, "spec": {**made["spec"], **change}})
            shown = await aside(estate.until, name, "SpecValid", "False", reason=reason)
            await aside(
                eventually, lambda path=path: path in estate.condition(name, "SpecValid")["message"], bool
            )
            assert shown["message"].startswith("spec.")
        await aside(estate.apply, made)
        await aside(estate.until, name, "SpecValid")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"window": PAST}, "spec.window.closesAt"),
        ({"line": {"beacon": f"drand:{'a' * 64}"}}, "spec.line.beacon"),
        ({"sections": [STALLS], "seatingPlan": {"digest": "a" * 64}}, "spec.seatingPlan.digest"),
    ],
)
async def test_a_new_sale_that_the_services_refuse_says_why(
    estate: Estate, name: str, change: dict[str, Any], path: str
) -> None:
    with estate.operated():
        made = manifest(name, **SOON)
        made["spec"] |= change
        await aside(estate.apply, made)
        shown = await aside(estate.until, name, "SpecValid", "False", reason="DEFINITION_INVALID")
        assert path in shown["message"]
        assert estate.condition(name, "Ready")["reason"] == "DEFINITION_INVALID"
        (event,) = [each for each in estate.events(name) if each["type"] == "Warning"]
        assert path in event["note"]
        # A resource whose sale never was goes without ado.
        await aside(estate.api.delete, estate.sale_path(name))
        await aside(eventually, estate.names, lambda names: name not in names)


async def test_the_crowd_in_the_lobby_raises_the_floor_ahead_of_the_opening(
    estate: Estate, shop: Shop, name: str
) -> None:
    scaling = {
        "leadTime": "30s",
        "warmUpSteps": 1,
        "raiseByForecast": True,
        "services": {"queue": {"floor": 2, "peak": 3, "max": 9}},
    }
    with estate.operated(CATRACA_WATCHERS_PER_REPLICA="2"):
        await aside(estate.apply, manifest(name, lobby_s=-1, opens_s=25, closes_s=600, scaling=scaling))
        await aside(estate.until, name, "WindowOpen", "False", reason="Lobby")
        await aside(eventually, lambda: estate.least("queue"), lambda least: least == 3)
        await asyncio.gather(*(shop.buyer(name).join() for _ in range(14)))
        # 14 and those who still come need more than 7 replicas; more than 9 the author does not allow.
        await aside(eventually, lambda: estate.least("queue"), lambda least: 7 <= least <= 9)
        expected = await aside(
            eventually,
            lambda: estate.sale(name)["status"]["forecast"],
            lambda forecast: forecast["expectedBuyers"] >= 14,
        )
        assert expected["replicas"]["queue"] >= 7


async def test_above_the_floor_the_line_itself_scales(estate: Estate, name: str) -> None:
    with estate.operated():
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds").replace("+00:00", "Z")
        override = {"until": until, "reason": "a test", "floors": {"queue": 6}}
        await aside(estate.apply, manifest(name, **SOON, override=override))
        await aside(eventually, lambda: estate.ready("queue"), lambda ready: ready == 6)
        estate.plane.metrics.set(estate.namespace, "catraca_line_waiting_buyers", 120_000)
        await aside(eventually, lambda: estate.ready("queue"), lambda ready: ready == 12)
        estate.plane.metrics.set(estate.namespace, "catraca_line_waiting_buyers", 0)
        await aside(eventually, lambda: estate.ready("queue"), lambda ready: ready == 6)
