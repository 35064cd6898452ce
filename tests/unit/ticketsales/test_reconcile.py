"""What is done for a sale: a row for every case, desired and actual in, an action out."""

from collections.abc import Callable
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2 as pb
from catraca_operator import floors
from catraca_operator.reconcile import (
    Actual,
    Archive,
    Define,
    Pause,
    Plan,
    next_transition,
    reconcile,
    stands_of,
    wish_of,
)
from catraca_operator.spec import Desired, Scaling, Schedule, time_text
from catraca_operator.status import Refused

from tests.unit.ticketsales.conftest import (
    CLOSES,
    LIMITS,
    LOBBY,
    OPENS,
    definition,
    desired,
    override,
    sale,
    target,
)

Look = Callable[..., Actual]
BEFORE, RUNNING = LOBBY - 200_000, OPENS + 500_000
AHEAD = LIMITS.hold_back_ahead_ms
NEW = {"observedGeneration": 0}
HELD = {"observedGeneration": 1, "heldBack": True}


def paused(spec: pb.SaleSpec | None = None) -> pb.SaleSpec:
    """The definition, paused."""
    made = pb.SaleSpec()
    made.CopyFrom(spec or definition())
    made.paused = True
    return made


def plan(wanted: Desired, actual: Actual, now_ms: int) -> Plan:
    return reconcile(wanted, actual, now_ms, LIMITS)


def defined(made: Plan) -> pb.SaleSpec:
    """The definition that a plan gives."""
    assert isinstance(made.action, Define)
    return made.action.spec


def conditions(made: Plan) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in made.status["conditions"]}


# ---- defining ----


def test_a_sale_that_is_not_there_is_defined(looked: Look) -> None:
    assert defined(plan(desired(), looked(None, before={}), BEFORE)) == definition()


def test_a_sale_that_is_as_wanted_is_left_alone(looked: Look) -> None:
    made = plan(desired(), looked(sale("SCHEDULED")), BEFORE)
    assert made.action is None
    assert conditions(made)["SpecValid"] == ("True", "Defined")
    assert conditions(made)["Ready"] == ("True", "AsAsked")


def test_the_default_that_only_the_services_know_is_no_difference(looked: Look) -> None:
    wanted = definition()
    wanted.window.ClearField("lobby_opens_at")
    seen = sale("SCHEDULED")
    seen.created_at.FromMilliseconds(LOBBY)
    assert plan(desired(definition=wanted), looked(seen), BEFORE).action is None


def test_a_lobbys_time_that_is_taken_away_is_a_difference(looked: Look) -> None:
    wanted = definition()
    wanted.window.ClearField("lobby_opens_at")
    seen = sale("SCHEDULED")
    seen.created_at.FromMilliseconds(BEFORE)
    assert defined(plan(desired(definition=wanted, generation=2), looked(seen), BEFORE)) == wanted


def test_what_a_seating_plan_says_is_no_difference(looked: Look) -> None:
    seats = {"categories": ["Stalls"]}
    section = {"id": "stalls", "kind": "Seated", "seats": seats, "ticketTypes": [{"id": "full", "price": 1}]}
    wanted = definition(sections=[section], seatingPlan={"digest": "a" * 64})
    stands = pb.SaleSpec()
    stands.CopyFrom(wanted)
    stands.sections[0].capacity, stands.sections[0].seats.focus = 38, pb.SEAT_FOCUS_FRONT
    assert plan(desired(definition=wanted), looked(sale("SCHEDULED", stands)), BEFORE).action is None
    wanted.sections[0].ticket_types[0].price = 2
    changed = plan(desired(definition=wanted, generation=2), looked(sale("SCHEDULED", stands)), BEFORE)
    assert defined(changed) == wanted


def test_another_definition_is_given(looked: Look) -> None:
    wanted = definition(title="Another")
    assert defined(plan(desired(definition=wanted, generation=2), looked(sale("OPEN")), RUNNING)) == wanted


def test_what_somebody_else_defined_is_defined_back(looked: Look) -> None:
    seen = sale("SCHEDULED", definition(title="Somebody's"))
    assert defined(plan(desired(), looked(seen), BEFORE)) == definition()


