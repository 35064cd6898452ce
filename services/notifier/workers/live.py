"""Follows the orders' stream and hands every new state to the streams of its buyer."""

from services.kit.logs import get_logger
from services.notifier.store import LiveNews
from services.notifier.streams import Streams

log = get_logger(__name__)


async def follow(news: LiveNews, streams: Streams) -> None:
    """Run for ever. `news` is open already: nobody is served before the server confirmed the consumer."""
    while True:
        streams.tell(await news.next_states())
