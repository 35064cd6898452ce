"""Locust's processes from outside: a lane whose own code fails ends the run instead of thinning it out."""

from pathlib import Path

import pytest

from local.servers import ports
from tests.load.generator import Generator, GeneratorFailed
from tests.load.settings import Plan, Step

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


async def test_a_lane_that_fails_fails_the_run(tmp_path: Path) -> None:
    # A BFF without a token is a mistake in the plan.
    async with Generator(plan(tmp_path, "bff", []), tmp_path / "locust.html") as generator:
        await generator.began_at()
        with pytest.raises(GeneratorFailed, match=r"(?s)locust worker 1 ended with status \d+\n.*IndexError"):
            await generator.results()


@pytest.mark.parametrize("series", ["grpc", "grpc-web"])
async def test_calls_that_reach_nobody_are_refusals_by_name(tmp_path: Path, series: str) -> None:
    async with Generator(plan(tmp_path, series, ["t"]), tmp_path / "locust.html") as generator:
        await generator.began_at()
        (step,) = await generator.results()
    assert step.sent + step.unsent == 10 and step.answered == 0
    assert all(name.split()[-1] == "UNAVAILABLE" for name in step.words), step.words
    assert len(step.latencies_us) == 10
