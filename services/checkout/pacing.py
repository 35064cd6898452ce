"""Paces the orders of each sale: at most so many a second are taken on, in the order they came."""

import math
from collections.abc import Sequence
from typing import Protocol

from services.kit.definitions import Definition

SECOND_US = 1_000_000
# About thirty years: a rate that is next to nothing still has an interval that Postgres can count with.
LONGEST_INTERVAL_US = 10**15


class Slots(Protocol):
    """Where the slots of all workers are kept."""

    async def give_slots(
        self, sale: str, sequences: Sequence[int], interval_us: int, longest_us: int
    ) -> dict[int, int]: ...
    async def drop_slots(self, sale: str, sequences: Sequence[int]) -> None: ...


class Pacer:
    """Gives each order a slot in time, which it keeps until it is taken on, whichever worker it comes to."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    async def waits_s(self, definition: Definition, sequences: Sequence[int]) -> dict[int, float]:
        """How many seconds the orders with these places in INTAKE have to wait; 0 takes one on now.

        Nobody waits longer than an order may wait for a worker: by then its claim is over, and it is better
        told so. Costs nothing for a sale without a rate. Raises what the store raises.
        """
        if not sequences or not paced(definition):
            return dict.fromkeys(sequences, 0.0)
        orders = definition.sale.spec.orders
        longest_us = orders.queue_max.ToMicroseconds()
        waits = await self._slots.give_slots(
            definition.sale.sale, sequences, interval_us(orders.rate), longest_us
        )
        return {sequence: wait_us / SECOND_US for sequence, wait_us in waits.items()}

    async def taken_on(self, definition: Definition, sequences: Sequence[int]) -> None:
        """Forget the slots of orders that will not come again. Raises what the store raises."""
        if sequences and paced(definition):
            await self._slots.drop_slots(definition.sale.sale, sequences)


def paced(definition: Definition) -> bool:
    """Whether the sale's orders need slots. Those of an archived one are only told that it is."""
    return definition.sale.spec.orders.rate > 0 and not definition.archived


def interval_us(rate: float) -> int:
    """Microseconds between two slots at so many orders a second, never so few that the rate is exceeded."""
    return math.ceil(min(SECOND_US / rate, LONGEST_INTERVAL_US))
