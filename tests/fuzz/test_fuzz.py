"""Twenty thousand calls made from the contract, most of them bad, on the whole system: no harm, no defect.

`make fuzz` does the same for as long as one likes, and from another seed each time.
"""

from collections.abc import Iterator

import pytest

from local.stack import Stack
from tests.fuzz.contract import methods
from tests.fuzz.fuzz import Fuzz

CALLS = 20_000
SHARDS = 10
"""Tests that the calls are dealt out to, each with a seed of its own."""


@pytest.fixture(scope="module")
def fuzz(fuzz_stack: Stack) -> Iterator[Fuzz]:
    fuzz = Fuzz(fuzz_stack)
    yield fuzz
    fuzz.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, SHARDS + 1))
def test_bad_input_does_no_harm(fuzz: Fuzz, seed: int) -> None:
    print(f"seed {seed}")
    before = fuzz.tally.compared
    fuzz.run(CALLS // SHARDS, seed)
    assert fuzz.tally.compared > before, "no group was refused as a whole: nothing was compared"


def test_so_many_calls_reached_every_method(fuzz: Fuzz) -> None:
    assert fuzz.tally.total >= CALLS
    assert set(methods()) <= set(fuzz.tally.calls)
