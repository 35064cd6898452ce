"""Locust's processes from outside: a lane whose own code fails ends the run instead of thinning it out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from local.servers import ports
from tests.load.generator import Generator, GeneratorFailed
from tests.load.settings import Plan, Step
from tests.load.tally import StepTally

NOWHERE = f"{ports.HOST}:1"


def plan(folder: Path, series: str, tokens: list[str]) -> Plan:
    return Plan(
        series=series,
        sale="nowhere",
        sections=["floor"],
        targets=dict.fromkeys(("queue", "inventory", "checkout", "notifier"), NOWHERE),
        edge=NOWHERE,
        tokens=tokens,
        steps=[Step(20.0, 0.0, 0.5)],
        workers=1,
        lanes=2,
        batch=2,
        streams=2,
        seed=1,
        first_buyer=0,
        folder=str(folder),
    )


Outcomes = dict[str, Sequence[StepTally] | BaseException]


@pytest.fixture(scope="module")
async def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What each run came to; side by side, as they mostly wait."""

    async def ran(series: str, tokens: list[str]) -> list[StepTally]:
        folder = tmp_path_factory.mktemp(series)
        async with Generator(plan(folder, series, tokens), folder / "locust.html") as generator:
            await generator.began_at()
            return await generator.results()

    # A BFF without a token is a mistake in the plan.
    tokens: dict[str, list[str]] = {"bff": [], "grpc": ["t"], "grpc-web": ["t"]}
    found = await asyncio.gather(*(ran(*each) for each in tokens.items()), return_exceptions=True)
    return dict(zip(tokens, found, strict=True))


def test_a_lane_that_fails_fails_the_run(outcomes: Outcomes) -> None:
    failed = outcomes["bff"]
    with pytest.raises(GeneratorFailed, match=r"(?s)locust worker 1 ended with status \d+\n.*IndexError"):
        assert isinstance(failed, BaseException), failed
        raise failed


@pytest.mark.parametrize("series", ["grpc", "grpc-web"])
def test_calls_that_reach_nobody_are_refusals_by_name(outcomes: Outcomes, series: str) -> None:
    found = outcomes[series]
    assert not isinstance(found, BaseException), found
    (step,) = found
    assert step.sent + step.unsent == 10 and step.answered == 0
    assert all(name.split()[-1] == "UNAVAILABLE" for name in step.words), step.words
    assert len(step.latencies_us) == 10
