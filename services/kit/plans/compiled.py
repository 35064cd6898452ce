"""A seating plan as it is kept: what a sale needs of the document, in one canonical form with a digest."""

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgpack

VERSION = 1
DIGEST = re.compile(r"[0-9a-f]{64}")
# More than any house has: a plan within these bounds compiles to less.
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
MAX_PACKED_BYTES = 32 * 1024 * 1024


class PlanUnreadable(Exception):
    """What is kept under a digest is not a plan of this version, or not that plan."""


class Seat(NamedTuple):
    """One seat. `x` and `y` are pixels of the whole plan, as the document draws it."""

    id: str
    """Unique within the plan; what calls and manifests name a seat by."""
    number: str
    """As people read it; unique within the row."""
    category: int
    """Index into the plan's categories."""
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Row:
    """Seats in the order in which they stand; neighbours in it may still have an aisle between them."""

    zone: int
    """Index into the plan's zones."""
    number: str
    seats: tuple[Seat, ...]


@dataclass(frozen=True)
class Plan:
    """A whole house. Rows are in the document's order, which begins at the front of each zone."""

    name: str
    categories: tuple[str, ...]
    zones: tuple[str, ...]
    """Names, which may be empty and need not differ."""
    rows: tuple[Row, ...]

    @cached_property
    def canonical(self) -> bytes:
        """The bytes that the digest is of: equal plans have equal ones."""
        rows = [
            [row.zone, row.number, *(list(column) for column in zip(*row.seats, strict=True))]
            for row in self.rows
        ]
        packed = msgpack.packb([VERSION, self.name, list(self.categories), list(self.zones), rows])
        assert isinstance(packed, bytes)
        return packed

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `canonical`, hexadecimal: the plan's name in the store and in a sale."""
        return hashlib.sha256(self.canonical).hexdigest()

    def packed(self) -> bytes:
        """What is stored: `canonical`, compressed."""
        return zlib.compress(self.canonical, 9)

    def places(self) -> Iterator[tuple[Row, Seat]]:
        """Every seat with its row, in the document's order."""
        for row in self.rows:
            for seat in row.seats:
                yield row, seat

    def counts(self) -> dict[str, int]:
        """How many seats each category has, in the plan's order of categories."""
        counts = dict.fromkeys(self.categories, 0)
        for _, seat in self.places():
            counts[self.categories[seat.category]] += 1
        return counts


def label_of(zone: str, row: Row, seat: Seat) -> str:
    """A seat's name for people, as tickets have it: `Balcony A-12`."""
    name = f"{row.number}-{seat.number}" if row.number else seat.number
    return f"{zone} {name}" if zone else name


def unpacked(packed: bytes, digest: str) -> Plan:
    """The plan that is kept under a digest. Raises PlanUnreadable."""
    inflated = zlib.decompressobj()
    try:
        canonical = inflated.decompress(packed, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise PlanUnreadable(f"{digest}: {error}") from error
    if hashlib.sha256(canonical).hexdigest() != digest:
        raise PlanUnreadable(f"{digest}: the bytes are those of another plan")
    version, *fields = msgpack.unpackb(canonical, strict_map_key=False)
    if version != VERSION:
        raise PlanUnreadable(f"{digest}: version {version} is not known")
    return _plan(*fields)


def _plan(name: str, categories: list[str], zones: list[str], rows: list[Any]) -> Plan:
    read = tuple(
        Row(zone, number, tuple(Seat(*each) for each in zip(*columns, strict=True)))
        for zone, number, *columns in rows
    )
    return Plan(name, tuple(categories), tuple(zones), read)
