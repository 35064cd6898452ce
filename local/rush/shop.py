"""Which units a buyer asks for: by taste first, by what is left once a section was refused."""

from collections.abc import Mapping
from dataclasses import dataclass

Item = tuple[str, str, int]
"""Section, ticket type, quantity."""


@dataclass(frozen=True)
class Offer:
    """A section as buyers see it."""

    section: str
    capacity: int
    types: tuple[tuple[str, int], ...]
    """Ticket types and prices."""


def by_taste(offers: list[Offer], taste: float, quantity: int) -> list[Item]:
    """All from one section, larger ones being more popular, in one of its ticket types."""
    total = sum(offer.capacity for offer in offers)
    mark = taste * total
    chosen = offers[-1]
    for offer in offers:
        if mark < offer.capacity:
            chosen = offer
            break
        mark -= offer.capacity
    types = chosen.types
    # Where in its section's share the taste falls chooses the type.
    return [
        (chosen.section, types[int(mark / max(chosen.capacity, 1) * len(types)) % len(types)][0], quantity)
    ]


def by_stock(offers: list[Offer], stock: Mapping[str, int], quantity: int, first: int) -> list[Item]:
    """From wherever something is left, beginning at the section numbered `first`; split where it has to be.

    Where too little is known to be left, the rest is asked of the first section all the same: what is
    promised exists somewhere, and the count may be a second old.
    """
    items: dict[str, int] = {}
    order = [offers[(first + step) % len(offers)] for step in range(len(offers))]
    missing = quantity
    for offer in order:
        take = min(missing, max(stock.get(offer.section, 0), 0))
        if take:
            items[offer.section] = take
            missing -= take
    if missing:
        items[order[0].section] = items.get(order[0].section, 0) + missing
    types = {offer.section: offer.types[0][0] for offer in offers}
    return [(section, types[section], count) for section, count in items.items()]


def count(items: list[Item]) -> int:
    """Units asked for."""
    return sum(quantity for _, _, quantity in items)