def test_silent_services_are_asked_for_nothing(looked: Look) -> None:
    actual = looked(None, answered=False, silence="UNAVAILABLE: nobody there", before={})
    made = plan(desired(), actual, BEFORE)
    assert made.action is None
    assert conditions(made)["Ready"] == ("Unknown", "ServicesSilent")
    assert "observedGeneration" not in made.status


def test_silence_keeps_what_was_seen_last(looked: Look) -> None:
    before = {"observedGeneration": 1, "phase": "Open", "revision": 4, "counts": {"sold": 3}}
    made = plan(desired(), looked(None, answered=False, before=before), RUNNING)
    assert {name: made.status[name] for name in before} == before


def test_a_refusal_is_shown_with_its_path_and_not_tried_again_at_once(looked: Look) -> None:
    refused = Refused("DEFINITION_FIXED", "spec.currency is fixed since the commitment", "spec.currency")
    wanted = desired(definition=definition(currency="EUR"), generation=2)
    made = plan(wanted, looked(sale("LOBBY"), refused=refused), LOBBY)
    assert made.action is None
    (shown,) = [each for each in made.status["conditions"] if each["type"] == "SpecValid"]
    assert (shown["status"], shown["reason"]) == ("False", "DEFINITION_FIXED")
    assert "spec.currency" in shown["message"]
    assert made.status["observedGeneration"] == 2


def test_a_name_of_an_archived_sale_is_not_given_again(looked: Look) -> None:
    made = plan(desired(), looked(sale("ARCHIVED"), before={}), BEFORE)
    assert made.action is None
    assert conditions(made)["SpecValid"] == ("False", "SALE_ARCHIVED")
    assert "nextTransition" not in made.status


# ---- pausing ----


def test_the_author_pauses_and_resumes(looked: Look) -> None:
    asked = desired(definition=paused(), generation=2)
    assert defined(plan(asked, looked(sale("OPEN")), RUNNING)).paused
    resumed = desired(generation=3)
    assert not defined(plan(resumed, looked(sale("PAUSED", paused())), RUNNING)).paused


def test_somebody_elses_pause_is_left_as_it_is(looked: Look) -> None:
    made = plan(desired(), looked(sale("PAUSED", paused())), RUNNING)
    assert made.action is None
    assert conditions(made)["Paused"] == ("True", "PausedElsewhere")


def test_somebody_elses_pause_outlives_the_mending_of_another_field(looked: Look) -> None:
    seen = sale("PAUSED", paused(definition(title="Somebody's")))
    assert defined(plan(desired(), looked(seen), RUNNING)) == paused()


def test_somebody_elses_resuming_is_left_as_it_is(looked: Look) -> None:
    made = plan(desired(definition=paused()), looked(sale("OPEN")), RUNNING)
    assert made.action is None
    assert conditions(made)["Paused"] == ("False", "ResumedElsewhere")


FIXED = Refused("DEFINITION_FIXED", "spec.currency is fixed since the commitment", "spec.currency")


@pytest.mark.parametrize("asked", [True, False])
def test_a_change_that_was_refused_does_not_keep_the_author_from_pausing(looked: Look, asked: bool) -> None:
    wanted = definition(currency="EUR")
    wanted.paused = asked
    seen = sale("PAUSED", paused()) if not asked else sale("OPEN")
    made = plan(desired(definition=wanted, generation=3), looked(seen, refused=FIXED), RUNNING)
    assert made.action == Pause(asked)
    # Until that is done the generation was not seen to.
    assert made.status["observedGeneration"] == 1
    done = sale("PAUSED", paused()) if asked else sale("OPEN")
    after = plan(desired(definition=wanted, generation=3), looked(done, refused=FIXED), RUNNING)
    assert after.action is None
    assert after.status["observedGeneration"] == 3
    assert conditions(after)["SpecValid"] == ("False", "DEFINITION_FIXED")


def test_a_change_that_was_refused_resumes_nobodys_pause(looked: Look) -> None:
    wanted = desired(definition=definition(currency="EUR"))
    assert plan(wanted, looked(sale("PAUSED", paused()), refused=FIXED), RUNNING).action is None


def test_a_change_that_was_refused_does_not_open_what_is_held_back(looked: Look) -> None:
    wanted = desired(definition=definition(currency="EUR"), when_ready=True)
    actual = looked(sale("LOBBY"), refused=FIXED, targets=WAITING, before=HELD)
    assert plan(wanted, actual, OPENS - AHEAD).action == Pause(True)


