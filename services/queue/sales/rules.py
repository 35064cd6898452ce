"""What a definition may be and become, and where a sale stands by it and the clock; without I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from catraca.sale.v1.sale_pb2 import (
    LINE_KIND_DRAW,
    SALE_PHASE_ARCHIVED,
    SALE_PHASE_CLOSED,
    SALE_PHASE_LOBBY,
    SALE_PHASE_OPEN,
    SALE_PHASE_PAUSED,
    SALE_PHASE_SCHEDULED,
    SEAT_FOCUS_FRONT,
    SECTION_KIND_SEATED,
    Sale,
    SalePhase,
    SaleSpec,
    Section,
)

from services.kit.plans.compiled import Plan
from services.kit.plans.mapping import map_sections

# A change takes a moment to reach every script: what opening fixes is fixed this much before it.
OPENING_MARGIN_MS = 5_000


@dataclass(frozen=True, slots=True)
class Fixed:
    """A field that a change touches although it is fixed by now."""

    path: str
    since: str
    """`definition`, `commitment` (of the draw), `lobby`, `opening` or `release` (of accessible seats)."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A field that the schema allows and the moment or the stores do not."""

    path: str
    problem: str


def phase(sale: Sale, now_ms: int) -> SalePhase.ValueType:
    """Where the sale is at this time of the store's clock."""
    window = sale.spec.window
    if sale.phase == SALE_PHASE_ARCHIVED:
        return SALE_PHASE_ARCHIVED
    if now_ms >= window.closes_at.ToMilliseconds():
        return SALE_PHASE_CLOSED
    if now_ms >= window.opens_at.ToMilliseconds():
        return SALE_PHASE_PAUSED if sale.spec.paused else SALE_PHASE_OPEN
    if now_ms >= window.lobby_opens_at.ToMilliseconds():
        return SALE_PHASE_LOBBY
    return SALE_PHASE_SCHEDULED


def phase_word(phase: SalePhase.ValueType) -> str:
    """The phase as refusals name it."""
    return SalePhase.Name(phase).removeprefix("SALE_PHASE_")


def seated(spec: SaleSpec, plan: Plan) -> SaleSpec:
    """The spec with each seated section's capacity, which the plan says, and its focus."""
    complete = SaleSpec()
    complete.CopyFrom(spec)
    counts = map_sections(spec, plan).counts
    for section in complete.sections:
        if section.id in counts:
            section.capacity = counts[section.id]
            section.seats.focus = section.seats.focus or SEAT_FOCUS_FRONT
    return complete


def has_draw(spec: SaleSpec) -> bool:
    """Whether the sale has a line, and so a draw with a commitment."""
    return spec.line.kind == LINE_KIND_DRAW


def complete(spec: SaleSpec, created_ms: int) -> SaleSpec:
    """The spec with the one default that no schema can hold: when a lobby without a time opens."""
    complete = SaleSpec()
    complete.CopyFrom(spec)
    window = complete.window
    if not window.HasField("lobby_opens_at"):
        # Without a line there is nothing to come early for.
        opens_ms = window.opens_at.ToMilliseconds()
        window.lobby_opens_at.FromMilliseconds(min(created_ms, opens_ms) if has_draw(spec) else opens_ms)
    return complete


def created(sale_id: str, spec: SaleSpec, now_ms: int, buyer_key_id: str) -> Sale:
    """A sale that did not exist before, bound for good to the key that its buyers are hashed with."""
    sale = Sale(sale=sale_id, spec=complete(spec, now_ms), buyer_key_id=buyer_key_id)
    sale.created_at.FromMilliseconds(now_ms)
    return sale


def changed(sale: Sale, spec: SaleSpec) -> Sale:
    """The same sale under another spec; what the definition does not say stays."""
    merged = Sale(sale=sale.sale, draw_commitment=sale.draw_commitment, buyer_key_id=sale.buyer_key_id)
    merged.created_at.CopyFrom(sale.created_at)
    merged.spec.CopyFrom(complete(spec, sale.created_at.ToMilliseconds()))
    return merged


def wrong_at_creation(spec: SaleSpec, now_ms: int) -> list[Wrong]:
    """What keeps a new sale from being defined, beside the schema."""
    wrong = []
    if spec.window.closes_at.ToMilliseconds() <= now_ms:
        wrong.append(Wrong("spec.window.closesAt", "is over already"))
    return wrong


@dataclass(frozen=True, slots=True)
class Offered:
    """What the line can do by its settings; a sale that asks for something else is refused."""

    beacon: bool = False


def not_offered(spec: SaleSpec, offered: Offered) -> list[Wrong]:
    """What the contract names and no part does, or not by these settings: it is refused, not ignored."""
    asked = {
        "spec.line.beacon": (
            bool(spec.line.beacon) and not offered.beacon,
            "is not offered: the queue's CATRACA_DRAND_URLS names no relay",
        ),
    }
    return [Wrong(path, problem) for path, (refused, problem) in asked.items() if refused]


