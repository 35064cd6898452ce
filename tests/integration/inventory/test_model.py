"""Whatever is asked in whatever order, split over runs as it may be: the script answers as the model does."""

import asyncio
import secrets
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from local.servers.redis import Redis
from services.kit.redis import connect
from tests.integration.inventory.book import Book, buyer, definition, items, seated, section
from tests.integration.inventory.model import Model

BUYERS = [buyer(name) for name in ("ana", "bia", "carla", "davi")]
HALL = seated("hall", "ooo oo", "ooooo", accessible=("B1",), companion=("B2",), quotas={"half": 3})
SECTIONS = [section("floor", 5, half=2), section("balcony", 4, full=2, half=2), HALL]

buyers = st.sampled_from(BUYERS)
numbers = st.integers(0, 5)
wanted = st.lists(
    st.tuples(
        st.sampled_from([*["floor"] * 4, *["balcony"] * 4, "cellar"]),
        st.sampled_from([1, 1, 1, 2, 2, 3]),
        st.sampled_from([*["full"] * 5, *["half"] * 4, "none"]),
    ),
    min_size=1,
    max_size=2,
)
# In the hall by name or as the best there are; together with what is wanted elsewhere, or not.
best = st.fixed_dictionaries(
    {"section": st.just("hall"), "quantity": st.sampled_from([1, 2, 2, 3, 4])},
    optional={
        "together": st.just(True),
        "use": st.sampled_from(["ACCESSIBLE", "COMPANION"]),
        "ticket_type": st.sampled_from(["full", "half"]),
    },
)
named = st.lists(st.integers(0, HALL["capacity"] - 1), min_size=1, max_size=3, unique=True).flatmap(
    lambda units: st.fixed_dictionaries(
        {"section": st.just("hall"), "quantity": st.just(len(units)), "units": st.just(units)},
        optional={"use": st.sampled_from(["ACCESSIBLE", "COMPANION"])},
    )
)
seats = st.one_of(
    st.lists(best, min_size=1, max_size=2),
    st.lists(best, min_size=1, max_size=1),
    st.lists(named, min_size=1, max_size=1),
    st.tuples(named, best).map(list),
    st.tuples(best, wanted).map(lambda pair: [pair[0], *items(*pair[1])]),
)
blocked = st.one_of(
    st.lists(
        st.fixed_dictionaries(
            {"section": st.sampled_from(["floor", "balcony", "cellar"]), "quantity": st.integers(1, 4)}
        ),
        min_size=1,
        max_size=2,
    ),
    st.lists(named, min_size=1, max_size=1).map(
        lambda them: [{name: value for name, value in each.items() if name != "use"} for each in them]
    ),
)
# Mostly the place that the buyer was called at; it is looked up when the command's turn has come.
places = st.sampled_from([*["own"] * 8, "none", "other"])
# Mostly the ids of something that is there.
mistakes = st.sampled_from([*["none"] * 8, "buyer", "order", "hold"])


def command(op: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"op": st.just(op), **fields})


