"""Buyers who are refused for a while: as long as was said, and no more of them than there is room for."""

from services.checkout.pauses import Pauses


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_buyer_is_refused_in_one_sale_until_the_time_is_over() -> None:
    clock = Clock()
    pauses = Pauses(10, clock)
    pauses.begin("a", "ana", 5.0)

    clock.now += 3
    assert pauses.left_s("a", "ana") == 2.0
    assert (pauses.left_s("b", "ana"), pauses.left_s("a", "bia")) == (0.0, 0.0)

    clock.now += 2
    assert pauses.left_s("a", "ana") == 0.0
    assert len(pauses) == 0, "nothing is remembered of who may order again"


def test_what_is_over_goes_although_nobody_asks() -> None:
    clock = Clock()
    pauses = Pauses(10, clock)
    for number in range(5):
        pauses.begin("a", f"buyer-{number}", 5.0)
    clock.now += 6

    pauses.begin("a", "ana", 5.0)

    assert len(pauses) == 1


def test_the_oldest_makes_room() -> None:
    clock = Clock()
    pauses = Pauses(3, clock)
    for number in range(1000):
        pauses.begin("a", f"buyer-{number}", 5.0)
    # Who is refused anew counts from then on.
    pauses.begin("a", "buyer-997", 5.0)
    pauses.begin("a", "ana", 5.0)

    assert len(pauses) == 3
    left = {buyer: pauses.left_s("a", buyer) for buyer in ("buyer-997", "buyer-998", "buyer-999", "ana")}
    assert left == {"buyer-997": 5.0, "buyer-998": 0.0, "buyer-999": 5.0, "ana": 5.0}
