"""The status of a TicketSale: conditions, each judged by one function, and what is worth an Event."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from catraca.queue.v1.queue_pb2 import AVAILABILITY_MAY_RETURN, AVAILABILITY_SOLD_OUT, SaleStanding
from catraca.sale.v1.sale_pb2 import (
    SALE_PHASE_ARCHIVED,
    SALE_PHASE_CLOSED,
    SALE_PHASE_OPEN,
    SALE_PHASE_PAUSED,
    Sale,
    SalePhase,
)

from catraca_operator import floors
from catraca_operator.floors import Crowd, Floor, Wish
from catraca_operator.spec import SERVICES, Desired, time_text

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
RUNNING = (SALE_PHASE_OPEN, SALE_PHASE_PAUSED)
OVER = (SALE_PHASE_CLOSED, SALE_PHASE_ARCHIVED)
# Phases with people in them, as the resource has them.
UNDER_WAY = ("Lobby", "Open", "Paused")

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """What the services said no to."""

    word: str
    message: str
    path: str = ""
    open_orders: int | None = None
    passing: bool = False
    """It says nothing about the sale: asking again later can succeed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One service's scaling target as the cluster has it."""

    present: int
    """The floor."""
    ready: int
    """Replicas that are ready."""
    floor: Floor
    """What the floor is to be."""
    metrics: bool = True
    """Whether the autoscaler can read its metrics; without, it scales neither out nor in."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that conditions are judged from."""

    desired: Desired
    wish: Wish
    now_ms: int
    sale: Sale | None
    """As the services have it; None where they have none."""
    answered: bool = True
    """Whether the services could be asked."""
    silence: str = ""
    """Why not."""
    refused: Refused | None = None
    """The services' no to the last thing that was asked of them."""
    defined: bool = False
    """Whether the services hold the definition of this generation."""
    standing: SaleStanding | None = None
    open_orders: int | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    """By service, where this sale is part of wanting too much."""
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """Something for a person, as a Kubernetes Event."""

    kind: str
    """Normal or Warning."""
    reason: str
    message: str


Judgement = tuple[str, str, str]
"""Status, reason, message."""


def spec_valid(facts: Facts) -> Judgement:
    """Whether the services hold the definition."""
    refused = facts.refused
    if refused is not None and not facts.desired.deleting:
        at = f"{refused.path}: " if refused.path and not refused.message.startswith(refused.path) else ""
        return FALSE, refused.word, f"{at}{refused.message}"
    if facts.sale is not None and facts.sale.phase == SALE_PHASE_ARCHIVED:
        return FALSE, "SALE_ARCHIVED", "A sale of this name was archived; its name is not given again."
    if (facts.defined or facts.desired.deleting) and facts.sale is not None:
        return TRUE, "Defined", f"The services hold it as revision {facts.sale.revision}."
    if not facts.answered:
        return _silent(facts)
    return UNKNOWN, "NotDefinedYet", "The services do not hold it yet."


def window_open(facts: Facts) -> Judgement:
    """Whether the sale is between its opening and its closing, by the services' own word."""
    if not facts.answered and facts.sale is None:
        return _silent(facts)
    if facts.sale is None:
        return FALSE, "NotDefined", "The services have no such sale."
    phase = phase_name(facts.sale.phase)
    if facts.sale.phase in RUNNING:
        return TRUE, phase, f"Closes at {time_text(facts.sale.spec.window.closes_at.ToMilliseconds())}."
    if facts.sale.phase in OVER:
        return FALSE, phase, f"Closed at {time_text(facts.sale.spec.window.closes_at.ToMilliseconds())}."
    return FALSE, phase, f"Opens at {time_text(facts.sale.spec.window.opens_at.ToMilliseconds())}."


def prewarmed(facts: Facts) -> Judgement:
    """Whether the replicas that are due now are ready."""
    wish, now_ms = facts.wish, facts.now_ms
    wanted = {name: floors.wanted(wish, name, now_ms) for name in _scaled(facts)}
    if not wanted:
        return TRUE, "NothingAsked", "The sale asks for no floor."
    if not any(wanted.values()):
        if now_ms >= wish.schedule.closes_ms:
            return _after(facts)
        rises_ms = floors.rises_ms(wish, now_ms)
        if rises_ms is None:
            return TRUE, "NothingAsked", "The sale asks for no floor."
        return FALSE, "NotDue", f"The warm-up begins at {time_text(rises_ms)}."
    missing = []
    for name, count in wanted.items():
        target = facts.targets.get(name)
        if target is None:
            missing.append(f"{name} has no HPA or ScaledObject that carries the labels")
        # A floor that is about to be raised is not met by the replicas of the one before it.
        elif count and (target.ready < target.floor.value or target.present < target.floor.value):
            missing.append(f"{name} {target.ready}/{target.floor.value}")
    if missing:
        return FALSE, "WarmingUp", f"Not ready: {', '.join(missing)}."
    told = ", ".join(f"{name} {facts.targets[name].ready}" for name, count in wanted.items() if count)
    return TRUE, "FloorsReady", f"Ready: {told}."


