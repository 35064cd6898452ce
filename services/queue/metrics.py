"""What the queue's page of metrics shows of every line, read from the store when it is asked for."""

import asyncio
from collections.abc import Callable, Sequence

from services.kit import metrics
from services.queue.rules import calling_rate
from services.queue.states import Phase, Standing
from services.queue.store import LineStore

LINE = (
    metrics.gauge("catraca_line_joined_buyers", "Places that were ever given in a sale's line.", "sale"),
    metrics.gauge("catraca_line_serving_place", "Every place below it was called.", "sale"),
    metrics.gauge("catraca_line_waiting_buyers", "Places that were not called yet.", "sale"),
    metrics.gauge("catraca_line_called_buyers_per_second", "Places called a second, lately.", "sale"),
)
PHASE = metrics.gauge(
    "catraca_line_phase", "1 for the phase that a sale is in, 0 for others.", "sale", "phase"
)
LEADER = metrics.gauge("catraca_line_leader", "1 where this replica calls the sale's line.", "sale")

TURN_NEWS = metrics.counter(
    "catraca_line_turn_news_total",
    "Turn news for those who asked; `known` was published before, by whoever led then.",
    "word",
    "outcome",
)


class LineReading:
    """Reads every sale's standing; a sale that does not answer is left out of that page."""

    def __init__(
        self,
        store: LineStore,
        sales: Callable[[], Sequence[str]],
        published: Callable[[str], int | None],
        leads: Callable[[str], bool],
    ) -> None:
        """`published` is the last change that this replica knows JetStream to have of a sale."""
        self._store = store
        self._sales = sales
        self._published = published
        self._leads = leads
        self._line = tuple(metrics.Shown(family) for family in LINE)
        self._phase = metrics.Shown(PHASE)
        self._leader = metrics.Shown(LEADER)
        self._unpublished = metrics.Shown(metrics.RELAY_UNPUBLISHED)

    async def __call__(self) -> None:
        """Read and show."""
        sales = metrics.bounded(self._sales())
        read = await asyncio.gather(*(self._store.standing(sale) for sale in sales), return_exceptions=True)
        found = {sale: each for sale, each in zip(sales, read, strict=True) if isinstance(each, Standing)}
        values = {sale: _values(standing) for sale, standing in found.items()}
        for place, family in enumerate(self._line):
            family.show({(sale,): of_sale[place] for sale, of_sale in values.items()})
        self._phase.show(
            {(sale, str(phase)): float(at.phase is phase) for sale, at in found.items() for phase in Phase}
        )
        self._leader.show({(sale,): float(self._leads(sale)) for sale in sales})
        unpublished: dict[tuple[str, ...], float] = {}
        for sale, standing in found.items():
            published = self._published(sale)
            if published is not None:
                unpublished["QUEUE", sale] = max(0, standing.sequence - published)
        self._unpublished.show(unpublished)


def _values(standing: Standing) -> tuple[float, ...]:
    """In the order of LINE."""
    waiting = standing.joined - standing.serving
    return standing.joined, standing.serving, waiting, calling_rate(standing)
