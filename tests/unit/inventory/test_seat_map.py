"""Differences between maps of seats: what changed, no more, and in as few bytes."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from services.inventory.seat_map import SeatMap, changed_units, delta_of, map_of, message_of, state_of

states = st.lists(st.integers(0, 3), max_size=40)


def packed(units: list[int]) -> bytes:
    found = bytearray((len(units) + 3) // 4)
    for unit, state in enumerate(units):
        found[unit // 4] |= state << (6 - 2 * (unit % 4))
    return bytes(found)


def seen(sequence: int, units: list[int], held: int = 0) -> SeatMap:
    counts = {"section": "hall", "capacity": 40, "free": 40 - held, "held": held, "sold": 0, "blocked": 0}
    return SeatMap(sequence, {"hall": counts}, {"hall": packed(units)})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_a_delta_leads_from_one_map_to_the_other(units: list[tuple[int, int]]) -> None:
    before, now = [was for was, _ in units], [becomes for _, becomes in units]
    assert changed_units(packed(before), packed(now)) == [
        unit for unit, (was, becomes) in enumerate(zip(before, now, strict=True)) if was != becomes
    ]
    delta = delta_of(seen(1, before), seen(2, now))
    for section in delta.sections:
        for place, unit in enumerate(section.units):
            before[unit] = state_of(section.states, place)
    assert before == now


@given(states)
def test_nothing_before_is_all_free(units: list[int]) -> None:
    assert changed_units(b"", packed(units)) == [unit for unit, state in enumerate(units) if state]


def test_a_section_without_a_change_is_left_out() -> None:
    delta = delta_of(seen(4, [0, 1]), seen(9, [0, 1]))
    assert (delta.from_sequence, delta.sequence, len(delta.sections)) == (4, 9, 0)
    (counted,) = delta_of(seen(4, [0, 1]), seen(9, [0, 1], held=1)).sections
    assert (counted.counts.held, len(counted.units)) == (1, 0)


@pytest.mark.parametrize("nothing", [[], {}])
def test_a_sale_without_seats_has_counts(nothing: object) -> None:
    # The script's empty table comes as an empty list.
    counts = [{"section": "floor", "capacity": 4, "free": 4, "held": 0, "sold": 0, "blocked": 0}]
    found = map_of({"sequence": 3, "sections": counts, "states": nothing})
    assert [section.states for section in message_of(found).sections] == [b""]
