"""What is to be done for one sale now: desired and actual in, one action and a status out; no I/O, no clock.

Level-triggered: it asks what is, never what happened, so a crash between any two of its steps loses nothing.
What cannot be seen from outside is written to the status before it is done: `heldBack`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from catraca.sale.v1.sale_pb2 import (
    LINE_KIND_DRAW,
    SALE_PHASE_ARCHIVED,
    SALE_PHASE_CLOSED,
    SECTION_KIND_SEATED,
    Sale,
    SaleSpec,
)

from catraca_operator import floors, status
from catraca_operator.floors import Crowd, Wish
from catraca_operator.forecast import Forecast
from catraca_operator.spec import SERVICES, Desired, Scaling, Schedule, schedule_of, time_ms, time_text
from catraca_operator.status import OVER, UNDER_WAY, Facts, Refused, Target


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's own bounds, from its settings."""

    hold_back_ahead_ms: int
    """How long before the opening it is decided whether to hold it back."""
    hold_back_most_ms: int
    """How long after opensAt a sale opens at the latest, ready or not."""
    refresh_ms: int
    """How old counts may get while the sale is running."""
    idle_ms: int
    """How old they may get at other times."""


@dataclass(frozen=True, slots=True)
class Define:
    """Give the services this definition."""

    spec: SaleSpec


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop the calling, or go on with it; the rest of what the services hold stays."""

    paused: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """Free the sale's live stores."""


Action = Define | Pause | Archive


@dataclass(frozen=True, slots=True)
class Boundary:
    """A moment at which the services are to have changed the sale's phase by themselves."""

    name: str
    """open or close."""
    at_ms: int


@dataclass(frozen=True, slots=True)
class Stands:
    """What the services hold of a sale, as far as floors follow of it."""

    schedule: Schedule
    archived: bool


def stands_of(sale: Sale) -> Stands:
    """What the services hold."""
    return Stands(schedule_of(sale.spec, 0), sale.phase == SALE_PHASE_ARCHIVED)


@dataclass(frozen=True, slots=True)
class Actual:
    """What there is, as it was seen last."""

    sale: Sale | None = None
    answered: bool = True
    silence: str = ""
    standing: Any = None
    """The line's `SaleStanding`, where the sale has one."""
    open_orders: int | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    forecast: Forecast | None = None
    refused: Refused | None = None
    """The services' no to the action before this."""
    stood: Stands | None = None
    """What the services held when they were asked last, for when they do not answer."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """The resource's status as it stands."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, what to write, and when to look again."""

    action: Action | None
    status: dict[str, Any]
    wake_ms: int
    boundary: Boundary | None = None
    """The boundary that comes at `wake_ms` or later, to be watched for when it comes."""
    released: bool = False
    """The resource is being deleted, and nothing keeps it any more."""


def wish_of(
    desired: Desired,
    forecast: Forecast | None = None,
    before: Mapping[str, Any] | None = None,
    stands: Stands | None = None,
) -> Wish:
    """What floors follow of a sale. Without a forecast of now, the one in the status counts.

    Its times are those that the services hold: a change that they refused must not take replicas from a sale
    that runs. While these are not known, a sale that ran when it was looked at last keeps its floors.
    """
    status = before or {}
    if stands is not None and stands.archived:
        return Wish(desired.name, stands.schedule, Scaling())
    expected = forecast.replicas if forecast is not None else status.get("forecast", {}).get("replicas", {})
    return Wish(
        desired.name,
        stands.schedule if stands is not None else desired.schedule,
        desired.scaling,
        desired.override,
        expected,
        runs=stands is None and status.get("phase") in UNDER_WAY,
    )


def reconcile(desired: Desired, actual: Actual, now_ms: int, limits: Limits) -> Plan:
    """The next step for a sale. `now_ms` is the services' clock where it is known."""
    before = actual.before
    stands = stands_of(actual.sale) if actual.sale is not None else actual.stood
    wish = wish_of(desired, actual.forecast, before, stands)
    facts = Facts(
        desired=desired,
        wish=wish,
        now_ms=now_ms,
        sale=actual.sale,
        answered=actual.answered,
        silence=actual.silence,
        refused=actual.refused,
        standing=actual.standing,
        open_orders=actual.open_orders,
        targets=actual.targets,
        crowds=actual.crowds,
    )
    hold = _should_hold_back(facts, bool(before.get("heldBack")), limits)
    action = _action(facts, before, hold) if actual.answered else None
    differs = actual.sale is None or _differs(desired, actual.sale)
    held = hold or (
        bool(before.get("heldBack")) and _is_paused(actual.sale) and not desired.definition.paused
    )
    facts = replace(facts, defined=not differs and actual.refused is None, held_back=held)
    released = desired.deleting and _is_gone(facts)
    return Plan(
        action=action,
        status=_status(facts, actual, limits, action),
        # What was written ahead is done right after.
        wake_ms=now_ms if action or (hold and not before.get("heldBack")) else _wake_ms(facts, limits),
        boundary=_boundary(facts),
        released=released,
    )


