"""A seated section as the ledger's script finds its way in it: units in order of preference, block by block.

A *block* is a run of neighbours in one row who are for the same people (anyone, wheelchair users, their
companions): only within one do seats count as side by side. A section's blocks are numbered by use first and
then from the best to the worst, and its units along the blocks, so that the best block that has something is
found by looking at one byte of each in turn. docs/seats.md tells what the bytes mean.
"""

import bisect
import hashlib
import heapq
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot

from catraca.sale.v1.sale_pb2 import SEAT_FOCUS_CENTRE, SECTION_KIND_SEATED, SaleSpec, Section

from services.kit.plans.compiled import Plan, Seat, label_of
from services.kit.plans.geometry import is_aisle, spacing
from services.kit.plans.mapping import map_sections

ORDINARY, ACCESSIBLE, COMPANION = range(3)
USES = ("ordinary", "accessible", "companion")

# lib/seats.lua reads these: a block's number for every unit, then a record for every block.
UNIT = struct.Struct(">I")
RECORD = struct.Struct(">IIHH")
NEIGHBOURS = 8
NONE = 0xFFFFFF
# Rows this far before and behind are near enough for a group that must be split.
NEAR_ROWS = 2
# A block's free run is told up to this length in its byte of the summary.
LONGEST = 63


@dataclass(slots=True)
class Block:
    """Seats side by side in one row, all for the same use."""

    use: int
    zone: int
    row: int
    """Index of the row among its zone's rows that the section has seats in; 0 is the front."""
    seats: list[Seat]
    labels: list[str]
    depth: int = 0
    """How far from the focus its best spot is: the lower, the sooner it is sold."""
    middle: int = 0
    """Its best spot, in half seats from its first one: 3 is between the second and the third."""
    spacing: int = 1
    near: list[int] = field(default_factory=list)
    """Numbers of the nearest blocks, for groups that must be split; of an accessible one, companions'."""


@dataclass(frozen=True)
class Layout:
    """One section's units."""

    ids: tuple[str, ...]
    """The seats' ids, by unit."""
    labels: tuple[str, ...]
    """Their names for people, by unit."""
    uses: tuple[int, int, int]
    """How many units are ordinary, accessible and companion ones; they are numbered in this order."""
    blocks: tuple[int, int, int]
    """The same of blocks."""
    units: Mapping[str, int]
    """Unit by the seat's id."""
    packed: bytes
    """For the script: see `RECORD`."""
    runs: bytes
    """For the script: each block's longest free run, all being free."""
    points: tuple[tuple[int, int], ...]
    """Where each unit stands, in the plan's pixels."""
    focus: str
    """`FRONT` or `CENTRE`."""

    def use_of(self, unit: int) -> int:
        """ORDINARY, ACCESSIBLE or COMPANION."""
        ordinary, accessible, _ = self.uses
        return ORDINARY if unit < ordinary else ACCESSIBLE if unit < ordinary + accessible else COMPANION

    @property
    def digest(self) -> str:
        """Tells one layout from another, 32 hexadecimal digits."""
        return hashlib.sha256(self.packed + "\n".join(self.ids).encode()).hexdigest()[:32]

    def for_script(self) -> dict[str, object]:
        """What the script goes by of it in every run; the bytes are given to it once, by DEFINE."""
        return {
            "digest": self.digest,
            "focus": self.focus,
            "units": list(self.uses),
            "blocks": list(self.blocks),
        }


def layouts(spec: SaleSpec, plan: Plan) -> dict[str, Layout]:
    """The layout of every seated section, by section id."""
    mapped = map_sections(spec, plan)
    sections = {section.id: section for section in spec.sections if section.kind == SECTION_KIND_SEATED}
    blocks: dict[str, list[Block]] = {id: [] for id in sections}
    special = {
        id: dict.fromkeys(section.seats.accessible, ACCESSIBLE)
        | dict.fromkeys(section.seats.companion, COMPANION)
        for id, section in sections.items()
    }
    ordinals: dict[tuple[str, int], int] = defaultdict(int)
    for row in plan.rows:
        usual = spacing(row.seats)
        found: dict[str, list[Block]] = defaultdict(list)
        before: tuple[Seat, str, int] | None = None
        for seat in row.seats:
            section = mapped.section_of.get(seat.category)
            if section is None:
                before = None
                continue
            use = special[section].get(seat.id, ORDINARY)
            apart = before is None or before[1:] != (section, use) or is_aisle(before[0], seat, usual)
            if apart:
                ordinal = ordinals[section, row.zone]
                found[section].append(Block(use, row.zone, ordinal, [], [], spacing=round(usual)))
            found[section][-1].seats.append(seat)
            found[section][-1].labels.append(label_of(plan.zones[row.zone], row, seat))
            before = seat, section, use
        for section, of_section in found.items():
            ordinals[section, row.zone] += 1
            blocks[section] += of_section
    return {id: _layout(section, blocks[id]) for id, section in sections.items()}


