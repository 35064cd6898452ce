"""Takes every sale's definition into the store as soon as it stands, and again until it is in."""

import asyncio
from collections.abc import Callable

from services.inventory.store import Store
from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.logs import get_logger

log = get_logger(__name__)

RETRY_S = 1.0
# Trying these again cannot help; a later definition may.
NEVER = frozenset({"DEFINITION_INVALID", "DEFINITION_FIXED"})


class Loader:
    """Give `put` to Definitions.on_change. `on_ready` and `on_archived` are told of a sale by its id."""

    def __init__(
        self, store: Store, on_ready: Callable[[str], None], on_archived: Callable[[str], None]
    ) -> None:
        self._store = store
        self._on_ready = on_ready
        self._on_archived = on_archived
        self._waiting: dict[str, Definition] = {}
        self._poked = asyncio.Event()

    def put(self, definition: Definition) -> None:
        """Take this definition in next."""
        self._waiting[definition.sale.sale] = definition
        self._poked.set()

    async def run(self) -> None:
        """Load until cancelled."""
        while True:
            self._poked.clear()
            await asyncio.gather(*(self._try(definition) for definition in list(self._waiting.values())))
            if self._waiting and not self._poked.is_set():
                await asyncio.sleep(RETRY_S)
            else:
                await self._poked.wait()

    async def _try(self, definition: Definition) -> None:
        sale = definition.sale.sale
        if definition.archived:
            self._store.forget(sale)
            self._on_archived(sale)
        else:
            try:
                await self._store.load(definition)
            except Refusal as refusal:
                log.error("sale_refused", sale=sale, word=refusal.word, detail=refusal.metadata)
                if refusal.word in NEVER:
                    self._done(definition)
                return
            except Exception:
                log.warning("sale_waits", sale=sale, exc_info=True)
                return
            self._on_ready(sale)
        self._done(definition)

    def _done(self, definition: Definition) -> None:
        sale = definition.sale.sale
        if self._waiting.get(sale) is definition:
            del self._waiting[sale]
