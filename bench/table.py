"""Tables of measurements: what was measured, how it compares, and whether a goal is met."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Goal:
    """What a number shall be: at least `least`, or at most `most`."""

    number: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Whether it is; a number that is none meets nothing."""
        if self.least is not None:
            return self.number >= self.least
        return self.most is not None and self.number <= self.most

    def __str__(self) -> str:
        bound = f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"
        return f"{bound} {'met' if self.met else 'MISSED'}"


def table(title: str, *heads: str) -> Table:
    """A table with the first column for names and numbers in the others."""
    made = Table(title=title, title_justify="left")
    for place, head in enumerate(heads):
        made.add_column(head, justify="right" if place else "left", no_wrap=not place)
    return made


def told(console: Console, made: Table, goals: Sequence[Goal]) -> bool:
    """Prints the table; answers whether all goals are met."""
    console.print(made)
    return all(goal.met for goal in goals)
