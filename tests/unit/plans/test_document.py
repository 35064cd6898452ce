"""Pretix's seating-plan JSON is read, and what is wrong with a document is told with its path."""

import copy
import gzip
import json
from typing import Any

import pytest

from services.kit.plans import document as reader
from services.kit.plans.document import PlanInvalid, read_plan
from tests.plans import THEATRE, hall, plan_of, stadium, stadium_plan, theatre


def refused(document: Any) -> list[tuple[str, str]]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(PlanInvalid) as invalid:
        read_plan(raw)
    return [(problem.path, problem.problem) for problem in invalid.value.problems]


def test_a_small_theatre() -> None:
    plan = read_plan(THEATRE.read_bytes())

    assert plan.counts() == {"Stalls": 38, "Balcony": 16, "Technical": 1}
    assert [(plan.zones[row.zone], row.number, len(row.seats)) for row in plan.rows] == [
        *(("Stalls", "A", 8), ("Stalls", "B", 10), ("Stalls", "C", 10), ("Stalls", "D", 10)),
        *(("Balcony", "AA", 8), ("Balcony", "BB", 8), ("", "", 1)),
    ]
    first = plan.rows[0].seats[0]
    # Zone, row and seat each have a position within what is around them.
    assert (first.id, first.number, first.x, first.y) == ("A1", "1", 42, 60)


def test_a_stadium() -> None:
    plan = stadium_plan()

    assert sum(plan.counts().values()) == 50_000
    assert len({seat.id for _, seat in plan.places()}) == 50_000
    assert len(plan.canonical) < 3_000_000


def test_a_compressed_document_is_the_same_plan() -> None:
    raw = THEATRE.read_bytes()
    assert read_plan(gzip.compress(raw)) == read_plan(raw)


def test_what_is_only_drawn_is_passed_over() -> None:
    drawn = theatre()
    drawn["zones"][0]["areas"] = "anything"
    drawn["zones"][0]["rows"][0]["seats"][0]["radius"] = 10.5
    drawn["layout_version"] = 7
    assert plan_of(drawn) == plan_of(theatre())


SEAT = ("zones", 0, "rows", 0, "seats", 1)
GONE = object()
BAD = [
    ((), [], "", "must be a mapping"),
    (("name",), GONE, "name", "is required"),
    (("name",), "", "name", "must not be empty"),
    (("name",), 5, "name", "must be text"),
    (("name",), "x" * 101, "name", "must have at most 100 characters"),
    (("name",), "a\nb", "name", "must have printable characters only"),
    (("zones",), GONE, "zones", "is required"),
    (("zones",), {}, "zones", "must be a list"),
    (("zones",), [], "zones", "have no seat"),
    (("zones", 0), "a", "zones[0]", "must be a mapping"),
    (("zones", 0, "name"), 5, "zones[0].name", "must be text"),
    (("zones", 0, "position"), GONE, "zones[0].position", "is required"),
    (("zones", 0, "rows"), GONE, "zones[0].rows", "is required"),
    (("zones", 0, "rows", 0), None, "zones[0].rows[0]", "must be a mapping"),
    (("zones", 0, "rows", 0, "row_number"), GONE, "zones[0].rows[0].row_number", "is required"),
    (("zones", 0, "rows", 0, "seats"), GONE, "zones[0].rows[0].seats", "is required"),
    (("zones", 0, "rows", 0, "position"), {"x": 1}, "zones[0].rows[0].position.y", "is required"),
    (SEAT, 7, "zones[0].rows[0].seats[1]", "must be a mapping"),
    ((*SEAT, "seat_guid"), GONE, "zones[0].rows[0].seats[1].seat_guid", "is required"),
    ((*SEAT, "seat_guid"), "", "zones[0].rows[0].seats[1].seat_guid", "must not be empty"),
    ((*SEAT, "seat_number"), 2, "zones[0].rows[0].seats[1].seat_number", "must be text"),
    ((*SEAT, "position"), GONE, "zones[0].rows[0].seats[1].position", "is required"),
    ((*SEAT, "position", "x"), "5", "zones[0].rows[0].seats[1].position.x", "must be a number"),
    ((*SEAT, "position", "x"), True, "zones[0].rows[0].seats[1].position.x", "must be a number"),
    ((*SEAT, "position", "y"), 1e300, "zones[0].rows[0].seats[1].position.y", "from -1000000 to 1000000"),
    ((*SEAT, "category"), GONE, "zones[0].rows[0].seats[1].category", "is required"),
    ((*SEAT, "category"), "Gold", "zones[0].rows[0].seats[1].category", "'Gold' is none of the plan's"),
    (("categories",), GONE, "categories", "is required"),
    (("categories",), [{"name": "Hall"}] * 2, "categories[1].name", "'Hall' is a category already"),
    (("categories", 0), "Hall", "categories[0]", "must be a mapping"),
]


