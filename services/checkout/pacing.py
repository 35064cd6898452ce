"""Paces the orders of each sale: at most so many a second are taken on, in the order they came."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Sale:
    next_slot_s: float = 0.0
    reserved: dict[int, float] = field(default_factory=dict)


class Pacer:
    """Gives each order a slot in time. An order that has to wait keeps its slot until it comes again."""

    def __init__(self) -> None:
        self._sales: dict[str, _Sale] = {}

    def wait_s(self, sale: str, sequence: int, rate: float, longest_s: float, now_s: float) -> float:
        """How long the order with this place in INTAKE has to wait: 0 takes it on now.

        `rate` is orders a second, 0 for no bound. Nobody waits longer than `longest_s`: by then the order's
        claim is over, and it is better told so.
        """
        if rate <= 0:
            self._sales.pop(sale, None)
            return 0.0
        pace = self._sales.setdefault(sale, _Sale())
        slot_s = pace.reserved.get(sequence)
        if slot_s is None:
            slot_s = max(now_s, pace.next_slot_s)
            pace.next_slot_s = slot_s + 1 / rate
            slot_s = min(slot_s, now_s + longest_s)
        if slot_s <= now_s:
            pace.reserved.pop(sequence, None)
            return 0.0
        pace.reserved[sequence] = slot_s
        return slot_s - now_s
