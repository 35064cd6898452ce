"""Every word of every command: what leads to it, and what it says. The files named rows_of have the rows."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.inventory.states import WORDS
from tests.integration.inventory import (
    rows_of_calls,
    rows_of_claims,
    rows_of_holds,
    rows_of_orders,
    rows_of_readings,
    rows_of_recovery,
    rows_of_seats,
)
from tests.integration.inventory.book import Book
from tests.integration.inventory.rows import ROWS, Row

assert all(
    (
        rows_of_calls,
        rows_of_claims,
        rows_of_holds,
        rows_of_orders,
        rows_of_readings,
        rows_of_recovery,
        rows_of_seats,
    )
)


@pytest.mark.parametrize(("op", "word", "changes", "act"), ROWS)
async def test_word(
    op: str, word: str, changes: dict[str, Any], act: Row, book_of: Callable[..., Awaitable[Book]]
) -> None:
    result = await act(await book_of(**changes))

    assert result["word"] == word


def test_every_word_has_a_row() -> None:
    tried = {(each.values[0], each.values[1]) for each in ROWS}

    assert tried == {(op, word) for op, words in WORDS.items() for word in words}
