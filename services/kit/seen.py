"""What a process has seen of each sale's store: one that lacks it has lost it, and is not to be believed."""

from collections.abc import Awaitable, Callable

from services.kit import metrics
from services.kit.logs import get_logger

log = get_logger(__name__)

NOTHING = (0, 0)


class Seen:
    """The last change seen of each sale, under which epoch, and the sales whose store was met without it.

    At first, and after a lost connection, when another server may answer, what JetStream has counts as seen.
    """

    def __init__(self, store: str, last_published: Callable[[str], Awaitable[int]]) -> None:
        """`store` names it in metrics; `last_published` answers the last change that JetStream has."""
        self._store = store
        self._last_published = last_published
        # Under which epoch each sale was seen last, and its last change: it says nothing of another epoch.
        self._known: dict[str, tuple[int, int]] = {}
        # How often a connection was lost, in all and as it was when each sale was last compared with
        # JetStream.
        self._losses = 0
        self._compared: dict[str, int] = {}
        # Sales whose store lost changes, until it is filled again: what was known of them.
        self._lost: dict[str, tuple[int, int]] = {}
        self._on_lost: Callable[[str, int], None] = lambda _, __: None

    def on_lost(self, callback: Callable[[str, int], None]) -> None:
        """Call with a sale's id each time that its store is met without what was seen of it.

        And with the epoch under which it is wrong, 0 where it may be whole by now; see Rebuilding.recover.
        """
        self._on_lost = callback

    def connection_lost(self) -> None:
        """Whoever answers from now on may be another server, which lacks what the last one had."""
        self._losses += 1

    def last(self, sale: str) -> int:
        """The last change of a sale that this process has seen; 0 for none."""
        return self._known.get(sale, NOTHING)[1]

    async def least(self, sale: str, epoch: int, *, compare: bool = False) -> int:
        """The last change that the store must have under an epoch; `compare` asks JetStream in any case."""
        losses = self._losses
        if compare or self._compared.get(sale) != losses:
            self.saw(sale, epoch, await self._last_published(sale))
            self._compared[sale] = losses
        known_epoch, sequence = self._known.get(sale, NOTHING)
        return sequence if known_epoch == epoch else 0

    async def least_of_another(self, sale: str, epoch: int) -> int:
        """As `least`, for a store that may be lost or filled by another process; nothing is noted."""
        published = await self._last_published(sale)
        lost_epoch, sequence = self._lost.get(sale, NOTHING)
        return max(published, sequence) if lost_epoch == epoch else published

    def saw(self, sale: str, epoch: int, sequence: int) -> bool:
        """Notes a change that the store had under an epoch, and says whether it was news."""
        is_news = (epoch, sequence) > self._known.get(sale, NOTHING)
        if is_news:
            self._known[sale] = (epoch, sequence)
        return is_news

    def is_lost(self, sale: str) -> bool:
        """Whether its store was met without what was seen of it, and is not filled again yet."""
        return sale in self._lost

    def lost(self, sale: str, *, is_another: bool = False) -> None:
        """Notes that the sale's store does not hold what was seen of it, and tells who fills it again.

        `is_another` says that it is a copy which went on another way than what was published.
        """
        if sale not in self._lost:
            self._lost[sale] = self._known.get(sale, NOTHING)
            epoch, sequence = self._lost[sale]
            log.error("sale_lost", store=self._store, sale=sale, epoch=epoch, sequence=sequence)
            metrics.STORE_BROKEN.labels(self._store, sale).set(1)
        self._on_lost(sale, self._lost[sale][0] if is_another else 0)

    def recovered(self, sale: str) -> None:
        """The sale's store is whole again."""
        if self._lost.pop(sale, None) is not None:
            metrics.STORE_BROKEN.labels(self._store, sale).set(0)

    def forget(self, sale: str) -> None:
        """Lets go of an archived sale."""
        self.recovered(sale)
        metrics.STORE_BROKEN.remove(self._store, sale)
        self._known.pop(sale, None)
        self._compared.pop(sale, None)