def of_order(op: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return command(op, which=numbers, mistake=mistakes, **fields)


calls = command(
    "call", names=st.lists(buyers, max_size=4, unique=True), want=st.integers(0, 3), gap=st.booleans()
)
commands = st.one_of(
    calls,
    command("hold", buyer=buyers, number=numbers, items=wanted, place=places),
    command("hold", buyer=buyers, number=numbers, items=wanted, place=places),
    command("claim", buyer=buyers, number=numbers, items=wanted, place=places),
    command("hold", buyer=buyers, number=numbers, seats=seats, place=places),
    command("hold", buyer=buyers, number=numbers, seats=seats, place=places),
    command("claim", buyer=buyers, number=numbers, seats=seats, place=places),
    command("block", block=numbers, blocked=blocked),
    command("unblock", block=numbers),
    command("claim", buyer=buyers, number=numbers, which=numbers, mistake=mistakes),
    of_order("hold"),
    of_order("pin", until_ms=st.integers(0, 900_000)),
    of_order("release"),
    of_order("commit"),
    of_order("return"),
    command("lapse", buyer=buyers, place=places),
    command("look", buyer=buyers, place=places),
)


class Ledger(RuleBasedStateMachine):
    """The script on a real Redis beside the model."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = self.runner.run(connected(url))

    @initialize(line=st.booleans(), concurrency=st.integers(0, 2), holds_per_turn=st.integers(1, 3))
    def open(self, line: bool, concurrency: int, holds_per_turn: int) -> None:
        content = definition(
            line=line,
            concurrency=concurrency,
            holds_per_turn=holds_per_turn,
            limit=4,
            closes_ms=1_200_000,
            release_ms=500_000,
            sections=SECTIONS,
        )
        self.model = Model(content)
        self.book: Book = self.runner.run(Book.open(self.redis, f"sale-{secrets.token_hex(6)}", content))

    @rule(batch=st.lists(commands, min_size=1, max_size=8), budget=st.sampled_from([10, 20, 800]))
    def run(self, batch: list[dict[str, Any]], budget: int) -> None:
        asked, expected = [], []
        for drawn in batch:
            concrete = self.concrete(drawn)
            asked.append(self.absolute(concrete))
            expected.append(self.model.apply(concrete))
        results = self.runner.run(self.book.run(*asked, budget=budget))
        for drawn, result, answer in zip(batch, results, expected, strict=True):
            assert self.comparable(result, answer) == answer, drawn

    @rule(step=st.sampled_from([1, 1000, 1000, 30_000, 60_000, 120_000, 300_000]))
    def wait(self, step: int) -> None:
        # What is due ends when the next command comes, or the sweeper: the order of what ended is the same.
        moment = self.model.now + step
        self.model.pass_time(moment)
        self.runner.run(self.book.at(moment))

    @rule(paused=st.booleans(), more=st.integers(0, 2))
    def redefine(self, paused: bool, more: int) -> None:
        sections = [
            each if "layout" in each else each | {"capacity": each["capacity"] + more}
            for each in self.book.content["sections"]
        ]
        content = self.book.content | {"paused": paused, "sections": sections}
        self.model.define(content)
        assert self.runner.run(self.book.define(content))["word"] == "DEFINED"

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "book"):
            return
        ledger = self.runner.run(self.book.ledger())
        model = self.model
        assert ledger["watermark"] == model.watermark
        assert ledger["turns"] == len(model.live())
        assert ledger["claims"] == len(model.open_claims())
        counts = ledger["counts"]
        assert counts["promised"] == model.promised() >= 0
        assert counts["held"] == sum(hold.quantity for hold in model.held())
        assert counts["sold"] == sum(hold.quantity for hold in model.sold())
        claimed = sum(claim.quantity for claim in model.open_claims())
        assert counts["blocked"] == sum(model.blocked(name) for name in model.sections)
        taken = counts["held"] + counts["sold"] + counts["blocked"] + claimed
        assert counts["free"] == counts["capacity"] - taken >= 0
        assert model.unpromised() >= 0 or not model.definition["line"]
        for name in BUYERS:
            assert model.has(name) <= model.definition["limit"]

    @invariant()
    def units_are_as_counted(self) -> None:
        if not hasattr(self, "book"):
            return
        for name, counts in self.runner.run(self.book.sections()).items():
            states = self.runner.run(self.book.unit_states(name))
            if name in self.model.seatings:
                taken = self.model.occupied(name)
                assert states == [taken.get(unit, 0) for unit in range(len(states))]
                assert self.runner.run(self.book.summary(name)) == self.model.seatings[name].summary(
                    set(taken)
                )
            else:
                expected = (counts["held"], counts["sold"], counts["blocked"])
                assert (states.count(1), states.count(2), states.count(3)) == expected

    def teardown(self) -> None:
        if hasattr(self, "book"):
            changes = self.runner.run(self.book.outbox())
            assert [change["sequence"] for change in changes] == list(range(1, len(changes) + 1))
        self.runner.run(self.redis.aclose())
        self.runner.close()

    # ---- from what was drawn to what is asked ----

    def concrete(self, drawn: dict[str, Any]) -> dict[str, Any]:
        if drawn["op"] == "call":
            return self.call(drawn)
        if "block" in drawn:
            asked = {"op": drawn["op"], "block_id": f"block-{drawn['block']:04}"}
            return asked | ({"items": drawn["blocked"]} if "blocked" in drawn else {})
        if drawn["op"] == "claim" and "which" in drawn:
            return self.claim_of_hold(drawn)
        if "which" in drawn:
            return self.of_something(drawn)
        asked = {"op": drawn["op"], "buyer": drawn["buyer"]} | self.place(drawn)
        if drawn["op"] == "hold":
            asked["hold_id"] = f"hold-{drawn['number']:04}"
        if drawn["op"] == "claim":
            asked["order_id"] = buyer(f"{drawn['buyer']} {drawn['number']}")
        if "items" in drawn:
            asked["items"] = items(*drawn["items"])
        if "seats" in drawn:
            asked["items"] = drawn["seats"]
        return asked

    def place(self, drawn: dict[str, Any]) -> dict[str, Any]:
        promise = self.model.promises.get(drawn["buyer"])
        if drawn["place"] == "none" and drawn["op"] in ("hold", "claim"):
            return {}
        return {"place": (promise.place if promise else 0) + (drawn["place"] == "other")}

    def call(self, drawn: dict[str, Any]) -> dict[str, Any]:
        start = self.model.watermark
        want = {"want": drawn["want"]} if drawn["want"] else {}
        callees = [
            {"buyer": name, "place": start + number * (1 + drawn["gap"]), "joined_at_ms": 1} | want
            for number, name in enumerate(drawn["names"])
        ]
        return {"op": "call", "from": start, "to": start + 2 * len(callees), "callees": callees}

    def claim_of_hold(self, drawn: dict[str, Any]) -> dict[str, Any]:
        own = [hold.hold_id for hold in self.model.holds.values() if hold.buyer == drawn["buyer"]]
        hold_id = own[drawn["which"] % len(own)] if own and drawn["mistake"] != "hold" else "hold-none"
        order_id = buyer(f"{drawn['buyer']} {drawn['number']} of a hold")
        return {"op": "claim", "buyer": drawn["buyer"], "order_id": order_id, "hold_id": hold_id}

    def of_something(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """A command of an order whose claim or hold is there, or of a hold that no order has."""
        there = [(hold.buyer, hold.hold_id, hold.order_id) for hold in self.model.holds.values()]
        there += [(claim.buyer, claim.hold_id or order, order) for order, claim in self.model.claims.items()]
        if not there:
            there = [(BUYERS[0], "hold-0000", None)]
        name, hold_id, order_id = there[drawn["which"] % len(there)]
        asked = {"op": drawn["op"], "buyer": name, "hold_id": hold_id}
        if order_id or drawn["op"] != "release":
            asked["order_id"] = order_id or buyer("of nobody")
        wrong = {"buyer": BUYERS[1], "order_id": buyer("of nobody"), "hold_id": "hold-none"}
        mistaken = f"{drawn['mistake']}_id" if drawn["mistake"] != "buyer" else "buyer"
        asked |= {field: value for field, value in wrong.items() if field == mistaken}
        if drawn["op"] == "pin":
            asked["until_ms"] = self.model.now + drawn["until_ms"]
        if drawn["op"] == "return":
            asked["units"] = []
        return asked

    def absolute(self, asked: dict[str, Any]) -> dict[str, Any]:
        return asked | {"until_ms": asked["until_ms"] + self.book.start} if "until_ms" in asked else asked

    def comparable(self, result: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        """Those parts of the script's answer that the model's has."""
        hold, promise = result.get("hold") or {}, result.get("promise") or {}
        found: dict[str, Any] = {"word": result["word"], "granted": result.get("granted")}
        if hold:
            found |= {"state": hold["state"], "order_id": hold.get("order_id")}
            found["units"] = sorted((unit["section"], unit["ticket_type"]) for unit in hold["units"])
            found["seats"] = sorted(
                (u["section"], u["unit"]) for u in hold["units"] if u["section"] == "hall"
            )
            found["ends"] = (
                hold.get("expires_at_ms", 0) - self.book.start if "expires_at_ms" in hold else None
            )
        found |= {name: promise[name] for name in ("left", "allowance") if name in promise}
        if hold and hold["state"] in ("SOLD", "RELEASED", "RETURNED"):
            # Nothing ends any more.
            found["ends"] = answer.get("ends")
        return {name: found.get(name) for name in answer}


async def connected(url: str) -> Any:
    return connect(url)


def test_the_script_does_as_the_model(redis_server: Redis) -> None:
    checked = settings(
        max_examples=60,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(lambda: Ledger(redis_server.url), settings=checked)
