"""How a section's seats become units: blocks of neighbours, the best first, and what the script reads."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from catraca.sale.v1 import sale_pb2 as pb

from services.kit.manifest import load_manifest
from services.kit.plans.layout import NONE, RECORD, UNIT, Layout, layouts, run_byte
from services.kit.plans.mapping import problems
from tests.plans import THEATRE, hall, plan_of, seated_section, spec_of_seats, stadium_plan, theatre

CENTRE = pb.SEAT_FOCUS_CENTRE


def layout(*rows: str, **how: object) -> Layout:
    section = seated_section("hall", "Hall", **how)  # type: ignore[arg-type]
    return layouts(spec_of_seats(section), plan_of(hall(*rows)))["hall"]


def blocks(of: Layout) -> list[list[str]]:
    """The seats of each block, as the script would find them."""
    records = of.packed[3 * len(of.ids) :]
    size = RECORD.size + 24
    firsts = [RECORD.unpack_from(records, size * number)[0] for number in range(sum(of.blocks))]
    firsts.append(UNIT.unpack_from(records, size * sum(of.blocks))[0])
    return [list(of.ids[first:end]) for first, end in pairwise(firsts)]


def near(of: Layout, number: int) -> list[int]:
    at = 3 * len(of.ids) + (RECORD.size + 24) * number + RECORD.size
    found = [int.from_bytes(of.packed[at + 3 * each : at + 3 * each + 3], "big") for each in range(8)]
    return [each for each in found if each != NONE]


def test_seats_beside_an_aisle_are_no_neighbours() -> None:
    assert blocks(layout("oo oo", "oooo")) == [["A1", "A2"], ["A3", "A4"], ["B1", "B2", "B3", "B4"]]


def test_from_the_front_row_by_row() -> None:
    found = blocks(layout("oooo", "oooo", "oooo"))
    assert [row[0][0] for row in found] == ["A", "B", "C"]


def test_from_the_front_first_rows_of_all_zones_come_first() -> None:
    document = hall("oo", "oo", name="Left")
    right = hall("oo", "oo", name="Right")["zones"][0]
    right["position"]["x"] = 100
    for row in right["rows"]:
        for seat in row["seats"]:
            seat["seat_guid"] = f"R{seat['seat_guid']}"
    document["zones"].append(right)
    found = layouts(spec_of_seats(seated_section("hall", "Hall")), plan_of(document))["hall"]
    assert [row[0] for row in blocks(found)] == ["A1", "RA1", "B1", "RB1"]
    assert found.labels[:3] == ("Left A-1", "Left A-2", "Right A-1")


def test_from_the_centre_outwards() -> None:
    found = blocks(layout("oooo", "oooo", "oooo", "oooo", "oooo", focus=CENTRE))
    assert found[0][0] == "C1"
    assert {row[0] for row in found[1:3]} == {"B1", "D1"}


def test_uses_come_one_after_the_other() -> None:
    found = layout("ooooo", "ooooo", accessible=("A1", "A5"), companion=("A2",))
    assert (found.uses, found.blocks) == ((7, 2, 1), (2, 2, 1))
    assert [found.use_of(found.units[id]) for id in ("A3", "A1", "A2")] == [0, 1, 2]
    assert blocks(found)[2:] == [["A5"], ["A1"], ["A2"]] or blocks(found)[2:] == [["A1"], ["A5"], ["A2"]]
    # Whoever takes an accessible seat finds the companions' from there.
    assert near(found, 2) == near(found, 3) == [4]


def test_neighbours_are_of_the_rows_around() -> None:
    found = layout(*["oooo oooo"] * 6)
    for number, block in enumerate(blocks(found)):
        row = block[0][0]
        assert {abs(ord(blocks(found)[each][0][0]) - ord(row)) for each in near(found, number)} <= {0, 1, 2}
        assert number not in near(found, number)
    # Across the aisle is nearer than two rows on.
    assert blocks(found)[near(found, 0)[0]][0][0] in "AB"


def test_every_unit_finds_its_block() -> None:
    plan = stadium_plan(3000)
    spec = spec_of_seats(seated_section("low", "Lower"), seated_section("high", "Upper", focus=CENTRE))
    for found in layouts(spec, plan).values():
        numbers = [
            int.from_bytes(found.packed[3 * unit : 3 * unit + 3], "big") for unit in range(len(found.ids))
        ]
        assert [found.ids[unit] for unit in range(len(numbers))] == [
            id for number in range(sum(found.blocks)) for id in blocks(found)[number]
        ]
        assert numbers == sorted(numbers)
        assert [numbers.count(number) for number in range(sum(found.blocks))] == [
            len(block) for block in blocks(found)
        ]
        assert found.runs == bytes(run_byte(len(block)) for block in blocks(found))


def test_equal_plans_have_equal_units() -> None:
    spec = spec_of_seats(seated_section("stalls", "Stalls", accessible=("A1",)))
    once, again = (layouts(spec, plan_of(theatre()))["stalls"] for _ in range(2))
    assert once == again
    assert once.digest == again.digest
    other = spec_of_seats(seated_section("stalls", "Stalls", accessible=("A8",)))
    assert layouts(other, plan_of(theatre()))["stalls"].digest != once.digest


def told(*sections: pb.Section) -> list[tuple[str, str]]:
    return [(each.path, each.problem) for each in problems(spec_of_seats(*sections), plan_of(theatre()))]


def with_(section: pb.Section, **fields: int) -> pb.Section:
    for name, value in fields.items():
        if name == "quota":
            section.ticket_types[0].quota = value
        else:
            setattr(section, name, value)
    return section


STALLS = "spec.sections[0].seats"
WRONG: list[tuple[Iterable[pb.Section], str, str]] = [
    ([seated_section("a", "Gold")], f"{STALLS}.categories[0]", "'Gold' is none of the plan's categories"),
    (
        [seated_section("a", "Stalls", "Stalls")],
        f"{STALLS}.categories[1]",
        f"'Stalls' is taken by {STALLS}.categories[0] already",
    ),
    (
        [seated_section("a", "Stalls"), seated_section("b", "Balcony", "Stalls")],
        "spec.sections[1].seats.categories[1]",
        f"'Stalls' is taken by {STALLS}.categories[0] already",
    ),
    (
        [seated_section("a", "Stalls", accessible=("AA1",))],
        f"{STALLS}.accessible[0]",
        "'AA1' is no seat of the section",
    ),
    (
        [seated_section("a", "Stalls", accessible=("A1",), companion=("A2", "A1"))],
        f"{STALLS}.companion[1]",
        f"'A1' is named by {STALLS}.accessible[0] already",
    ),
    ([with_(seated_section("a", "Stalls"), capacity=37)], "spec.sections[0].capacity", "is 38 by the plan"),
    (
        [with_(seated_section("a", "Stalls"), quota=39)],
        "spec.sections[0].ticketTypes[0].quota",
        "is above the section's 38 seats",
    ),
]


@pytest.mark.parametrize(("sections", "path", "problem"), WRONG)
def test_a_sale_that_does_not_fit_its_plan(sections: Iterable[pb.Section], path: str, problem: str) -> None:
    assert told(*sections) == [(path, problem)]


def test_the_example_fits_its_plan() -> None:
    _, spec = load_manifest((THEATRE.parent / "theatre.yaml").read_text("utf-8"))
    plan = plan_of(theatre())
    assert spec.seating_plan.digest == plan.digest
    assert problems(spec, plan) == []


def test_a_sale_that_fits() -> None:
    standing = pb.Section(id="floor", capacity=5, kind=pb.SECTION_KIND_STANDING)
    assert (
        told(with_(seated_section("a", "Stalls"), capacity=38), standing, seated_section("b", "Balcony"))
        == []
    )
