"""The rush's own sale fits the schema, whatever its size."""

import time

import pytest

from local.rush.sale import described, sections, spec
from local.rush.settings import RushSettings
from services.kit.manifest import manifest_of, validate


@pytest.mark.parametrize("tickets", [1, 7, 33, 1000, 5000])
def test_the_house_has_as_many_units_as_tickets(tickets: int) -> None:
    assert sum(section.capacity for section in sections(tickets)) == tickets
    assert all(section.capacity > 0 for section in sections(tickets))


def test_the_definition_is_valid() -> None:
    definition = spec(RushSettings(), "A release night", time.time())
    assert not validate(manifest_of("a-sale", definition))


def test_the_crowd_is_told_of_every_section_and_price() -> None:
    definition = spec(RushSettings(tickets=100), "A release night", time.time())
    house = described(definition)
    assert [entry[0] for entry in house] == ["floor", "balcony", "community"]
    assert house[2][2] == [["free", 0]]