def _after(facts: Facts) -> Judgement:
    if facts.now_ms < floors.ends_ms(facts.wish):
        return FALSE, "CoolingDown", f"The floors stay until {time_text(floors.ends_ms(facts.wish))}."
    targets = [(name, facts.targets[name]) for name in _scaled(facts) if name in facts.targets]
    higher = [name for name, target in targets if target.present > target.floor.value]
    if higher:
        return FALSE, "Restoring", f"Floors that are being lowered: {', '.join(higher)}."
    blind = [name for name, target in targets if not target.metrics]
    if blind:
        told = f"The autoscalers of {', '.join(blind)} have no metrics and do not scale in by themselves."
        return FALSE, "FloorsRestored", f"The floors are what they were. {told}"
    return FALSE, "FloorsRestored", "The floors are what they were, or what other sales want."


def sold_out(facts: Facts) -> Judgement:
    """Whether nothing is left and nothing can come back."""
    if facts.sale is None or not facts.sale.HasField("counts"):
        return UNKNOWN, "NotCounted", "The units are not counted yet."
    counts = facts.sale.counts
    under_way = counts.held + counts.promised
    if facts.standing is not None and facts.sale.phase in RUNNING:
        # The ledger knows of claims and quotas too.
        gone = facts.standing.availability == AVAILABILITY_SOLD_OUT
        under_way = under_way or int(facts.standing.availability == AVAILABILITY_MAY_RETURN)
    else:
        gone = counts.free == 0 and not under_way
    told = f"{counts.sold} of {counts.capacity} are sold."
    if gone and counts.sold:
        return TRUE, "SoldOut", told
    if counts.free == 0 and under_way:
        return FALSE, "MayReturn", f"{told} What is under way may come back."
    return FALSE, "Left", told


def drained(facts: Facts) -> Judgement:
    """Whether nothing is under way any more: no turn, hold, order or payment."""
    if facts.refused is not None and facts.desired.deleting:
        told = facts.refused.message
        if facts.refused.open_orders is not None:
            told = f"{facts.refused.open_orders} orders are open; their money is in flight."
        return FALSE, facts.refused.word, told
    if facts.sale is None:
        return (TRUE, "NotDefined", "There is no sale.") if facts.answered else _silent(facts)
    if facts.sale.phase == SALE_PHASE_ARCHIVED:
        return TRUE, "Archived", "The sale's live stores are freed; its streams stay for the audit."
    counts, is_counted = facts.sale.counts, facts.sale.HasField("counts")
    if facts.sale.phase not in OVER:
        if facts.desired.deleting and not is_counted:
            return UNKNOWN, "NotCounted", "Whose turn runs is not counted yet."
        if facts.desired.deleting:
            return FALSE, "Draining", f"{counts.promised} units are promised, {counts.held} are held."
        return FALSE, "NotClosed", "The sale is not over."
    if facts.open_orders is None:
        return _silent(facts)
    if counts.held or counts.promised or facts.open_orders:
        told = f"{facts.open_orders} orders are open, {counts.held} units are held."
        return FALSE, "UnderWay", told
    if not is_counted:
        return UNKNOWN, "NotCounted", "The units are not counted yet."
    return TRUE, "Settled", "Nothing is under way."


def paused(facts: Facts) -> Judgement:
    """Whether calling is stopped, and by whom."""
    if not facts.answered and facts.sale is None:
        return _silent(facts)
    is_paused = facts.sale is not None and facts.sale.spec.paused
    if not is_paused:
        if facts.desired.definition.paused and facts.defined:
            return FALSE, "ResumedElsewhere", "The resource says paused; somebody resumed the sale itself."
        return FALSE, "Calling", "Nothing stops the calling."
    if facts.desired.deleting:
        return TRUE, "Deleting", "The resource is being deleted."
    if facts.held_back:
        return TRUE, "HeldBack", "The opening waits for the replicas."
    if facts.desired.definition.paused:
        return TRUE, "Asked", "spec.paused is true."
    return TRUE, "PausedElsewhere", "Somebody paused the sale itself; the operator leaves it so."


