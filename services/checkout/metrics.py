"""What checkout counts and measures, and what its page of metrics reads from the database."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from services.checkout.records import Change, Order
from services.checkout.states import OrderState
from services.kit import metrics

# Counting reads every order's index entry once: pages that come close together share one count.
COUNT_AGAIN_S = 10.0
AGE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

ORDERS = metrics.gauge("catraca_orders", "Orders in the database by state.", "sale", "state")
OUTBOX = metrics.gauge("catraca_outbox_unpublished_states", "States of orders that wait to be published.")
TRANSITIONS = metrics.counter(
    "catraca_order_transitions_total",
    "Changes of orders' states, with an end's reason.",
    "state",
    "reason",
)
AGE = metrics.histogram(
    "catraca_order_age_seconds",
    "Time from an order's acceptance until it reached a state.",
    "state",
    buckets=AGE_BUCKETS_S,
)
STEP = metrics.histogram(
    "catraca_saga_step_seconds",
    "Time a step of an order took; it moved the order, waits for somebody, was stale, or failed.",
    "step",
    "outcome",
)
IN_FLIGHT = metrics.gauge("catraca_saga_orders_in_flight", "Orders that this process is leading on.")
RESUMED = metrics.counter(
    "catraca_orders_resumed_total", "Orders that the sweeper took up: a deadline passed, or they were left."
)
PROVIDER = metrics.histogram(
    "catraca_provider_call_seconds", "Time a payment provider took to answer.", "provider", "call", "outcome"
)
PAUSED = metrics.gauge(
    "catraca_provider_paused_seconds", "For how long a provider that fails is still left alone.", "provider"
)
WEBHOOKS = metrics.counter(
    "catraca_webhooks_total", "Calls of providers: taken, or refused for a reason.", "provider", "outcome"
)

Overview = tuple[Mapping[tuple[str, OrderState], int], int]
"""Orders by (sale, state), and how many states wait to be published."""


def count_moves(changes: Iterable[Change]) -> None:
    """Count changes that were written, and how long the orders took to get there."""
    for change in changes:
        after = change.after
        if after.state is not change.before.state:
            TRANSITIONS.labels(after.state, after.reason).inc()
            AGE.labels(after.state).observe(max(0, after.updated_at_ms - after.accepted_at_ms) / 1000)


def count_new(orders: Iterable[Order]) -> None:
    """Count orders that were written down."""
    for order in orders:
        TRANSITIONS.labels(order.state, "").inc()


class OrdersReading:
    """Counts the orders of the sales that are not archived, and the outbox."""

    def __init__(
        self,
        overview: Callable[[list[str]], Awaitable[Overview]],
        sales: Callable[[], Iterable[str]],
        paused: Callable[[], Iterable[tuple[str, float]]],
    ) -> None:
        """`paused` answers every provider with the seconds for which it is left alone."""
        self._overview = overview
        self._sales = sales
        self._paused = paused
        self._orders = metrics.Shown(ORDERS)
        self._counted_at = -COUNT_AGAIN_S

    async def __call__(self) -> None:
        """Read and show."""
        for provider, seconds in self._paused():
            PAUSED.labels(provider).set(seconds)
        if time.monotonic() < self._counted_at + COUNT_AGAIN_S:
            return
        sales = metrics.bounded(self._sales())
        counts, unpublished = await self._overview(sales)
        self._counted_at = time.monotonic()
        OUTBOX.set(unpublished)
        # Also the states without an order: a number that is not there is not a zero to an alert.
        self._orders.show(
            {(sale, str(state)): counts.get((sale, state), 0) for sale in sales for state in OrderState}
        )
