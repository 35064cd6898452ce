"""Conditions: what makes each of them so, that their times are kept, and what a person is told."""

from typing import Any

import pytest
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as pb
from catraca_operator.floors import Crowd
from catraca_operator.reconcile import wish_of
from catraca_operator.spec import Desired, Replicas, Scaling
from catraca_operator.status import Facts, News, conditions, judge, news

from tests.unit.ticketsales.conftest import CLOSES, LOBBY, OPENS, definition, desired, override, sale, target

RUNNING = OPENS + 100_000
CROWD = Crowd(OPENS, 9, 2, 5)


def facts(now_ms: int, wanted: Desired | None = None, **changes: Any) -> Facts:
    author = wanted or desired()
    made: dict[str, Any] = {
        "desired": author,
        "wish": wish_of(author),
        "now_ms": now_ms,
        "sale": sale("OPEN"),
        "defined": True,
        "targets": {"queue": target(6, 6)},
    }
    return Facts(**made | changes)


def uncounted(phase: str) -> pb.Sale:
    """A sale of which inventory says nothing."""
    made = sale(phase)
    made.ClearField("counts")
    return made


def judged(kind: str, made: Facts) -> tuple[str, str]:
    status, reason, _ = judge(made)[kind]
    return status, reason


ROWS: list[tuple[str, tuple[str, str], Facts]] = [
    ("Prewarmed", ("False", "NotDue"), facts(LOBBY - 60_001)),
    ("Prewarmed", ("True", "FloorsReady"), facts(LOBBY - 60_000, targets={"queue": target(1, 1)})),
    ("Prewarmed", ("False", "WarmingUp"), facts(LOBBY, targets={"queue": target(1, 2)})),
    ("Prewarmed", ("False", "WarmingUp"), facts(LOBBY, targets={"queue": target(2, 2, present=1)})),
    ("Prewarmed", ("False", "WarmingUp"), facts(LOBBY, targets={})),
    ("Prewarmed", ("True", "FloorsReady"), facts(RUNNING)),
    ("Prewarmed", ("False", "CoolingDown"), facts(CLOSES)),
    ("Prewarmed", ("False", "Restoring"), facts(CLOSES + 50_000, targets={"queue": target(6, 1, present=6)})),
    ("Prewarmed", ("False", "FloorsRestored"), facts(CLOSES + 50_000, targets={"queue": target(6, 1)})),
    ("Prewarmed", ("True", "NothingAsked"), facts(RUNNING, desired(scaling=Scaling()))),
    ("Prewarmed", ("False", "WarmingUp"), facts(RUNNING, desired(override=override(CLOSES, notifier=2)))),
    ("Prewarmed", ("True", "NothingAsked"),
     facts(RUNNING, desired(scaling=Scaling(), override=override(OPENS, queue=2)))),
    ("WindowOpen", ("True", "Open"), facts(RUNNING)),
    ("WindowOpen", ("True", "Paused"), facts(RUNNING, sale=sale("PAUSED"))),
    ("WindowOpen", ("False", "Lobby"), facts(LOBBY, sale=sale("LOBBY"))),
    ("WindowOpen", ("False", "Closed"), facts(CLOSES, sale=sale("CLOSED"))),
    ("WindowOpen", ("False", "NotDefined"), facts(LOBBY, sale=None)),
    ("SoldOut", ("False", "Left"), facts(RUNNING)),
    ("SoldOut", ("False", "Left"), facts(RUNNING, sale=sale("OPEN", free=1, sold=99))),
    ("SoldOut", ("False", "MayReturn"), facts(RUNNING, sale=sale("OPEN", free=0, sold=98, held=2))),
    ("SoldOut", ("True", "SoldOut"), facts(RUNNING, sale=sale("OPEN", free=0, sold=100))),
    ("SoldOut", ("Unknown", "NotCounted"), facts(RUNNING, sale=None)),
    ("Drained", ("False", "NotClosed"), facts(RUNNING)),
    ("Drained", ("Unknown", "ServicesSilent"), facts(CLOSES, sale=sale("CLOSED"))),
    ("Drained", ("False", "UnderWay"), facts(CLOSES, sale=sale("CLOSED"), open_orders=1)),
    ("Drained", ("False", "UnderWay"), facts(CLOSES, sale=sale("CLOSED", held=1), open_orders=0)),
    ("Drained", ("True", "Settled"), facts(CLOSES, sale=sale("CLOSED", sold=9), open_orders=0)),
    ("Drained", ("Unknown", "NotCounted"), facts(CLOSES, sale=uncounted("CLOSED"), open_orders=0)),
    ("Drained", ("False", "UnderWay"), facts(CLOSES, sale=uncounted("CLOSED"), open_orders=1)),
    ("Drained", ("True", "Archived"), facts(CLOSES, sale=sale("ARCHIVED"))),
    ("CapacityLimited", ("False", "Enough"), facts(RUNNING)),
    ("CapacityLimited", ("True", "AboveMaxReplicas"), facts(RUNNING, crowds={"queue": CROWD})),
    ("Ready", ("True", "AsAsked"), facts(RUNNING)),
    ("Ready", ("False", "WarmingUp"), facts(RUNNING, targets={"queue": target(1, 6)})),
    ("Ready", ("False", "HeldBack"), facts(RUNNING, held_back=True)),
    ("Ready", ("Unknown", "ServicesSilent"), facts(RUNNING, answered=False)),
    ("Ready", ("Unknown", "NotDefinedYet"), facts(RUNNING, sale=None, defined=False)),
    ("Ready", ("False", "Deleting"), facts(RUNNING, desired(deleting=True))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "expected", "made"), ROWS, ids=[f"{row[0]}-{row[1][1]}" for row in ROWS])
