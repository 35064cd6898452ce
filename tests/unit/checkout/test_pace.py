"""Pacing of sales' orders, and the breaker that leaves a failing part alone."""

import pytest

from services.checkout.breaker import Breaker
from services.checkout.pacing import Pacer


def test_orders_get_slots_in_the_order_they_came() -> None:
    pacer = Pacer()

    waits = [pacer.wait_s("jazz", sequence, 10.0, 60.0, 100.0) for sequence in range(5)]

    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_an_order_that_comes_again_keeps_its_slot() -> None:
    pacer = Pacer()
    for sequence in range(3):
        pacer.wait_s("jazz", sequence, 10.0, 60.0, 100.0)

    assert pacer.wait_s("jazz", 2, 10.0, 60.0, 100.1) == pytest.approx(0.1)
    assert pacer.wait_s("jazz", 2, 10.0, 60.0, 100.2) == 0.0
    # Its slot is used up; newcomers stand behind.
    assert pacer.wait_s("jazz", 3, 10.0, 60.0, 100.2) == pytest.approx(0.1)


def test_sales_do_not_wait_for_each_other() -> None:
    pacer = Pacer()
    for sequence in range(100):
        pacer.wait_s("jazz", sequence, 1.0, 600.0, 100.0)

    assert pacer.wait_s("rock", 100, 1.0, 600.0, 100.0) == 0.0


def test_without_a_rate_nobody_waits() -> None:
    pacer = Pacer()
    assert [pacer.wait_s("jazz", sequence, 0.0, 60.0, 100.0) for sequence in range(3)] == [0.0] * 3


def test_nobody_waits_longer_than_the_claim_lasts() -> None:
    pacer = Pacer()
    waits = [pacer.wait_s("jazz", sequence, 1.0, 5.0, 100.0) for sequence in range(20)]
    assert max(waits) == 5.0


def test_an_idle_sale_saves_no_slots_up() -> None:
    pacer = Pacer()
    pacer.wait_s("jazz", 0, 10.0, 60.0, 100.0)

    waits = [pacer.wait_s("jazz", sequence, 10.0, 60.0, 200.0) for sequence in (1, 2)]

    assert waits == pytest.approx([0.0, 0.1])


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