@pytest.mark.parametrize(("where", "value", "path", "why"), BAD)
def test_what_is_wrong_is_told_with_its_path(where: tuple[Any, ...], value: Any, path: str, why: str) -> None:
    document: Any = hall("ooo", "ooo")
    holder = {"": document}
    steps: list[Any] = ["", *where]
    for step in steps[:-1]:
        holder = holder[step]
    if value is GONE:
        del holder[steps[-1]]
    else:
        holder[steps[-1]] = value
    wrong = refused(holder[""] if not where else document)
    assert (path, True) in [(at, why in problem) for at, problem in wrong]


def test_ids_and_names_are_unique() -> None:
    document = hall("oo", "oo")
    rows = document["zones"][0]["rows"]
    rows[1]["seats"][0]["seat_guid"] = "A2"
    there = "zones[0].rows[0].seats[1].seat_guid"
    assert refused(document) == [
        ("zones[0].rows[1].seats[0].seat_guid", f"gives the id 'A2', which {there} gives already")
    ]
    document = hall("oo", "oo")
    document["zones"][0]["rows"][1]["row_number"] = "A"
    # Two tickets would name one seat.
    assert [path for path, _ in refused(document)] == [
        "zones[0].rows[1].seats[0].seat_number",
        "zones[0].rows[1].seats[1].seat_number",
    ]


@pytest.mark.parametrize("shift", [0, 3])
def test_rows_that_lie_over_each_other(shift: int) -> None:
    document = hall("ooo", "ooo")
    document["zones"][0]["rows"][1]["position"] = {"x": shift, "y": 0}
    wrong = refused(document)
    assert len(wrong) == 3
    assert wrong[0] == (
        "zones[0].rows[1].seats[0].position",
        "is where zones[0].rows[0].seats[0] is: the rows overlap",
    )


def test_rows_side_by_side_do_not_overlap() -> None:
    document = hall("ooo", "ooo")
    document["zones"][0]["rows"][1]["position"] = {"x": 5, "y": 0}
    assert plan_of(document).counts() == {"Hall": 6}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"x": NaN}',
        b"[" * 100_000,
        b"\x1f\x8bgarbage",
        b"\xff\xfe",
        b"9" * 10_000,
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_json(raw: bytes) -> None:
    ((path, problem),) = refused(raw)
    assert path == ""
    assert "is not" in problem or "must be" in problem


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(gzip.compress(b" " * (reader.MAX_BYTES + 1))) == [("", "must have at most 33554432 bytes")]
    monkeypatch.setattr(reader, "MAX_SEATS", 5)
    assert refused(hall("ooo", "ooo")) == [
        ("zones[0].rows[1].seats[2]", "is one seat too many: a plan has at most 5")
    ]
    monkeypatch.setattr(reader, "MAX_ROWS", 1)
    two_zones = hall("o")
    two_zones["zones"].append(copy.deepcopy(two_zones["zones"][0]))
    assert refused(two_zones)[-1] == ("zones[1].rows[0]", "is one row too many: a plan has at most 1")


def test_no_more_is_told_than_can_be_read() -> None:
    document = stadium(2000, blocks=4)
    document["categories"] = [{"name": "Other"}]
    assert len(refused(document)) == reader.PROBLEMS_TOLD
