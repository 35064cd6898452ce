"""A plan has one canonical form and one digest, and what is kept is checked against it."""

import hashlib
import zlib

import msgpack
import pytest

from services.kit.plans.compiled import Plan, PlanUnreadable, unpacked
from tests.plans import hall, plan_of, stadium_plan, theatre


@pytest.mark.parametrize("plan", [plan_of(theatre()), stadium_plan(3000)], ids=["theatre", "stadium"])
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    assert unpacked(plan.packed(), plan.digest) == plan


def test_the_digest_tells_plans_apart_and_nothing_else() -> None:
    drawn = theatre()
    drawn["categories"][0]["color"] = "#000000"
    assert plan_of(drawn).digest == plan_of(theatre()).digest
    drawn["zones"][0]["rows"][0]["seats"][0]["position"]["x"] += 1
    assert plan_of(drawn).digest != plan_of(theatre()).digest


@pytest.mark.parametrize("damage", ["cut", "other", "version", "nothing"])
def test_what_was_damaged_is_not_taken_for_a_plan(damage: str) -> None:
    plan, other = plan_of(hall("oo")), plan_of(hall("ooo"))
    packed, digest = plan.packed(), plan.digest
    if damage == "cut":
        packed = packed[:-10]
    elif damage == "other":
        packed = other.packed()
    elif damage == "version":
        later = msgpack.packb([2, "a plan of a later version"])
        packed, digest = zlib.compress(later), hashlib.sha256(later).hexdigest()
    else:
        packed = b""
    with pytest.raises(PlanUnreadable):
        unpacked(packed, digest)