def test_what_is_over_is_not_paused(looked: Look) -> None:
    asked = desired(definition=paused(), generation=2)
    assert plan(asked, looked(sale("CLOSED"), open_orders=0), CLOSES).action is None


# ---- what the services hold counts, not what they refused ----

NEXT_WEEK = Schedule(OPENS + 600_000_000, OPENS + 604_800_000, CLOSES + 604_800_000)


def moved() -> pb.SaleSpec:
    """The definition a week later, which comes too late once the sale has opened."""
    made, window = definition(), definition().window
    for name, of in zip(
        ("lobby_opens_at", "opens_at", "closes_at"),
        (NEXT_WEEK.lobby_ms, NEXT_WEEK.opens_ms, NEXT_WEEK.closes_ms),
        strict=True,
    ):
        getattr(window, name).FromMilliseconds(of)
    made.window.CopyFrom(window)
    return made


def test_a_refused_move_lowers_no_floor_of_the_sale_that_runs(looked: Look) -> None:
    refused = Refused("DEFINITION_FIXED", "spec.window.opensAt is fixed since the opening")
    wanted = desired(definition=moved(), schedule=NEXT_WEEK, generation=2)
    made = plan(wanted, looked(sale("OPEN"), refused=refused), RUNNING)
    assert made.status["floors"] == {"queue": 6}
    assert made.status["nextTransition"] == {"at": time_text(CLOSES), "action": "Close"}
    wish = wish_of(wanted, stands=stands_of(sale("OPEN")))
    assert (floors.wanted(wish, "queue", RUNNING), floors.holds(wish, "queue", RUNNING)) == (6, True)


def test_an_operator_that_has_not_looked_yet_lowers_no_floor_of_a_sale_that_runs() -> None:
    wanted = desired(definition=moved(), schedule=NEXT_WEEK, generation=2)
    for phase in ("Lobby", "Open", "Paused"):
        assert floors.holds(wish_of(wanted, before={"phase": phase}), "queue", RUNNING)
    for phase in ("Scheduled", "Closed"):
        assert not floors.holds(wish_of(wanted, before={"phase": phase}), "queue", RUNNING)


def test_a_name_that_had_its_sale_asks_for_no_replicas(looked: Look) -> None:
    made = plan(desired(), looked(sale("ARCHIVED"), before={}), RUNNING)
    assert made.status["floors"] == {}
    assert conditions(made)["Prewarmed"] == ("True", "NothingAsked")
    wish = wish_of(desired(), stands=stands_of(sale("ARCHIVED")))
    assert (floors.wanted(wish, "queue", RUNNING), floors.holds(wish, "queue", RUNNING)) == (0, False)


# ---- holding back ----

WAITING = {"queue": target(3, 6)}


def test_on_time_opens_whatever_is_ready(looked: Look) -> None:
    for now_ms in (OPENS - AHEAD, OPENS - 1, OPENS):
        made = plan(desired(), looked(sale("LOBBY"), targets=WAITING), now_ms)
        assert made.action is None
        assert not made.status["heldBack"]


def test_when_ready_says_so_before_it_pauses(looked: Look) -> None:
    wanted = desired(when_ready=True)
    first = plan(wanted, looked(sale("LOBBY"), targets=WAITING), OPENS - AHEAD)
    assert first.action is None
    assert first.status["heldBack"]
    assert first.wake_ms == OPENS - AHEAD
    second = plan(wanted, looked(sale("LOBBY"), targets=WAITING, before=HELD), OPENS - AHEAD)
    assert defined(second).paused


@pytest.mark.parametrize(
    ("now_ms", "ready", "held"),
    [
        (OPENS - AHEAD - 1, 3, False),
        (OPENS - 1, 3, True),
        (OPENS + 60_000, 3, True),
        (OPENS + 60_000, 6, False),
        (OPENS + LIMITS.hold_back_most_ms - 1, 3, True),
        (OPENS + LIMITS.hold_back_most_ms, 3, False),
    ],
)
def test_it_is_held_until_ready_or_until_the_bound(looked: Look, now_ms: int, ready: int, held: bool) -> None:
    seen = sale("PAUSED", paused())
    actual = looked(seen, targets={"queue": target(ready, 6)}, before=HELD)
    made = plan(desired(when_ready=True), actual, now_ms)
    if held:
        assert made.action is None
        assert conditions(made)["Paused"] == ("True", "HeldBack")
        assert conditions(made)["Ready"] == ("False", "HeldBack")
    else:
        assert not defined(made).paused


