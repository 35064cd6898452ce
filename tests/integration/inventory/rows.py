"""Rows of the table that test_words.py runs: one for every word of every command, and often more."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.inventory.book import Book, Result

Row = Callable[[Book], Awaitable[Result]]

ROWS: list[Any] = []
MINUTE_MS = 60_000


def row(op: str, word: str, /, **changes: Any) -> Callable[[Row], Row]:
    """What the decorated function does to a book, of a sale with these changes, ends with this word."""

    def add(act: Row) -> Row:
        ROWS.append(pytest.param(op, word, changes, act, id=f"{op}-{word}-{act.__name__}"))
        return act

    return add


async def called(book: Book) -> None:
    """Ana and Bia have four units promised each, at places 0 and 1; Carla has two, at place 2."""
    await book.call("ana", "bia", "carla")
