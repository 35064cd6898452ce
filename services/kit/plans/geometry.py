"""Distances between seats: how far apart a row's are, where an aisle is, which rows lie over each other."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import hypot
from statistics import median

from services.kit.plans.compiled import Row, Seat

# Where a row of one seat has no distance of its own.
USUAL_SPACING = 10.0
# A gap this many times as wide as the row's usual one is an aisle or a pillar: its sides are no neighbours.
AISLE = 1.6
# Seats nearer to each other than this share of their rows' spacing are on the same spot.
SAME_SPOT = 0.4


def distance(one: Seat, other: Seat) -> float:
    """In pixels."""
    return hypot(one.x - other.x, one.y - other.y)


def spacing(seats: Sequence[Seat]) -> float:
    """How far apart a row's seats usually are, in pixels, at least 1."""
    gaps = [distance(*pair) for pair in pairwise(seats)]
    return max(1.0, median(gaps)) if gaps else USUAL_SPACING


def is_aisle(one: Seat, other: Seat, usual: float) -> bool:
    """Whether consecutive seats of a row with this spacing are apart."""
    return distance(one, other) > AISLE * usual


def overlaps(rows: Sequence[Row]) -> Iterator[tuple[int, int, int, int]]:
    """Seats on the spot of one before them: (row, seat, the other's row, the other's seat), by index."""
    near = [SAME_SPOT * spacing(row.seats) for row in rows]
    cell = max(near, default=1.0)
    cells: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for number, row in enumerate(rows):
        for place, seat in enumerate(row.seats):
            column, line = int(seat.x // cell), int(seat.y // cell)
            around = (
                other
                for dx in (-1, 0, 1)
                for dy in (-1, 0, 1)
                for other in cells.get((column + dx, line + dy), ())
            )
            for other_row, other in around:
                apart = distance(seat, rows[other_row].seats[other])
                if apart < min(near[number], near[other_row]):
                    yield number, place, other_row, other
                    break
            cells[column, line].append((number, place))
