"""What the inventory's page of metrics shows of every sale's ledger, read when it is asked for."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from services.kit import metrics

COMMANDS = metrics.counter(
    "catraca_ledger_commands_total",
    "Commands of the promise ledger, by the word each was answered with.",
    "command",
    "word",
)
UNITS = metrics.gauge(
    "catraca_units", "A sale's units by state; together they are its capacity.", "sale", "state"
)
LEDGER = (
    metrics.gauge("catraca_promised_units", "Units promised to buyers whose turn runs.", "sale"),
    metrics.gauge("catraca_unpromised_units", "Units that may still be promised.", "sale"),
    metrics.gauge("catraca_turns_running", "Buyers whose turn runs.", "sale"),
    metrics.gauge("catraca_claims_open", "Orders whose claim is open.", "sale"),
)
RELOADS = metrics.counter(
    "catraca_store_reloads_total",
    "Times a sale's store was found empty or under another epoch and taken in anew.",
)
REBUILT_CHANGES = metrics.counter(
    "catraca_store_rebuilt_changes_total",
    "Changes that led from what was published to what holds when a store was filled again, by their act.",
    "act",
)
REPAIRS = metrics.counter(
    "catraca_ledger_repairs_total",
    "Holds that the reconciler led to what checkout's orders say, by what was done and its outcome.",
    "act",
    "word",
)
STATES = ("free", "held", "sold", "blocked")

Numbers = Mapping[str, Any]
"""What the command `ledger` answers."""


def count_commands(commands: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> None:
    """Count a batch's commands by their words."""
    pairs = zip((command["op"] for command in commands), (result["word"] for result in results), strict=True)
    for (command, word), times in Counter(pairs).items():
        COMMANDS.labels(command, word).inc(times)


class LedgerReading:
    """Reads every sale's numbers; a sale that does not answer is left out of that page."""

    def __init__(
        self,
        read: Callable[[str], Any],
        sales: Callable[[], Collection[str]],
        published: Callable[[str], int | None],
    ) -> None:
        """`published` is the last change that this replica knows JetStream to have of a sale."""
        self._read = read
        self._sales = sales
        self._published = published
        self._units = metrics.Shown(UNITS)
        self._ledger = tuple(metrics.Shown(family) for family in LEDGER)
        self._unpublished = metrics.Shown(metrics.RELAY_UNPUBLISHED)

    async def __call__(self) -> None:
        """Read and show."""
        sales = metrics.bounded(self._sales())
        read = await asyncio.gather(*(self._read(sale) for sale in sales), return_exceptions=True)
        found: dict[str, Numbers] = {
            sale: each["ledger"]
            for sale, each in zip(sales, read, strict=True)
            if not isinstance(each, BaseException)
        }
        self._units.show(
            {(sale, state): of["counts"][state] for sale, of in found.items() for state in STATES}
        )
        values = {sale: _values(of) for sale, of in found.items()}
        for place, family in enumerate(self._ledger):
            family.show({(sale,): of_sale[place] for sale, of_sale in values.items()})
        unpublished: dict[tuple[str, ...], float] = {}
        for sale, of in found.items():
            published = self._published(sale)
            if published is not None:
                unpublished["INVENTORY", sale] = max(0, of["sequence"] - published)
        self._unpublished.show(unpublished)


def _values(of: Numbers) -> tuple[float, ...]:
    """In the order of LEDGER."""
    return of["counts"]["promised"], of["unpromised"], of["turns"], of["claims"]
