"""Reads pretix's published seating-plan JSON: zones, rows, seats and categories.

What a plan does not say (prices, who a seat is for, where the good seats are) a sale says of its sections.
What is for drawing only (areas, colours, outlines) is passed over, and so is what this reader does not know.
"""

import json
import zlib
from collections.abc import Iterator
from typing import Any

from services.kit.plans.compiled import Plan, Row, Seat, label_of
from services.kit.plans.geometry import overlaps
from services.kit.schema import TYPE_NAMES, Problem

GZIP = b"\x1f\x8b"
MAX_BYTES = 32 * 1024 * 1024
MAX_ZONES = 1000
MAX_ROWS = 20_000
MAX_SEATS_OF_ROW = 2000
MAX_SEATS = 200_000
MAX_CATEGORIES = 500
MAX_CHARS = 100
MAX_PIXELS = 1_000_000
# So many problems are told; a document that is wrong throughout is wrong in one way.
PROBLEMS_TOLD = 50

_KINDS: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,)}


class PlanInvalid(Exception):
    """A document that is no plan; `problems` says where and why, `PROBLEMS_TOLD` at most."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


def read_plan(document: bytes) -> Plan:
    """The plan of a JSON document, which may come compressed by gzip.

    Raises PlanInvalid with everything that is wrong, each with its path.
    """
    document = _inflated(document) if document.startswith(GZIP) else document
    if len(document) > MAX_BYTES:
        raise PlanInvalid([Problem("", f"must have at most {MAX_BYTES} bytes")])
    return _Reader().plan(_parsed(document))


def _inflated(document: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(document, MAX_BYTES + 1)
    except zlib.error as error:
        raise PlanInvalid([Problem("", f"is not what gzip made: {error}")]) from error


def _parsed(document: bytes) -> Any:
    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(document, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise PlanInvalid([Problem("", f"is not JSON: {error or 'nested too deeply'}")]) from error


class _Stop(Exception):
    """Enough is wrong."""


class _Reader:
    """One document's reading: collects what is wrong, and goes on where that makes sense."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._categories: dict[str, int] = {}
        # Where each seat id and each name was first, and how many rows and seats there are.
        self._ids: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._rows = 0
        # Of each row that has seats.
        self._row_paths: list[str] = []

    def plan(self, document: Any) -> Plan:
        try:
            plan = self._plan(document)
            if not self._problems:
                self._overlaps(plan)
        except _Stop:
            pass
        if self._problems:
            raise PlanInvalid(self._problems)
        return plan

    def _plan(self, document: Any) -> Plan:
        if not self._is("object", document, ""):
            return Plan("", (), (), ())
        name = self._text(document, "name", "")
        for place, category in enumerate(self._list(document, "categories", "", MAX_CATEGORIES)):
            self._category(category, f"categories[{place}]")
        zones: list[str] = []
        rows: list[Row] = []
        for place, zone in enumerate(self._list(document, "zones", "", MAX_ZONES)):
            path = f"zones[{place}]"
            if self._is("object", zone, path):
                zones.append(self._text(zone, "name", path, required=False))
                rows += self._rows_of(zone, len(zones) - 1, zones[-1], path)
            else:
                zones.append("")
        if not self._ids and not self._problems:
            self._wrong("zones", "have no seat")
        return Plan(name, tuple(self._categories), tuple(zones), tuple(rows))

    def _category(self, category: Any, path: str) -> None:
        if not self._is("object", category, path):
            return
        name = self._text(category, "name", path)
        if name in self._categories:
            self._wrong(f"{path}.name", f"{name!r} is a category already")
        elif name:
            self._categories[name] = len(self._categories)

    def _rows_of(self, zone: dict[str, Any], number: int, name: str, path: str) -> Iterator[Row]:
        x, y = self._position(zone, path)
        for place, row in enumerate(self._list(zone, "rows", path, MAX_ROWS)):
            at = f"{path}.rows[{place}]"
            self._rows += 1
            if self._rows > MAX_ROWS:
                self._wrong(at, f"is one row too many: a plan has at most {MAX_ROWS}")
                raise _Stop
            if not self._is("object", row, at):
                continue
            own_x, own_y = self._position(row, at, required=False)
            read = Row(number, self._text(row, "row_number", at, may_be_empty=True), ())
            seats = self._list(row, "seats", at, MAX_SEATS_OF_ROW)
            found = [
                self._seat(seat, read, name, (x + own_x, y + own_y), f"{at}.seats[{index}]")
                for index, seat in enumerate(seats)
            ]
            kept = tuple(seat for seat in found if seat is not None)
            if kept:
                self._row_paths.append(at)
                yield Row(number, read.number, kept)

    def _seat(self, seat: Any, row: Row, zone: str, origin: tuple[int, int], path: str) -> Seat | None:
        if not self._is("object", seat, path):
            return None
        id = self._text(seat, "seat_guid", path)
        number = self._text(seat, "seat_number", path)
        category = self._text(seat, "category", path)
        x, y = self._position(seat, path)
        if id:
            self._once(self._ids, id, f"{path}.seat_guid", "the id")
        if len(self._ids) > MAX_SEATS:
            self._wrong(path, f"is one seat too many: a plan has at most {MAX_SEATS}")
            raise _Stop
        if category and category not in self._categories:
            self._wrong(f"{path}.category", f"{category!r} is none of the plan's categories")
        read = Seat(id, number, self._categories.get(category, 0), origin[0] + x, origin[1] + y)
        if number:
            self._once(self._labels, label_of(zone, row, read), f"{path}.seat_number", "the name")
        return read

    def _once(self, known: dict[str, str], value: str, path: str, what: str) -> None:
        first = known.setdefault(value, path)
        if first != path:
            self._wrong(path, f"gives {what} {value!r}, which {first} gives already")

    def _overlaps(self, plan: Plan) -> None:
        """Rows laid over each other would sell the same spot twice under two names."""
        for row, place, other_row, other in overlaps(plan.rows):
            here = f"{self._row_paths[row]}.seats[{place}]"
            there = f"{self._row_paths[other_row]}.seats[{other}]"
            self._wrong(f"{here}.position", f"is where {there} is: the rows overlap")

    # ---- values ----

    def _wrong(self, path: str, problem: str) -> None:
        self._problems.append(Problem(path, problem))
        if len(self._problems) >= PROBLEMS_TOLD:
            raise _Stop

    def _is(self, kind: str, value: Any, path: str) -> bool:
        if isinstance(value, _KINDS[kind]):
            return True
        self._wrong(path, f"must be {TYPE_NAMES[kind]}")
        return False

    def _text(
        self,
        of: dict[str, Any],
        field: str,
        path: str,
        *,
        required: bool = True,
        may_be_empty: bool = False,
    ) -> str:
        """A text without characters that are none for people; empty where it is missing or wrong."""
        at = f"{path}.{field}" if path else field
        value = of.get(field)
        if value is None:
            if required:
                self._wrong(at, "is required")
            return ""
        if not self._is("string", value, at):
            return ""
        if len(value) > MAX_CHARS:
            self._wrong(at, f"must have at most {MAX_CHARS} characters")
            return ""
        if not value.isprintable():
            self._wrong(at, "must have printable characters only")
            return ""
        if required and not value and not may_be_empty:
            self._wrong(at, "must not be empty")
        return str(value)

    def _list(self, of: dict[str, Any], field: str, path: str, most: int) -> list[Any]:
        at = f"{path}.{field}" if path else field
        value = of.get(field)
        if value is None:
            self._wrong(at, "is required")
            return []
        if not self._is("array", value, at):
            return []
        if len(value) > most:
            self._wrong(at, f"must have at most {most} entries")
            return []
        return list(value)

    def _position(self, of: dict[str, Any], path: str, *, required: bool = True) -> tuple[int, int]:
        """Pixels, relative to what is around it; the schema has whole ones, editors write fractions too."""
        at = f"{path}.position"
        value = of.get("position")
        if value is None:
            if required:
                self._wrong(at, "is required")
            return 0, 0
        if not self._is("object", value, at):
            return 0, 0
        return self._pixels(value, "x", at), self._pixels(value, "y", at)

    def _pixels(self, of: dict[str, Any], field: str, path: str) -> int:
        value, at = of.get(field), f"{path}.{field}"
        if value is None:
            self._wrong(at, "is required")
        elif isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(at, f"must be {TYPE_NAMES['number']}")
        elif not -MAX_PIXELS <= value <= MAX_PIXELS:
            self._wrong(at, f"must be from {-MAX_PIXELS} to {MAX_PIXELS}")
        else:
            return round(value)
        return 0