def _layout(section: Section, blocks: list[Block]) -> Layout:
    is_centre = section.seats.focus == SEAT_FOCUS_CENTRE
    (_from_centre if is_centre else _from_front)(blocks)
    # Ties are broken by where the blocks are in the plan, so that equal plans have equal units.
    ordered = [
        block
        for _, block in sorted(
            enumerate(blocks), key=lambda each: (each[1].use, each[1].depth, each[1].row, each[0])
        )
    ]
    _find_neighbours(ordered)
    seats = [seat for block in ordered for seat in block.seats]
    ids = tuple(seat.id for seat in seats)
    return Layout(
        ids=ids,
        labels=tuple(label for block in ordered for label in block.labels),
        uses=_by_use((block.use, len(block.seats)) for block in ordered),
        blocks=_by_use((block.use, 1) for block in ordered),
        units={id: unit for unit, id in enumerate(ids)},
        packed=_packed(ordered),
        runs=bytes(run_byte(len(block.seats)) for block in ordered),
        points=tuple((seat.x, seat.y) for seat in seats),
        focus="CENTRE" if is_centre else "FRONT",
    )


def run_byte(longest: int, *, and_one_less: bool = False) -> int:
    """A block's byte of the summary: its longest free run, and whether another is one seat shorter."""
    return 128 + 2 * min(longest, LONGEST) + (and_one_less and longest < LONGEST)


def _by_use(counted: Iterable[tuple[int, int]]) -> tuple[int, int, int]:
    counts = [0, 0, 0]
    for use, count in counted:
        counts[use] += count
    return counts[0], counts[1], counts[2]


def _from_front(blocks: Sequence[Block]) -> None:
    """The rows as the plan has them, from the first of each zone; within a row, its middle first."""
    x, y = _centroid(blocks)
    rows: dict[tuple[int, int], list[Block]] = defaultdict(list)
    for block in blocks:
        rows[block.zone, block.row].append(block)
    across: dict[int, float] = {}
    for of_row in rows.values():
        along = _direction([seat for block in of_row for seat in block.seats])
        for block in of_row:
            across[id(block)] = _find_middle(block, _off_along((x, y), along))
    # No row is so wide that its end is worse than the next row's middle.
    widest = max((len(block.seats) * block.spacing for block in blocks), default=0)
    row_depth = round(max(across.values(), default=0.0)) + widest + 1
    for block in blocks:
        block.depth = block.row * row_depth + round(across[id(block)])


def _off_along(spot: tuple[float, float], along: tuple[float, float]) -> Callable[[float, float], float]:
    """How far points are from a spot, measured in one direction alone."""
    return lambda x, y: abs((x - spot[0]) * along[0] + (y - spot[1]) * along[1])


def _from_centre(blocks: Sequence[Block]) -> None:
    """What is nearest the middle of all the section's seats."""
    x, y = _centroid(blocks)
    for block in blocks:
        block.depth = round(_find_middle(block, lambda px, py: hypot(px - x, py - y)))


def _centroid(blocks: Sequence[Block]) -> tuple[float, float]:
    seats = [seat for block in blocks for seat in block.seats]
    count = max(1, len(seats))
    return sum(seat.x for seat in seats) / count, sum(seat.y for seat in seats) / count


def _direction(seats: Sequence[Seat]) -> tuple[float, float]:
    """The unit vector along a row."""
    across, down = seats[-1].x - seats[0].x, seats[-1].y - seats[0].y
    length = hypot(across, down)
    return (across / length, down / length) if length else (1.0, 0.0)


def _find_middle(block: Block, off: Callable[[float, float], float]) -> float:
    """Sets the block's best spot, a seat or between two; answers how far off that is."""
    seats = block.seats
    spots = [
        (
            off(
                (seats[half // 2].x + seats[(half + 1) // 2].x) / 2,
                (seats[half // 2].y + seats[(half + 1) // 2].y) / 2,
            ),
            half,
        )
        for half in range(2 * len(seats) - 1)
    ]
    distance, block.middle = min(spots)
    return distance


def _find_neighbours(blocks: Sequence[Block]) -> None:
    middles = [_centroid([block]) for block in blocks]
    by_row: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    companions = []
    for number, block in sorted(enumerate(blocks), key=lambda each: middles[each[0]]):
        by_row[block.use, block.zone, block.row].append(number)
        if block.use == COMPANION:
            companions.append(number)
    for number, block in enumerate(blocks):
        x, y = middles[number]
        candidates = companions
        if block.use != ACCESSIBLE:
            candidates = [
                each
                for row in range(block.row - NEAR_ROWS, block.row + NEAR_ROWS + 1)
                for each in _around(by_row.get((block.use, block.zone, row), []), middles, (x, y))
                if each != number
            ]
        distances = [(hypot(middles[each][0] - x, middles[each][1] - y), each) for each in candidates]
        block.near = [each for _, each in heapq.nsmallest(NEIGHBOURS, distances)]


def _around(row: list[int], middles: Sequence[tuple[float, float]], spot: tuple[float, float]) -> list[int]:
    """Those of a row's blocks that can be among the nearest; the row is in the order of its middles."""
    place = bisect.bisect(row, spot, key=lambda each: middles[each])
    return row[max(0, place - NEIGHBOURS) : place + NEIGHBOURS]


def _packed(blocks: Sequence[Block]) -> bytes:
    index, records, first = bytearray(), bytearray(), 0
    for number, block in enumerate(blocks):
        index += UNIT.pack(number)[1:] * len(block.seats)
        records += RECORD.pack(
            first, min(block.depth, 0xFFFFFFFF), min(block.middle, 0xFFFF), min(block.spacing, 0xFFFF)
        )
        near = block.near + [NONE] * (NEIGHBOURS - len(block.near))
        records += b"".join(UNIT.pack(each)[1:] for each in near)
        first += len(block.seats)
    # Where the last block ends.
    records += UNIT.pack(first)
    return bytes(index + records)