def _is_gone(facts: Facts) -> bool:
    return facts.answered and (facts.sale is None or facts.sale.phase == SALE_PHASE_ARCHIVED)


# ---- what to ask of the services ----


def _action(facts: Facts, before: Mapping[str, Any], hold: bool) -> Action | None:
    desired, sale = facts.desired, facts.sale
    if facts.refused is not None:
        return _pausing(facts, before, hold)
    if desired.deleting:
        return _draining(facts)
    if sale is None:
        return Define(_with_pause(desired.definition, desired.definition.paused or hold))
    if sale.phase == SALE_PHASE_ARCHIVED:
        return None
    paused = desired.definition.paused or hold
    if _differs(desired, sale):
        ours = _is_pause_ours(facts, before)
        return Define(_with_pause(desired.definition, paused if ours else sale.spec.paused))
    pausing = _pausing(facts, before, hold)
    return Define(_with_pause(desired.definition, paused)) if pausing is not None else None


def _is_pause_ours(facts: Facts, before: Mapping[str, Any]) -> bool:
    """Whether it is for the operator to pause and resume.

    Someone may have paused the sale itself, in an emergency: only a change of the resource's author, or the
    end of what the operator began itself, changes that.
    """
    return before.get("observedGeneration") != facts.desired.generation or bool(before.get("heldBack"))


def _pausing(facts: Facts, before: Mapping[str, Any], hold: bool) -> Pause | None:
    """The author's pause, or the operator's own; asked for alone where the rest of a change was refused."""
    desired, sale = facts.desired, facts.sale
    if sale is None or sale.phase in OVER or desired.deleting:
        return None
    if hold and not before.get("heldBack"):
        # The status says it first: whoever finds the sale paused must know by whom.
        return None
    paused = desired.definition.paused or hold
    return Pause(paused) if _is_pause_ours(facts, before) and sale.spec.paused != paused else None


def _draining(facts: Facts) -> Action | None:
    """Call nobody any more, let turns end, close, then archive, which asks whether money is in flight."""
    sale = facts.sale
    if sale is None or sale.phase == SALE_PHASE_ARCHIVED:
        return None
    if sale.phase == SALE_PHASE_CLOSED:
        return Archive()
    if not sale.spec.paused:
        return Define(_with_pause(sale.spec, True))
    if sale.counts.promised or not sale.HasField("counts"):
        return None
    return Define(_ended(sale.spec, facts.now_ms))


def _ended(spec: SaleSpec, now_ms: int) -> SaleSpec:
    """The same sale, over now; one that has not opened opens and closes at once, with nobody called."""
    ended = SaleSpec()
    ended.CopyFrom(spec)
    window = ended.window
    if window.opens_at.ToMilliseconds() >= now_ms:
        window.opens_at.FromMilliseconds(now_ms - 1)
    if window.lobby_opens_at.ToMilliseconds() > window.opens_at.ToMilliseconds():
        window.lobby_opens_at.CopyFrom(window.opens_at)
    window.closes_at.FromMilliseconds(now_ms)
    return ended


def _with_pause(spec: SaleSpec, paused: bool) -> SaleSpec:
    wanted = SaleSpec()
    wanted.CopyFrom(spec)
    wanted.paused = paused
    return wanted


def _differs(desired: Desired, sale: Sale) -> bool:
    """Whether the services hold another definition, `paused` left aside."""
    wanted = _with_pause(desired.definition, sale.spec.paused)
    # What only Define knows: when a lobby without a time opens, and what a seating plan says.
    if not wanted.window.HasField("lobby_opens_at"):
        lobby_ms = schedule_of(wanted, sale.created_at.ToMilliseconds()).lobby_ms
        wanted.window.lobby_opens_at.FromMilliseconds(lobby_ms)
    known = {section.id: section for section in sale.spec.sections}
    for section in wanted.sections:
        if section.kind == SECTION_KIND_SEATED and section.id in known:
            section.capacity = section.capacity or known[section.id].capacity
            section.seats.focus = section.seats.focus or known[section.id].seats.focus
    return wanted != sale.spec


def _is_paused(sale: Sale | None) -> bool:
    return sale is not None and bool(sale.spec.paused)


def _should_hold_back(facts: Facts, held_before: bool, limits: Limits) -> bool:
    """Whether calling has to wait for replicas. Nothing is held back that was let go, or that has opened."""
    desired, now_ms = facts.desired, facts.now_ms
    if not desired.when_ready or desired.deleting or facts.sale is None:
        return False
    opens_ms = facts.wish.schedule.opens_ms
    if not opens_ms - limits.hold_back_ahead_ms <= now_ms < opens_ms + limits.hold_back_most_ms:
        return False
    if now_ms >= opens_ms and not held_before:
        return False
    return status.prewarmed(facts)[0] != status.TRUE


# ---- the status ----


