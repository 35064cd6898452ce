"""Follows the orders' stream and hands every new state to the streams of its buyer."""

from typing import Protocol

from services.kit.logs import get_logger
from services.notifier.rules import State
from services.notifier.streams import Streams

log = get_logger(__name__)


class News(Protocol):
    """What is followed."""

    async def next_states(self) -> list[State]:
        """The next states, at least one message's."""


async def follow(news: News, streams: Streams) -> None:
    """Run for ever. `news` is open already: nobody is served before the server confirmed the consumer."""
    while True:
        streams.tell(await news.next_states())
