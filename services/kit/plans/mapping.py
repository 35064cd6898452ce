"""Which seats of a plan are whose: a sale's seated sections laid over the plan, and what does not fit."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from catraca.sale.v1.sale_pb2 import SECTION_KIND_SEATED, SaleSpec, SectionSeats

from services.kit.plans.compiled import Plan


@dataclass(frozen=True, slots=True, order=True)
class Wrong:
    """What does not fit the plan, and where in the definition."""

    path: str
    problem: str


@dataclass(frozen=True)
class Mapped:
    """The sections that seats belong to."""

    section_of: Mapping[int, str]
    """Section by category's index; categories that are not sold are left out."""
    counts: Mapping[str, int]
    """Seats by section."""


def map_sections(spec: SaleSpec, plan: Plan) -> Mapped:
    """The seats of each seated section, by category. What is unknown to the plan is left out."""
    categories = {name: number for number, name in enumerate(plan.categories)}
    section_of: dict[int, str] = {}
    counts: dict[str, int] = {}
    for section in spec.sections:
        if section.kind == SECTION_KIND_SEATED:
            counts[section.id] = 0
            for name in section.seats.categories:
                if name in categories:
                    section_of.setdefault(categories[name], section.id)
    for _, seat in plan.places():
        if seat.category in section_of:
            counts[section_of[seat.category]] += 1
    return Mapped(section_of, counts)


def problems(spec: SaleSpec, plan: Plan) -> list[Wrong]:
    """What keeps the spec's seated sections from being sold by this plan; empty where nothing does."""
    mapped = map_sections(spec, plan)
    seat_section = {
        seat.id: mapped.section_of[seat.category]
        for _, seat in plan.places()
        if seat.category in mapped.section_of
    }
    found: list[Wrong] = []
    taken: dict[str, str] = {}
    for place, section in enumerate(spec.sections):
        if section.kind != SECTION_KIND_SEATED:
            continue
        path = f"spec.sections[{place}]"
        found += _of_categories(section.seats, plan, taken, path)
        found += _of_special(section.id, section.seats, seat_section, path)
        count = mapped.counts[section.id]
        if not count and not found:
            found.append(Wrong(f"{path}.seats.categories", "have no seat in the plan"))
        if section.capacity not in (0, count):
            found.append(Wrong(f"{path}.capacity", f"is {count} by the plan"))
        for number, kind in enumerate(section.ticket_types):
            if kind.quota > count:
                found.append(
                    Wrong(f"{path}.ticketTypes[{number}].quota", f"is above the section's {count} seats")
                )
    return found


def _of_categories(seats: SectionSeats, plan: Plan, taken: dict[str, str], path: str) -> Iterator[Wrong]:
    for number, name in enumerate(seats.categories):
        at = f"{path}.seats.categories[{number}]"
        if name not in plan.categories:
            yield Wrong(at, f"{name!r} is none of the plan's categories")
        elif name in taken:
            yield Wrong(at, f"{name!r} is taken by {taken[name]} already")
        taken.setdefault(name, at)


def _of_special(
    section: str, seats: SectionSeats, section_of: Mapping[str, str], path: str
) -> Iterator[Wrong]:
    known: dict[str, str] = {}
    for field in ("accessible", "companion"):
        for number, seat in enumerate(getattr(seats, field)):
            at = f"{path}.seats.{field}[{number}]"
            if section_of.get(seat) != section:
                yield Wrong(at, f"{seat!r} is no seat of the section")
            elif seat in known:
                yield Wrong(at, f"{seat!r} is named by {known[seat]} already")
            known.setdefault(seat, at)