def _status(facts: Facts, actual: Actual, limits: Limits, action: Action | None) -> dict[str, Any]:
    before = actual.before
    made: dict[str, Any] = {
        # What is about to be done shows when it is done.
        "conditions": status.conditions(status.judge(facts), before.get("conditions", ()), facts),
        "floors": {
            name: floors.wanted(facts.wish, name, facts.now_ms)
            for name in SERVICES
            if name in facts.wish.scaling.services
            or (facts.wish.override and name in facts.wish.override.floors)
        },
        "heldBack": facts.held_back,
    }
    is_archived = facts.sale is not None and facts.sale.phase == SALE_PHASE_ARCHIVED
    if action is None and (facts.defined or facts.refused is not None or is_archived):
        made["observedGeneration"] = facts.desired.generation
    elif "observedGeneration" in before:
        made["observedGeneration"] = before["observedGeneration"]
    coming = next_transition(facts.desired, facts.wish, facts.now_ms)
    if coming is not None and not is_archived:
        made["nextTransition"] = {"at": time_text(coming[0]), "action": coming[1]}
    if facts.sale is not None:
        made["phase"] = status.phase_name(facts.sale.phase)
        made["revision"] = int(facts.sale.revision)
    else:
        made |= {name: before[name] for name in ("phase", "revision") if name in before}
    return made | _observed(facts, actual, limits)


def _observed(facts: Facts, actual: Actual, limits: Limits) -> dict[str, Any]:
    """Counts, line and forecast; those of before while they are younger than the bound, or the same."""
    before = {name: actual.before[name] for name in OBSERVED if name in actual.before}
    seen = dict(before)
    if facts.sale is not None and facts.sale.HasField("counts"):
        fields = ("capacity", "free", "promised", "held", "sold", "blocked")
        seen["counts"] = {name: int(getattr(facts.sale.counts, name)) for name in fields}
    if actual.standing is not None:
        line = actual.standing
        seen["line"] = {
            "joined": int(line.joined),
            "waiting": max(0, int(line.joined - line.serving)),
            "callingRate": f"{line.calling_rate:.1f}",
        }
    if actual.forecast is not None:
        seen["forecast"] = {
            "joinRate": f"{actual.forecast.join_rate:.1f}",
            "expectedBuyers": actual.forecast.buyers,
            "replicas": dict(actual.forecast.replicas),
        }
    if seen == before:
        return before
    same_phase = facts.sale is not None and actual.before.get("phase") == status.phase_name(facts.sale.phase)
    if (
        "observedAt" in before
        and same_phase
        and facts.now_ms - time_ms(before["observedAt"]) < limits.refresh_ms
    ):
        return before
    return seen | {"observedAt": time_text(facts.now_ms)}


OBSERVED = ("counts", "line", "forecast", "observedAt")


def next_transition(desired: Desired, wish: Wish, now_ms: int) -> tuple[int, str] | None:
    """What the schedule has next, and when."""
    schedule = wish.schedule
    coming = [
        (schedule.opens_ms, "Open"),
        (schedule.closes_ms, "Close"),
    ]
    if desired.definition.line.kind == LINE_KIND_DRAW:
        coming.append((schedule.lobby_ms, "OpenLobby"))
    if wish.scaling.services:
        coming.append((floors.begins_ms(wish), "WarmUp"))
        coming.append((schedule.opens_ms - wish.scaling.lead_ms, "WarmUp"))
        coming.append((floors.ends_ms(wish), "RestoreFloors"))
    if wish.override is not None:
        coming.append((wish.override.until_ms, "EndOverride"))
    return min((each for each in coming if each[0] > now_ms), default=None)


# ---- when to look again ----


def _boundary(facts: Facts) -> Boundary | None:
    """The next change of phase that the services owe, by the definition that they hold."""
    if facts.sale is None or facts.sale.phase in OVER:
        return None
    schedule = schedule_of(facts.sale.spec, 0)
    for name, at_ms in (("open", schedule.opens_ms), ("close", schedule.closes_ms)):
        if at_ms > facts.now_ms:
            return Boundary(name, at_ms)
    return None


def _wake_ms(facts: Facts, limits: Limits) -> int:
    now_ms, schedule = facts.now_ms, facts.wish.schedule
    running = facts.sale is not None and (
        facts.sale.phase not in OVER or facts.open_orders is None or facts.open_orders > 0
    )
    near = running and now_ms >= schedule.lobby_ms - limits.idle_ms
    urgent = near or facts.desired.deleting or not facts.answered
    wake_ms = now_ms + (limits.refresh_ms if urgent else limits.idle_ms)
    ahead_ms = schedule.opens_ms - limits.hold_back_ahead_ms
    moments = [*floors.moments(facts.wish), schedule.lobby_ms]
    if facts.desired.when_ready:
        moments += [ahead_ms, schedule.opens_ms + limits.hold_back_most_ms]
    boundary = _boundary(facts)
    if boundary is not None:
        moments.append(boundary.at_ms)
    return min([wake_ms, *(at_ms for at_ms in moments if at_ms > now_ms)])
