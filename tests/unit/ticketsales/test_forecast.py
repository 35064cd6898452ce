"""What the lobby lets expect: who joined, who will, and the replicas for them."""

import pytest
from catraca.sale.v1 import sale_pb2 as pb
from catraca_operator.forecast import PerReplica, Sample, forecast, join_rate, needed, thinned

from tests.unit.ticketsales.conftest import OPENS, definition

EACH = PerReplica(watchers=1000, holds_per_s=10.0, orders_per_s=5.0, streams=50)


def samples(*pairs: tuple[int, int]) -> list[Sample]:
    """Of seconds and joined."""
    return [Sample(at * 1000, joined) for at, joined in pairs]


@pytest.mark.parametrize(
    ("seen", "rate"),
    [
        (samples((0, 0)), 0.0),
        (samples((0, 0), (10, 50)), 5.0),
        # The last minute counts, not how it began.
        (samples((0, 0), (100, 5000), (130, 5300), (160, 5600)), 10.0),
        # Longer apart than a minute: over as long as it is.
        (samples((0, 0), (300, 600)), 2.0),
        (samples((0, 10), (0, 20)), 0.0),
        (samples((0, 0), (10, 50), (20, 40)), 2.0),
    ],
)
def test_the_rate_at_which_buyers_join(seen: list[Sample], rate: float) -> None:
    assert join_rate(seen) == pytest.approx(rate)


def test_who_will_have_joined_at_the_opening() -> None:
    seen = samples((900, 0), (950, 5000))
    made = forecast(seen, OPENS, 950_000, definition(), EACH)
    assert made is not None
    assert (made.join_rate, made.buyers) == (100.0, 10_000)
    assert made.replicas["queue"] == 10


def test_after_the_opening_the_crowd_is_who_came() -> None:
    made = forecast(samples((900, 0), (1010, 5000)), OPENS, 1_010_000, definition(), EACH)
    assert made is not None
    assert made.buyers == 5000


def test_nobody_comes_early_where_there_is_no_line() -> None:
    assert forecast(samples((900, 0)), OPENS, 950_000, definition("None"), EACH) is None
    assert forecast([], OPENS, 950_000, definition(), EACH) is None


def test_what_nobody_joins_needs_nothing() -> None:
    made = forecast(samples((900, 0), (950, 0)), OPENS, 950_000, definition(), EACH)
    assert made is not None
    assert set(made.replicas.values()) == {0}


@pytest.mark.parametrize(
    ("buyers", "line", "replicas"),
    [
        # 100 units are there: more than 100 cannot buy, however many wait.
        (9_000, {}, {"queue": 9, "inventory": 1, "checkout": 1, "notifier": 2}),
        # A line with a rate lets in so many a second.
        (9_000, {"rate": 40}, {"queue": 9, "inventory": 4, "checkout": 8, "notifier": 2}),
        (3, {"rate": 40}, {"queue": 1, "inventory": 1, "checkout": 1, "notifier": 1}),
        (9_000, {"concurrency": 10}, {"queue": 9, "inventory": 1, "checkout": 1, "notifier": 2}),
    ],
)
def test_the_replicas_for_so_many(buyers: int, line: dict[str, int], replicas: dict[str, int]) -> None:
    spec: pb.SaleSpec = definition(line=line)
    assert needed(buyers, spec, EACH) == replicas


def test_where_a_plan_says_how_many_seats_there_are_everyone_may_shop() -> None:
    spec: pb.SaleSpec = definition(line={})
    spec.sections[0].capacity = 0
    assert needed(9_000, spec, EACH)["notifier"] > needed(9_000, definition(line={}), EACH)["notifier"]


def test_old_samples_go_but_for_the_one_before_the_last_minute() -> None:
    seen = samples((0, 0), (10, 1), (50, 2), (100, 3), (130, 4))
    assert [each.at_ms for each in thinned(seen, 130_000)] == [50_000, 100_000, 130_000]
    assert [each.at_ms for each in thinned(seen, 900_000)] == [130_000]