def test_a_crash_between_releasing_and_writing_it_down_is_made_good(looked: Look) -> None:
    made = plan(desired(when_ready=True), looked(sale("OPEN"), before=HELD), OPENS + 60_000)
    assert made.action is None
    assert not made.status["heldBack"]


def test_what_opened_is_not_held_back_by_an_operator_that_was_away(looked: Look) -> None:
    made = plan(desired(when_ready=True), looked(sale("OPEN"), targets=WAITING), OPENS + 1)
    assert made.action is None
    assert not made.status["heldBack"]


def test_an_author_who_paused_is_not_overruled_by_the_release(looked: Look) -> None:
    wanted = desired(when_ready=True, definition=paused())
    made = plan(wanted, looked(sale("PAUSED", paused()), before=HELD), OPENS + 60_000)
    assert made.action is None
    assert conditions(made)["Paused"] == ("True", "Asked")


# ---- deleting ----

DELETING = desired(deleting=True)


def test_deleting_stops_the_calling_first(looked: Look) -> None:
    assert defined(plan(DELETING, looked(sale("OPEN", promised=8)), RUNNING)) == paused()


def test_then_turns_end_by_themselves(looked: Look) -> None:
    made = plan(DELETING, looked(sale("PAUSED", paused(), promised=8)), RUNNING)
    assert made.action is None
    assert conditions(made)["Drained"] == ("False", "Draining")
    assert not made.released


def test_turns_that_nobody_counted_may_still_run(looked: Look) -> None:
    seen = sale("PAUSED", paused())
    seen.ClearField("counts")
    made = plan(DELETING, looked(seen), RUNNING)
    assert made.action is None
    assert conditions(made)["Drained"] == ("Unknown", "NotCounted")


def test_then_the_sale_is_over(looked: Look) -> None:
    spec = defined(plan(DELETING, looked(sale("PAUSED", paused(), held=3)), RUNNING))
    window = spec.window
    assert window.closes_at.ToMilliseconds() == RUNNING
    assert window.opens_at.ToMilliseconds() == OPENS


@pytest.mark.parametrize("now_ms", [BEFORE, LOBBY, LOBBY + 1, OPENS - 1, OPENS])
def test_a_sale_that_has_not_opened_is_over_too(looked: Look, now_ms: int) -> None:
    spec = defined(plan(DELETING, looked(sale("LOBBY", paused())), now_ms))
    window = spec.window
    times = [each.ToMilliseconds() for each in (window.lobby_opens_at, window.opens_at, window.closes_at)]
    assert times[0] <= times[1] < times[2] == now_ms


def test_then_it_is_archived_unless_money_is_in_flight(looked: Look) -> None:
    assert isinstance(plan(DELETING, looked(sale("CLOSED"), open_orders=2), CLOSES).action, Archive)
    refused = Refused("SALE_NOT_SETTLED", "The sale still has open orders.", open_orders=2)
    made = plan(DELETING, looked(sale("CLOSED"), open_orders=2, refused=refused), CLOSES)
    assert not made.released
    assert conditions(made)["Drained"] == ("False", "SALE_NOT_SETTLED")
    assert conditions(made)["SpecValid"][0] == "True"


@pytest.mark.parametrize("seen", [None, sale("ARCHIVED")])
def test_then_the_resource_may_go(looked: Look, seen: pb.Sale | None) -> None:
    made = plan(DELETING, looked(seen), CLOSES)
    assert made.action is None
    assert made.released


def test_what_can_be_read_no_more_is_drained_by_what_the_services_hold(looked: Look) -> None:
    unread = Desired("show", 2, pb.SaleSpec(), Schedule(0, 0, 0), Scaling(), deleting=True)
    assert defined(plan(unread, looked(sale("OPEN", promised=8)), RUNNING)) == paused()
    spec = defined(plan(unread, looked(sale("PAUSED", paused())), RUNNING))
    assert spec.window.closes_at.ToMilliseconds() == RUNNING
    assert plan(unread, looked(None), RUNNING).released


def test_silence_does_not_let_it_go(looked: Look) -> None:
    assert not plan(DELETING, looked(None, answered=False), CLOSES).released


# ---- when to look again ----