def capacity_limited(facts: Facts) -> Judgement:
    """Whether sales want more replicas together than there may be, now or at a time that is known already."""
    told = [
        f"{name}: {crowd.sales} {'sales want' if crowd.sales > 1 else 'sale wants'} {crowd.wanted}"
        f"{' together' if crowd.sales > 1 else ''} at {time_text(crowd.at_ms)}, maxReplicas is {crowd.most}"
        for name, crowd in facts.crowds.items()
    ]
    if told:
        return TRUE, "AboveMaxReplicas", f"{'; '.join(told)}."
    return FALSE, "Enough", "No service is asked for more replicas than it may have."


def _silent(facts: Facts) -> Judgement:
    return UNKNOWN, "ServicesSilent", f"The services did not answer: {facts.silence}"


CONDITIONS: Mapping[str, Callable[[Facts], Judgement]] = {
    "SpecValid": spec_valid,
    "Prewarmed": prewarmed,
    "WindowOpen": window_open,
    "SoldOut": sold_out,
    "Drained": drained,
    "Paused": paused,
    "CapacityLimited": capacity_limited,
}


def judge(facts: Facts) -> dict[str, Judgement]:
    """Every condition by its type, `Ready` first."""
    judged = {name: judgement(facts) for name, judgement in CONDITIONS.items()}
    return {"Ready": _ready(facts, judged), **judged}


def _ready(facts: Facts, judged: Mapping[str, Judgement]) -> Judgement:
    """Whether everything is as it should be at this time."""
    if facts.desired.deleting:
        return FALSE, "Deleting", judged["Drained"][2]
    if not facts.answered:
        return _silent(facts)
    status, reason, message = judged["SpecValid"]
    if status != TRUE:
        return status, reason, message
    if facts.held_back:
        return FALSE, "HeldBack", judged["Prewarmed"][2]
    status, reason, message = judged["Prewarmed"]
    if reason == "WarmingUp":
        return FALSE, reason, message
    return TRUE, "AsAsked", "Everything that is due is done."


def conditions(judged: Mapping[str, Judgement], before: Sequence[Condition], facts: Facts) -> list[Condition]:
    """All conditions as a resource has them; `lastTransitionTime` is kept where the status is the same."""
    known = {each["type"]: each for each in before}
    made = []
    for kind, (status, reason, message) in judged.items():
        was = known.get(kind, {})
        changed_at = was.get("lastTransitionTime") if was.get("status") == status else None
        made.append(
            {
                "type": kind,
                "status": status,
                "observedGeneration": facts.desired.generation,
                "lastTransitionTime": changed_at or time_text(facts.now_ms),
                "reason": reason,
                "message": message,
            }
        )
    return made


# What people care for: a condition that came to this status, or to another reason of it.
TOLD: Mapping[tuple[str, str], str] = {
    ("SpecValid", TRUE): "Normal",
    ("SpecValid", FALSE): "Warning",
    ("Prewarmed", TRUE): "Normal",
    ("WindowOpen", TRUE): "Normal",
    ("SoldOut", TRUE): "Normal",
    ("Drained", TRUE): "Normal",
    ("Paused", TRUE): "Normal",
    ("CapacityLimited", TRUE): "Warning",
}
# Reasons that are told although their status is the quiet one, or differently from it.
TOLD_REASONS: Mapping[str, str] = {
    "Closed": "Normal",
    "FloorsRestored": "Normal",
    "HeldBack": "Warning",
    "SALE_NOT_SETTLED": "Warning",
}
# Said with nothing to say.
QUIET = frozenset({"NothingAsked", "Paused", "NotDefined"})


def news(before: Sequence[Condition], after: Iterable[Condition]) -> list[News]:
    """What a person may want to hear of the change from one list of conditions to the next."""
    known = {each["type"]: (each["status"], each["reason"]) for each in before}
    found = []
    for each in after:
        kind, status, reason = each["type"], each["status"], each["reason"]
        if known.get(kind) == (status, reason) or reason in QUIET or kind == "Ready":
            continue
        severity = TOLD_REASONS.get(reason) or TOLD.get((kind, status))
        if severity is not None:
            found.append(News(severity, reason, each["message"]))
    return found


def known(before: Iterable[Condition], after: Iterable[Condition]) -> list[Condition]:
    """What was known last of each condition: one that is Unknown for a while makes no old news new."""
    found = {each["type"]: each for each in before}
    return list((found | {each["type"]: each for each in after if each["status"] != UNKNOWN}).values())


def phase_name(phase: "SalePhase.ValueType") -> str:
    """A phase as the resource has it."""
    return SalePhase.Name(phase).removeprefix("SALE_PHASE_").title()


def _scaled(facts: Facts) -> list[str]:
    """The services that the sale has a word on, in the order in which they are told."""
    override = facts.wish.override.floors if facts.wish.override is not None else {}
    return [name for name in SERVICES if name in facts.wish.scaling.services or name in override]
