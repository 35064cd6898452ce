"""What `make bench` is told to measure exists."""

from importlib import import_module
from inspect import iscoroutinefunction

import pytest

from bench.__main__ import MEASUREMENTS


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_is_a_module_that_measures(name: str) -> None:
    assert iscoroutinefunction(import_module(f"bench.{name}").measure)
