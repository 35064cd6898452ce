"""Counts what each buyer has open in this process, so that nobody fills it alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.kit.errors import Refusal
from services.kit.identity import Person


class StreamsPerBuyer:
    """The open streams of each buyer. It remembers a buyer only while one of their streams is open."""

    def __init__(self, most: int) -> None:
        """`most` streams of one buyer may be open at once."""
        self._most = most
        self._open: dict[Person, int] = {}

    def __len__(self) -> int:
        """How many buyers have a stream open."""
        return len(self._open)

    @contextmanager
    def one_more(self, buyer: Person) -> Iterator[None]:
        """A stream of the buyer for the block. Raises Refusal STREAM_LIMIT."""
        count = self._open.get(buyer, 0)
        if count >= self._most:
            raise Refusal("STREAM_LIMIT", limit=self._most)
        self._open[buyer] = count + 1
        try:
            yield
        finally:
            left = self._open[buyer] - 1
            if left:
                self._open[buyer] = left
            else:
                del self._open[buyer]