def fixed(before: Sale, after: SaleSpec, now_ms: int) -> list[Fixed]:
    """What a change touches that must stay as it is; `after` is complete."""
    touched = [*_shrunk(before.spec, after), *_of_the_seats(before.spec, after)]
    opening_ms = before.spec.window.opens_at.ToMilliseconds() - OPENING_MARGIN_MS
    opened = now_ms >= opening_ms
    if before.draw_commitment:
        touched += _of_the_draw(before.spec, after, "commitment")
    elif opened:
        touched += _of_the_draw(before.spec, after, "opening")
    if opened:
        touched += _of_the_opening(before.spec, after)
    released = before.spec.seating_plan.release_at
    if (
        before.spec.seating_plan.HasField("release_at")
        and released.ToMilliseconds() - OPENING_MARGIN_MS <= now_ms
        and after.seating_plan.release_at != released
    ):
        # What was offered to everyone may be promised by now.
        touched.append(Fixed("spec.seatingPlan.releaseAt", "release"))
    lobby_was = before.spec.window.lobby_opens_at.ToMilliseconds()
    if lobby_was <= now_ms < after.window.lobby_opens_at.ToMilliseconds():
        touched.append(Fixed("spec.window.lobbyOpensAt", "lobby"))
    return touched


def _shrunk(before: SaleSpec, after: SaleSpec) -> Iterator[Fixed]:
    """Units that exist may be held or sold, at any time after they were first defined."""
    place_of = {section.id: place for place, section in enumerate(after.sections)}
    for section in before.sections:
        place = place_of.get(section.id)
        if place is None:
            yield Fixed("spec.sections", "definition")
        elif after.sections[place].capacity < section.capacity:
            yield Fixed(f"spec.sections[{place}].capacity", "definition")


def _of_the_seats(before: SaleSpec, after: SaleSpec) -> Iterator[Fixed]:
    """Units are numbered by the plan: what a number means must not change."""
    seats = {section.id: section.seats for section in before.sections if section.kind == SECTION_KIND_SEATED}
    for place, section in enumerate(after.sections):
        if section.id in seats and section.seats != seats[section.id]:
            yield Fixed(f"spec.sections[{place}].seats", "definition")
        is_seated = section.kind == SECTION_KIND_SEATED
        if any(section.id == each.id and is_seated != (each.id in seats) for each in before.sections):
            yield Fixed(f"spec.sections[{place}].kind", "definition")
    if seats and after.seating_plan.digest != before.seating_plan.digest:
        yield Fixed("spec.seatingPlan.digest", "definition")


def _of_the_draw(before: SaleSpec, after: SaleSpec, since: str) -> Iterator[Fixed]:
    """What buyers came for: whoever stands in line must find what was announced."""
    if after.currency != before.currency:
        yield Fixed("spec.currency", since)
    if after.line.kind != before.line.kind:
        yield Fixed("spec.line.kind", since)
    if after.line.beacon != before.line.beacon:
        yield Fixed("spec.line.beacon", since)
    known = {section.id: section for section in before.sections}
    for place, section in enumerate(after.sections):
        path = f"spec.sections[{place}]"
        if section.id not in known:
            yield Fixed(path, since)
        else:
            yield from _of_the_section(known[section.id], section, path, since)


def _of_the_section(before: Section, after: Section, path: str, since: str) -> Iterator[Fixed]:
    if [each.id for each in after.ticket_types] != [each.id for each in before.ticket_types]:
        # Their order too: the first one is taken where none is asked for.
        yield Fixed(f"{path}.ticketTypes", since)
        return
    for place, (was, becomes) in enumerate(zip(before.ticket_types, after.ticket_types, strict=True)):
        for field, differs in (("price", was.price != becomes.price), ("quota", was.quota != becomes.quota)):
            if differs:
                yield Fixed(f"{path}.ticketTypes[{place}].{field}", since)


def _of_the_opening(before: SaleSpec, after: SaleSpec) -> Iterator[Fixed]:
    """What running turns, holds and orders rely on."""
    if after.window.opens_at != before.window.opens_at:
        yield Fixed("spec.window.opensAt", "opening")
    if after.limits.per_buyer != before.limits.per_buyer:
        yield Fixed("spec.limits.perBuyer", "opening")
    if after.payment.provider != before.payment.provider:
        yield Fixed("spec.payment.provider", "opening")
    if after.rehearsal != before.rehearsal:
        yield Fixed("spec.rehearsal", "opening")


def without_sections(sale: Sale) -> Sale:
    """A sale as lists show it."""
    short = Sale()
    short.CopyFrom(sale)
    short.spec.ClearField("sections")
    return short
