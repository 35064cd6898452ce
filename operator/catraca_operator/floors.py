"""How many replicas sales want of each service, and the floor that follows; without I/O and without a clock.

A floor is an HPA's minReplicas, or a ScaledObject's minReplicaCount. What sales want adds up; the chart's own
floor is kept; while any sale that scales the service is between its warm-up and the end of its cooldown
nothing is lowered, so that no buyer's connection is cut for thrift. A closed sale wants nothing any more: its
floor stays by that rule alone. So two operators whose clocks differ by less than `SKEW_MS` never undo each
other's writes: at each moment where the clocks disagree, the one that is behind finds the floor held.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from catraca_operator.spec import SERVICES, Override, Scaling, Schedule

SKEW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What floors follow of one sale."""

    sale: str
    schedule: Schedule
    scaling: Scaling
    override: Override | None = None
    expected: Mapping[str, int] = field(default_factory=dict)
    """Replicas by service that the forecast asks for."""
    runs: bool = False
    """It ran when it was looked at last, and by which times is not known yet."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What becomes of one service's floor at a moment."""

    value: int
    """What it is to be."""
    wanted: int
    """What all sales want together."""
    sales: int
    """How many sales want some."""
    most: int
    """The most replicas there may be, which is the chart's."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """The first moment at which sales want more of a service together than there may be."""

    at_ms: int
    wanted: int
    sales: int
    most: int


def wanted(wish: Wish, service: str, now_ms: int) -> int:
    """Replicas that the sale wants of the service at a moment."""
    override = wish.override
    if override is not None and service in override.floors and now_ms < override.until_ms:
        return override.floors[service]
    replicas = wish.scaling.services.get(service)
    if replicas is None or now_ms >= wish.schedule.closes_ms:
        return 0
    at_lobby = _risen(wish, wish.schedule.lobby_ms, now_ms, 0, replicas.floor)
    return _risen(wish, wish.schedule.opens_ms, now_ms, at_lobby, _peak(wish, service))


def _peak(wish: Wish, service: str) -> int:
    replicas = wish.scaling.services[service]
    expected = wish.expected.get(service, 0) if wish.scaling.by_forecast else 0
    return max(replicas.peak, min(replicas.most, expected))


def _risen(wish: Wish, until_ms: int, now_ms: int, low: int, high: int) -> int:
    """`low` before the warm-up; then the first of equal steps; `high` from one step before its end."""
    lead_ms, steps = wish.scaling.lead_ms, wish.scaling.steps
    begun_ms = now_ms - (until_ms - lead_ms)
    if begun_ms < 0:
        return low
    done = min(steps, 1 + begun_ms * steps // lead_ms)
    return max(low, low + -(-(high - low) * done // steps))


def moments(wish: Wish) -> Iterator[int]:
    """Every moment at which what the sale wants can change by itself."""
    if wish.override is not None:
        yield wish.override.until_ms
    if not wish.scaling.services:
        return
    lead_ms, steps = wish.scaling.lead_ms, wish.scaling.steps
    for until_ms in (wish.schedule.lobby_ms, wish.schedule.opens_ms):
        # Rounded up: the step is done at the first millisecond that has all of it.
        yield from (until_ms - lead_ms + -(-step * lead_ms // steps) for step in range(steps))
    yield wish.schedule.closes_ms
    yield wish.schedule.closes_ms + wish.scaling.cooldown_ms


def begins_ms(wish: Wish) -> int:
    """When the sale's warm-up begins."""
    return wish.schedule.lobby_ms - wish.scaling.lead_ms


def rises_ms(wish: Wish, now_ms: int) -> int | None:
    """The next moment at which the sale wants any replicas; None where none comes."""
    coming = (at for at in moments(wish) if at > now_ms)
    return min((at for at in coming if any(wanted(wish, name, at) for name in SERVICES)), default=None)


def ends_ms(wish: Wish) -> int:
    """When the sale's cooldown is over."""
    return wish.schedule.closes_ms + wish.scaling.cooldown_ms


def holds(wish: Wish, service: str, now_ms: int) -> bool:
    """Whether the service's floor must not be lowered, for the sake of this sale."""
    if service not in wish.scaling.services:
        return False
    return wish.runs or begins_ms(wish) - SKEW_MS <= now_ms < ends_ms(wish)


def overridden(wish: Wish, service: str, now_ms: int) -> bool:
    """Whether a person's word stands for this service now."""
    override = wish.override
    return override is not None and service in override.floors and now_ms < override.until_ms


def floor(
    service: str, wishes: Collection[Wish], now_ms: int, *, base: int, present: int, most: int
) -> Floor:
    """The service's floor: `base` is the chart's own, `present` what it is now, `most` what there may be."""
    each = [wanted(wish, service, now_ms) for wish in wishes]
    total = sum(each)
    value = max(base, total)
    held = any(holds(wish, service, now_ms) for wish in wishes)
    # A person who lowers a floor means it.
    if held and not any(overridden(wish, service, now_ms) for wish in wishes):
        value = max(value, present)
    return Floor(min(value, most), total, sum(1 for one in each if one), most)


def next_moment(wishes: Collection[Wish], now_ms: int) -> int | None:
    """The next moment at which any floor can change by itself."""
    return min((at for wish in wishes for at in moments(wish) if at > now_ms), default=None)


def crowds(service: str, wishes: Collection[Wish], now_ms: int, most: int) -> dict[str, Crowd]:
    """By sale: the first moment from now on at which it is part of wanting more than there may be."""
    changes: dict[int, list[tuple[str, int]]] = {}
    for wish in wishes:
        before = 0
        for at_ms in sorted({now_ms, *(at for at in moments(wish) if at > now_ms)}):
            value = wanted(wish, service, at_ms)
            if value != before:
                changes.setdefault(at_ms, []).append((wish.sale, value))
                before = value
    found: dict[str, Crowd] = {}
    standing: dict[str, int] = {}
    total = 0
    for at_ms in sorted(changes):
        for sale, value in changes[at_ms]:
            total += value - standing.pop(sale, 0)
            if value:
                standing[sale] = value
        if total > most:
            crowd = Crowd(at_ms, total, len(standing), most)
            found |= dict.fromkeys(standing.keys() - found.keys(), crowd)
    return found