def test_it_looks_again_at_every_moment_that_changes_something(looked: Look) -> None:
    wanted, now_ms, seen = desired(when_ready=True), LOBBY - 300_000, set()
    while now_ms < CLOSES + 200_000:
        phase = "LOBBY" if now_ms < OPENS else "OPEN" if now_ms < CLOSES else "CLOSED"
        made = plan(wanted, looked(sale(phase), open_orders=0), now_ms)
        assert now_ms < made.wake_ms <= now_ms + LIMITS.idle_ms
        now_ms = made.wake_ms
        seen.add(now_ms)
    lead = wanted.scaling.lead_ms
    assert {LOBBY - lead, OPENS - lead, OPENS - AHEAD, LOBBY, OPENS, CLOSES, CLOSES + 50_000} <= seen


@pytest.mark.parametrize(
    ("phase", "now_ms", "name", "at_ms"),
    [
        ("SCHEDULED", BEFORE, "open", OPENS),
        ("LOBBY", OPENS - 1, "open", OPENS),
        ("OPEN", OPENS, "close", CLOSES),
        ("PAUSED", CLOSES - 1, "close", CLOSES),
    ],
)
def test_the_boundary_that_is_watched_for(
    looked: Look, phase: str, now_ms: int, name: str, at_ms: int
) -> None:
    boundary = plan(desired(), looked(sale(phase)), now_ms).boundary
    assert boundary is not None
    assert (boundary.name, boundary.at_ms) == (name, at_ms)


def test_what_is_over_has_no_boundary(looked: Look) -> None:
    assert plan(desired(), looked(sale("CLOSED"), open_orders=0), CLOSES).boundary is None


@pytest.mark.parametrize(
    ("now_ms", "action"),
    [
        (0, "WarmUp"),
        (LOBBY - 60_000, "OpenLobby"),
        (LOBBY, "WarmUp"),
        (OPENS - 60_000, "Open"),
        (OPENS, "EndOverride"),
        (OPENS + 100, "Close"),
        (CLOSES, "RestoreFloors"),
    ],
)
def test_what_the_schedule_has_next(now_ms: int, action: str) -> None:
    wanted = desired(override=override(OPENS + 100, queue=3))
    found = next_transition(wanted, wish_of(wanted), now_ms)
    assert found is not None
    assert found[1] == action
    assert found[0] > now_ms


def test_in_the_end_nothing_is_next() -> None:
    assert next_transition(desired(), wish_of(desired()), CLOSES + 50_000) is None


def test_without_a_line_there_is_no_lobby_to_open() -> None:
    made = desired(definition=definition("None"), schedule=Schedule(OPENS, OPENS, CLOSES))
    actions: list[str] = []
    now_ms = 0
    while found := next_transition(made, wish_of(made), now_ms):
        now_ms = found[0]
        actions.append(found[1])
    assert actions == ["WarmUp", "Open", "Close", "RestoreFloors"]


# ---- what is shown of what was counted ----


def counted(made: Plan) -> tuple[Any, ...]:
    return made.status["counts"]["sold"], made.status["observedAt"]


def test_counts_are_written_at_a_bounded_rate(looked: Look) -> None:
    first = plan(desired(), looked(sale("OPEN", sold=1)), RUNNING)
    again = plan(
        desired(), looked(sale("OPEN", sold=2), before=first.status), RUNNING + LIMITS.refresh_ms - 1
    )
    assert counted(again) == counted(first)
    later = plan(desired(), looked(sale("OPEN", sold=2), before=first.status), RUNNING + LIMITS.refresh_ms)
    assert later.status["counts"]["sold"] == 2
    assert later.status["observedAt"] != first.status["observedAt"]


def test_counts_that_are_the_same_are_not_written_again(looked: Look) -> None:
    first = plan(desired(), looked(sale("OPEN", sold=1)), RUNNING)
    later = plan(desired(), looked(sale("OPEN", sold=1), before=first.status), RUNNING + 3600)
    assert later.status == first.status


def test_a_change_of_phase_brings_counts_at_once(looked: Look) -> None:
    first = plan(desired(), looked(sale("OPEN", sold=1)), CLOSES - 1)
    later = plan(desired(), looked(sale("CLOSED", sold=2), before=first.status, open_orders=0), CLOSES)
    assert later.status["counts"]["sold"] == 2