def test_a_condition(kind: str, expected: tuple[str, str], made: Facts) -> None:
    assert judged(kind, made) == expected


@pytest.mark.parametrize(
    ("availability", "expected"),
    [
        (queue.AVAILABILITY_SELLING, ("False", "Left")),
        (queue.AVAILABILITY_MAY_RETURN, ("False", "MayReturn")),
        (queue.AVAILABILITY_SOLD_OUT, ("True", "SoldOut")),
    ],
)
def test_the_line_knows_of_claims_too(availability: Any, expected: tuple[str, str]) -> None:
    standing = queue.SaleStanding(availability=availability)
    free = 5 if availability == queue.AVAILABILITY_SELLING else 0
    assert (
        judged("SoldOut", facts(RUNNING, sale=sale("OPEN", free=free, sold=95), standing=standing))
        == expected
    )


def test_a_conflict_is_told_with_service_numbers_and_time() -> None:
    _, _, message = judge(facts(RUNNING, crowds={"queue": CROWD}))["CapacityLimited"]
    assert message == "queue: 2 sales want 9 together at 1970-01-01T00:16:40Z, maxReplicas is 5."


def test_replicas_without_metrics_do_not_come_down_and_that_is_said() -> None:
    made = facts(CLOSES + 50_000, targets={"queue": target(6, 1, metrics=False)})
    assert "queue have no metrics" in judge(made)["Prewarmed"][2]


def test_a_warm_up_is_told_by_when_it_begins() -> None:
    late = Scaling(60_000, 3, 50_000, services={"queue": Replicas(0, 6, 10)})
    for now_ms in (LOBBY - 60_001, LOBBY):
        _, reason, message = judge(facts(now_ms, desired(scaling=late), sale=sale("LOBBY")))["Prewarmed"]
        assert (reason, message) == ("NotDue", "The warm-up begins at 1970-01-01T00:15:40Z.")
    none = Scaling(services={"queue": Replicas(0, 0, 10)})
    assert judged("Prewarmed", facts(RUNNING, desired(scaling=none))) == ("True", "NothingAsked")


def test_every_reason_is_one_that_the_api_server_takes() -> None:
    for _, (_, reason), _ in ROWS:
        assert reason.replace("_", "").isalnum()


def test_a_time_stays_while_the_status_is_the_same() -> None:
    first = conditions(judge(facts(RUNNING)), (), facts(RUNNING))
    same = facts(RUNNING + 5_000)
    assert conditions(judge(same), first, same) == first
    warming = facts(RUNNING + 5_000, targets={"queue": target(1, 6)})
    second = {each["type"]: each for each in conditions(judge(warming), first, warming)}
    assert second["Prewarmed"]["lastTransitionTime"] == "1970-01-01T00:18:25Z"
    assert second["SpecValid"]["lastTransitionTime"] == first[1]["lastTransitionTime"]


def told(before: Facts | None, after: Facts) -> list[str]:
    was = conditions(judge(before), (), before) if before is not None else []
    return [each.reason for each in news(was, conditions(judge(after), was, after))]


def test_a_person_is_told_what_became_of_a_sale() -> None:
    early = facts(0, sale=sale("SCHEDULED"))
    lobby = facts(LOBBY, sale=sale("LOBBY"), targets={"queue": target(2, 2)})
    running, gone = facts(RUNNING), facts(RUNNING, sale=sale("OPEN", free=0, sold=100))
    closed: dict[str, Any] = {"sale": sale("CLOSED", free=0, sold=100), "open_orders": 0}
    over = facts(CLOSES, **closed)
    restored = facts(CLOSES + 50_000, **closed, targets={"queue": target(1, 1)})
    assert told(None, early) == ["Defined"]
    assert told(early, lobby) == ["FloorsReady"]
    assert told(lobby, running) == ["Open"]
    assert told(running, gone) == ["SoldOut"]
    assert told(gone, over) == ["Closed", "Settled"]
    assert told(over, restored) == ["FloorsRestored"]
    assert told(restored, restored) == []


def test_what_is_wrong_is_a_warning() -> None:
    before = conditions(judge(facts(RUNNING)), (), facts(RUNNING))
    crowded = facts(RUNNING, crowds={"queue": CROWD}, sale=sale("PAUSED", _paused()), held_back=True)
    assert {
        (each.reason, each.kind) for each in news(before, conditions(judge(crowded), before, crowded))
    } == {
        ("HeldBack", "Warning"),
        ("AboveMaxReplicas", "Warning"),
    }
    assert News("Normal", "a", "b").kind == "Normal"


def _paused() -> Any:
    made = definition()
    made.paused = True
    return made
