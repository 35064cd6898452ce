"""Which seats are the best, once more: every block is looked at, and every place in it."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from services.kit.plans.layout import NEIGHBOURS, NONE, RECORD, USES, Layout, run_byte

Unit = tuple[str, int]
Range = range
Place = tuple[int, int, int]
RECORD_BYTES = RECORD.size + 3 * NEIGHBOURS


class Taken(Exception):
    word = "SEAT_TAKEN"


class Reserved(Exception):
    word = "SEAT_RESERVED"


class Seating:
    """One section's blocks, read from the layout's bytes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        records = layout.packed[3 * len(layout.ids) :]
        self.blocks: list[range] = []
        self.spots: list[tuple[int, int, int]] = []
        self.near: list[list[int]] = []
        for number in range(sum(layout.blocks)):
            at = number * RECORD_BYTES
            first, *spot = RECORD.unpack_from(records, at)
            (end,) = RECORD.unpack_from(records.ljust(at + 2 * RECORD_BYTES, b"\0"), at + RECORD_BYTES)[:1]
            self.blocks.append(range(first, end))
            self.spots.append((spot[0], spot[1], spot[2]))
            listed = records[at + RECORD.size : at + RECORD_BYTES]
            near = [int.from_bytes(listed[3 * each : 3 * each + 3]) for each in range(NEIGHBOURS)]
            self.near.append([each for each in near if each != NONE])

    def units(self) -> range:
        return range(len(self.layout.ids))

    def use_of(self, unit: int) -> str:
        return USES[self.layout.use_of(unit)].upper()

    def block_of(self, unit: int) -> int:
        return next(number for number, block in enumerate(self.blocks) if unit in block)

    def check_named(self, item: dict[str, Any], taken: set[int], *, released: bool) -> None:
        """Raises Taken or Reserved for seats by name."""
        free = [unit for unit in item.get("units", ()) if unit not in taken]
        if len(free) < len(item.get("units", ())):
            raise Taken
        wanted = item.get("use", "ORDINARY")
        if not released and any(self.use_of(unit) not in ("ORDINARY", wanted) for unit in free):
            raise Reserved
        if not released and wanted != "ORDINARY" and any(self.use_of(unit) != wanted for unit in free):
            raise Reserved

    def summary(self, taken: set[int]) -> bytes:
        """A byte for each block, as the script keeps it."""
        told = []
        for number in range(len(self.blocks)):
            lengths = [len(run) for run in self.runs(number, taken)]
            longest = max(lengths, default=0)
            told.append(run_byte(longest, and_one_less=longest - 1 in lengths))
        return bytes(told)

    def ranges(self, use: str | None, *, released: bool) -> list[Range]:
        ordinary, accessible, companion = self.layout.blocks
        all_of = [
            range(ordinary),
            range(ordinary, ordinary + accessible),
            range(ordinary + accessible, ordinary + accessible + companion),
        ]
        if use is None:
            return all_of if released else all_of[:1]
        return [all_of[("ORDINARY", "ACCESSIBLE", "COMPANION").index(use)]]

    def runs(self, number: int, taken: set[int]) -> list[list[int]]:
        """The free runs of a block."""
        grouped = groupby(self.blocks[number], lambda unit: unit in taken)
        return [list(run) for is_taken, run in grouped if not is_taken]

    def places(
        self, number: int, count: int, taken: set[int], *, clean: bool
    ) -> Iterator[tuple[int, int, int]]:
        """Score, block and first unit of every place for so many."""
        depth, middle, spacing = self.spots[number]
        for run in self.runs(number, taken):
            for before in range(len(run) - count + 1):
                after = len(run) - count - before
                if clean and 1 in (before, after):
                    continue
                along = abs(2 * (run[before] - self.blocks[number].start) + count - 1 - middle) * spacing
                squared = 4 * depth * depth + along * along
                yield squared if self.layout.focus == "CENTRE" else 2 * depth + along, number, run[before]

    def nearby(self, ranges: list[Range], number: int, count: int, taken: set[int]) -> list[int] | None:
        """The best place for up to so many in the blocks near one, in that which takes the most."""
        best: list[int] = []
        for other in self.near[number]:
            longest = max((len(run) for run in self.runs(other, taken)), default=0)
            size = min(longest, count)
            if size > len(best) and any(other in each for each in ranges):
                for clean in (True, False):
                    found = sorted(self.places(other, size, taken, clean=clean))
                    if found:
                        best = list(range(found[0][2], found[0][2] + size))
                        break
        return best or None


def side_by_side(seating: Seating, ranges: list[Range], count: int, taken: set[int]) -> list[int] | None:
    """The best place for so many: first one that leaves nobody alone."""
    for clean in (True, False):
        for each in ranges:
            found = [place for number in each for place in seating.places(number, count, taken, clean=clean)]
            if found:
                first = min(found)[2]
                return list(range(first, first + count))
    return None


def apart(
    seating: Seating, ranges: list[Range], count: int, taken: set[int], beside: int | None
) -> list[int]:
    """The largest part first, the others in the rows around it, nobody alone if a part can spare one."""
    units: list[int] = []
    least = 2 if beside is None else 1
    while len(units) < count:
        left, now_taken = count - len(units), {*taken, *units}
        found = seating.nearby(ranges, beside, left, now_taken) if beside is not None else None
        if found is None or len(found) < min(least, left):
            runs = [run for each in ranges for number in each for run in seating.runs(number, now_taken)]
            size = min(left, max(len(run) for run in runs))
            if left - size == 1 and size > 2:
                size -= 1
            found = side_by_side(seating, ranges, size, now_taken)
        assert found
        units += found
        beside = seating.block_of(found[0]) if beside is None else beside
    return units
