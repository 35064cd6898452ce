"""Pacing of sales' orders, and the breaker that leaves a failing part alone."""

from collections.abc import Sequence

import pytest
from catraca.sale.v1 import sale_pb2

from services.checkout.breaker import Breaker
from services.checkout.pacing import Pacer, interval_us
from services.kit.definitions import Definition


class Asked:
    """Notes what the pacer asks of the store, where each order waits so long."""

    def __init__(self, waits_us: int = 0) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._wait_us = waits_us

    async def give_slots(
        self, sale: str, sequences: Sequence[int], interval_us: int, longest_us: int
    ) -> dict[int, int]:
        self.calls.append(("give", sale, list(sequences), interval_us, longest_us))
        return dict.fromkeys(sequences, self._wait_us)

    async def drop_slots(self, sale: str, sequences: Sequence[int]) -> None:
        self.calls.append(("drop", sale, list(sequences)))


def definition(rate: float, phase: sale_pb2.SalePhase = sale_pb2.SALE_PHASE_UNSPECIFIED) -> Definition:
    """A sale of this rate whose orders wait a minute at most."""
    sale = sale_pb2.Sale(sale="jazz", phase=phase)
    sale.spec.orders.rate = rate
    sale.spec.orders.queue_max.FromSeconds(60)
    return Definition(sale, 1)


async def test_a_sale_with_a_rate_asks_once_for_a_batch() -> None:
    slots = Asked(waits_us=250_000)
    pacer = Pacer(slots)

    assert await pacer.waits_s(definition(4.0), [7, 8]) == {7: 0.25, 8: 0.25}
    await pacer.taken_on(definition(4.0), [7, 8])

    assert slots.calls == [("give", "jazz", [7, 8], 250_000, 60_000_000), ("drop", "jazz", [7, 8])]


@pytest.mark.parametrize(
    ("sale", "sequences"),
    [
        (definition(0.0), [7, 8]),
        (definition(4.0, sale_pb2.SALE_PHASE_ARCHIVED), [7, 8]),
        (definition(4.0), []),
    ],
    ids=["no rate", "archived", "nobody"],
)
async def test_without_a_pace_nobody_waits_and_nothing_is_asked(
    sale: Definition, sequences: list[int]
) -> None:
    slots = Asked(waits_us=250_000)
    pacer = Pacer(slots)

    assert await pacer.waits_s(sale, sequences) == dict.fromkeys(sequences, 0.0)
    await pacer.taken_on(sale, sequences)

    assert slots.calls == []


@pytest.mark.parametrize(
    ("rate", "expected_us"),
    [(1.0, 1_000_000), (0.5, 2_000_000), (1e6, 1), (3.0, 333_334), (7e5, 2), (1e-300, 10**15)],
)
def test_slots_are_never_closer_than_the_rate(rate: float, expected_us: int) -> None:
    assert interval_us(rate) == expected_us


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    clock = Clock()
    breaker = Breaker(3, 2.0, clock)

    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.wait_s() == 0.0
    breaker.failed()
    assert breaker.wait_s() == 2.0


def test_after_the_pause_one_try_decides() -> None:
    clock = Clock()
    breaker = Breaker(1, 2.0, clock)
    breaker.failed()

    clock.now = 102.0
    assert breaker.wait_s() == 0.0
    breaker.failed()
    assert breaker.wait_s() == 2.0

    clock.now = 104.0
    breaker.succeeded()
    breaker.failed()
    assert breaker.wait_s() == 2.0
    breaker.succeeded()
    assert breaker.wait_s() == 0.0
