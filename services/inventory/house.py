"""The seats of one sale by their names: what callers say and hear, and the units that the ledger knows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.kit.errors import Refusal
from services.kit.plans.layout import USES, Layout

Values = dict[str, Any]

# How a use is named in commands, by its number in a layout.
USE_WORDS = tuple(use.upper() for use in USES)
# Parts of a refusal's detail that are units of its section.
_UNITS = ("taken", "seats")
# Parts of an item that only a seated section understands.
_OF_SEATS = frozenset({"seats", "use", "together"})


@dataclass(frozen=True)
class House:
    """The layouts of a sale's seated sections; there may be none."""

    layouts: Mapping[str, Layout] = field(default_factory=dict)

    def with_units(self, items: Sequence[Values]) -> list[Values]:
        """A request's items as the script takes them: seats by name become units.

        Companions come last, for they sit beside accessible seats that are chosen before them. Raises Refusal
        INVALID_FIELD, INVALID_QUANTITY or SEAT_NOT_FOUND.
        """
        if not self.layouts and all(map(_OF_SEATS.isdisjoint, items)):
            return list(items)
        taken: set[tuple[str, int]] = set()
        found = [self._item(item, f"items[{place}]", taken) for place, item in enumerate(items)]
        if not any(item.get("use") == "ACCESSIBLE" for item in found):
            for place, item in enumerate(found):
                if item.get("use") == "COMPANION":
                    raise _invalid(f"items[{place}].use", "an accessible item in the same request")
        return sorted(found, key=lambda item: item.get("use") == "COMPANION")

    def _item(self, item: Values, path: str, taken: set[tuple[str, int]]) -> Values:
        layout, wanted = self.layouts.get(item["section"]), dict(item)
        seats = wanted.pop("seats", None)
        if layout is None:
            for name in ("seats", "use"):
                if item.get(name):
                    raise _invalid(f"{path}.{name}", "none: the section is standing")
            wanted.pop("together", None)
        elif seats:
            wanted["units"] = self._units(layout, item, seats, path, taken)
            wanted.pop("together", None)
        return wanted

    def _units(
        self, layout: Layout, item: Values, seats: Sequence[str], path: str, taken: set[tuple[str, int]]
    ) -> list[int]:
        if len(seats) != item["quantity"]:
            raise Refusal("INVALID_QUANTITY", field=f"{path}.quantity", expected="as many as seats")
        units = []
        for seat in seats:
            unit = layout.units.get(seat)
            if unit is None:
                raise Refusal("SEAT_NOT_FOUND", section=item["section"], seat=seat)
            if (item["section"], unit) in taken:
                raise _invalid(f"{path}.seats", "each seat once")
            if item.get("use") and USE_WORDS[layout.use_of(unit)] != item["use"]:
                raise _invalid(f"{path}.seats", f"{item['use'].lower()} seats, as use says")
            taken.add((item["section"], unit))
            units.append(unit)
        return units

    def to_block(self, items: Sequence[Values]) -> list[Values]:
        """The items of a block: of a seated section its seats are named. Raises Refusal as `with_units`."""
        for place, item in enumerate(items):
            if item["section"] in self.layouts and not item.get("seats"):
                raise _invalid(f"items[{place}].seats", "the seats: the section is seated")
        return self.with_units(items)

    def named(self, result: Values) -> Values:
        """A result with its seats named, changed in place: units and what a refusal lists."""
        if self.layouts:
            for part in ("hold", "block"):
                if result.get(part):
                    self.name_units(result[part]["units"])
            detail = result.get("detail") or {}
            layout = self.layouts.get(detail.get("section", ""))
            for name in _UNITS:
                if layout is not None and isinstance(detail.get(name), list):
                    detail[name] = "\n".join(layout.ids[unit] for unit in detail[name])
        return result

    def name_units(self, units: Iterable[Values]) -> None:
        """Units with the names of their seats, changed in place."""
        for unit in units:
            layout = self.layouts.get(unit["section"])
            if layout is not None:
                unit["seat"] = layout.labels[unit["unit"]]


def _invalid(path: str, expected: str) -> Refusal:
    return Refusal("INVALID_FIELD", field=path, expected=expected)
