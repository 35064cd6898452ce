"""Epochs of the sales' stores in the key-value bucket `epochs`: which filling of Redis is the valid one."""

import json
import time
from dataclasses import dataclass

from nats.js import JetStreamContext

from services.kit.messages import RawMsg, last_message
from services.kit.streams import WrongSequence, kv_subject, publish_fenced

BUCKET = "epochs"
STREAM = "KV_epochs"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One filling of one service's store for one sale."""

    number: int
    """From 1; grows with every rebuild."""
    loaded: bool
    """The store was filled; until then one replica is at it."""
    revision: int
    """The bucket's revision of this entry."""
    at_ms: int
    """When the entry was written, milliseconds since 1970."""
    dropped: bool = False
    """The store was emptied on purpose, or is about to be: whoever finds it empty leaves it so."""


class Epochs:
    """Compare-and-set on the bucket: of several replicas one gets the next epoch, and with it the rebuild."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def current(self, service: str, sale: str) -> Epoch | None:
        """The epoch that stands, asked from the bucket's leader; None before the first."""
        message = await last_message(self._js, STREAM, _subject(service, sale), from_leader=True)
        return _epoch(message) if message is not None else None

    async def first(self, service: str, sale: str) -> Epoch | None:
        """Epoch 1 of a sale that never had one, not loaded yet. None where it has one: read `current`."""
        return await self._write(service, sale, 1, loaded=False, revision=0)

    async def create(self, service: str, sale: str, after: Epoch | None = None) -> Epoch | None:
        """The epoch after `after` (the present one where none is given), not loaded yet.

        None where another replica was faster: read `current` again.
        """
        if after is None:
            after = await self.current(service, sale)
        number, revision = (after.number + 1, after.revision) if after else (1, 0)
        return await self._write(service, sale, number, loaded=False, revision=revision)

    async def renew(self, service: str, sale: str, epoch: Epoch) -> Epoch | None:
        """The same epoch, written again: whoever fills the store gets on. None as for `mark_loaded`."""
        return await self._write(service, sale, epoch.number, loaded=False, revision=epoch.revision)

    async def mark_loaded(self, service: str, sale: str, epoch: Epoch) -> Epoch | None:
        """The same epoch, loaded. None where another replica began a later one in the meantime."""
        return await self._write(service, sale, epoch.number, loaded=True, revision=epoch.revision)

    async def mark_dropped(
        self, service: str, sale: str, epoch: Epoch, *, dropped: bool = True
    ) -> Epoch | None:
        """The same epoch, emptied on purpose; or not, after all. None where another was faster."""
        return await self._write(
            service, sale, epoch.number, loaded=epoch.loaded, revision=epoch.revision, dropped=dropped
        )

    async def _write(
        self, service: str, sale: str, number: int, *, loaded: bool, revision: int, dropped: bool = False
    ) -> Epoch | None:
        value = json.dumps({"epoch": number, "loaded": loaded, "dropped": dropped}).encode()
        try:
            written = await publish_fenced(self._js, _subject(service, sale), value, revision)
        except WrongSequence:
            return None
        return Epoch(number, loaded, written, int(time.time() * 1000), dropped)


def _subject(service: str, sale: str) -> str:
    return kv_subject(BUCKET, f"{service}.{sale}")


def _epoch(message: RawMsg) -> Epoch:
    value = json.loads(message.data)
    dropped = bool(value.get("dropped"))
    return Epoch(value["epoch"], value["loaded"], message.seq, message.at_ms, dropped)
