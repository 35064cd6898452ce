"""How a rush goes, while it goes: two bars in a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

LINE_EVERY_S = 5.0


class Progress:
    """Shows what the crowd tells about itself."""

    def __init__(self, console: Console, buyers: int, tickets: int) -> None:
        self._console = console
        self._last_line = 0.0
        self._bars = Bars(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._joined = self._bars.add_task("joined", total=buyers, note="")
        self._sold = self._bars.add_task("sold", total=tickets, note="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def show(self, told: dict[str, Any]) -> None:
        """Show one line of the crowd's progress."""
        if self._console.is_terminal:
            self._bars.update(self._joined, completed=told["joined"], note=_countdown(told))
            self._bars.update(self._sold, completed=told["confirmed"], note=_note(told))
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(
                f"{told['phase'].lower()}{_countdown(told)}: joined {told['joined']}, "
                f"sold {told['confirmed']}, {_note(told)}",
                highlight=False,
            )


def _countdown(told: dict[str, Any]) -> str:
    return f" opens in {told['opens_in_s']:.0f} s" if told["opens_in_s"] > 0 else ""


def _note(told: dict[str, Any]) -> str:
    return f"serving {told['serving']}, open orders {told['open_orders']}"
