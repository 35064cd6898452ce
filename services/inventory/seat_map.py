"""Every section's state at one moment, and the difference between two: two bits a seat, counts for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb

from services.inventory.translate import section_of
from services.kit.lua import raw

Counts = Mapping[str, Any]


@dataclass(frozen=True)
class SeatMap:
    """A sale after one of its changes."""

    sequence: int
    counts: Mapping[str, Counts]
    """By section, in the definition's order."""
    states: Mapping[str, bytes]
    """By seated section, as in catraca.inventory.v1.SectionMap."""


def map_of(result: Mapping[str, Any]) -> SeatMap:
    """What the script's MAP says."""
    return SeatMap(
        result["sequence"],
        {counts["section"]: counts for counts in result["sections"]},
        {section: raw(states) for section, states in dict(result["states"]).items()},
    )


def message_of(seen: SeatMap) -> pb.SeatMap:
    """All of it, as the contract has it."""
    sections = [
        pb.SectionMap(counts=section_of(counts), states=seen.states.get(section, b""))
        for section, counts in seen.counts.items()
    ]
    return pb.SeatMap(sequence=seen.sequence, sections=sections)


def delta_of(before: SeatMap, now: SeatMap) -> pb.SeatMapDelta:
    """What is different, as the contract has it."""
    delta = pb.SeatMapDelta(from_sequence=before.sequence, sequence=now.sequence)
    for section, counts in now.counts.items():
        units = changed_units(before.states.get(section, b""), now.states.get(section, b""))
        if units or counts != before.counts.get(section):
            delta.sections.add(
                counts=section_of(counts), units=units, states=_packed(now.states.get(section, b""), units)
            )
    return delta


def changed_units(before: bytes, now: bytes) -> list[int]:
    """The units whose two bits differ, ascending; what is missing before was free."""
    if before == now:
        return []
    before = before.ljust(len(now), b"\0")
    differing = (int.from_bytes(before) ^ int.from_bytes(now)).to_bytes(len(now))
    found = []
    for place, byte in enumerate(differing):
        if byte:
            found += [4 * place + unit for unit in range(4) if byte >> (6 - 2 * unit) & 3]
    return found


def state_of(states: bytes, unit: int) -> int:
    """One unit's state: 0 free, 1 held, 2 sold, 3 blocked."""
    return states[unit // 4] >> (6 - 2 * (unit % 4)) & 3


def _packed(states: bytes, units: list[int]) -> bytes:
    packed = bytearray((len(units) + 3) // 4)
    for place, unit in enumerate(units):
        packed[place // 4] |= state_of(states, unit) << (6 - 2 * (place % 4))
    return bytes(packed)
