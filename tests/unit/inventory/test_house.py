"""Seats by name become units, and units get their names back."""

from typing import Any

import pytest

from services.inventory.house import House
from services.kit.errors import Refusal
from services.kit.plans.layout import layouts
from tests.plans import hall, plan_of, seated_section, spec_of_seats

PLAN = plan_of(hall("oooo", name="Stalls"))
SECTION = seated_section("hall", "Hall", accessible=("A1",), companion=("A2",))
LAYOUT = layouts(spec_of_seats(SECTION), PLAN)["hall"]
HOUSE = House({"hall": LAYOUT})


def item(quantity: int, *seats: str, **more: Any) -> dict[str, Any]:
    return {"section": "hall", "quantity": quantity, **({"seats": list(seats)} if seats else {}), **more}


def test_seats_become_units() -> None:
    (found,) = HOUSE.with_units([item(2, "A4", "A3", together=True)])
    # Named seats are as they are: together or not is no question.
    assert found == {"section": "hall", "quantity": 2, "units": [LAYOUT.units["A4"], LAYOUT.units["A3"]]}


def test_companions_come_last() -> None:
    wanted = [item(1, use="COMPANION"), item(1, use="ACCESSIBLE"), item(1)]
    assert [each.get("use") for each in HOUSE.with_units(wanted)] == ["ACCESSIBLE", None, "COMPANION"]


def test_what_a_standing_section_knows_nothing_of() -> None:
    (found,) = HOUSE.with_units([{"section": "floor", "quantity": 2, "together": True}])
    assert found == {"section": "floor", "quantity": 2}


BAD = [
    ([item(1, "Z1")], "SEAT_NOT_FOUND", {"section": "hall", "seat": "Z1"}),
    ([item(2, "A3")], "INVALID_QUANTITY", {"field": "items[0].quantity"}),
    ([item(2, "A3", "A3")], "INVALID_FIELD", {"field": "items[0].seats"}),
    ([item(1, "A3"), item(1, "A3")], "INVALID_FIELD", {"field": "items[1].seats"}),
    ([item(1, "A3", use="ACCESSIBLE")], "INVALID_FIELD", {"field": "items[0].seats"}),
    ([item(1), item(1, use="COMPANION")], "INVALID_FIELD", {"field": "items[1].use"}),
    ([{"section": "floor", "quantity": 1, "seats": ["A3"]}], "INVALID_FIELD", {"field": "items[0].seats"}),
    ([{"section": "floor", "quantity": 1, "use": "ACCESSIBLE"}], "INVALID_FIELD", {"field": "items[0].use"}),
]


@pytest.mark.parametrize(("items", "word", "metadata"), BAD)
def test_what_cannot_be_is_named(items: list[dict[str, Any]], word: str, metadata: dict[str, str]) -> None:
    with pytest.raises(Refusal, match=word) as refused:
        HOUSE.with_units(items)
    assert metadata.items() <= refused.value.metadata.items()


def test_seats_are_blocked_by_name() -> None:
    assert HOUSE.to_block([item(1, "A1")])[0]["units"] == [LAYOUT.units["A1"]]
    with pytest.raises(Refusal, match="INVALID_FIELD"):
        HOUSE.to_block([item(1)])


def test_results_get_their_names() -> None:
    unit = {"section": "hall", "unit": LAYOUT.units["A3"]}
    standing = {"section": "floor", "unit": 3}
    held = HOUSE.named({"word": "HELD", "hold": {"units": [dict(unit), dict(standing)]}})
    assert held["hold"]["units"] == [{**unit, "seat": "Stalls A-3"}, standing]
    taken = {"section": "hall", "taken": [LAYOUT.units["A4"], LAYOUT.units["A3"]]}
    assert HOUSE.named({"word": "SEAT_TAKEN", "detail": taken})["detail"]["taken"] == "A4\nA3"
    assert House().named({"word": "HELD", "hold": {"units": [dict(standing)]}}) == {
        "word": "HELD",
        "hold": {"units": [standing]},
    }
