"""The port to the key-value buckets: definitions of sales, and what their draws are made from."""

import contextlib
import json
import secrets

from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, Sale
from nats.js import JetStreamContext

from services.kit.definitions import BUCKET as SALES
from services.kit.errors import Refusal
from services.kit.streams import WrongSequence, kv_subject, publish_fenced
from services.queue.draw import commitment
from services.queue.seeds import BUCKET, Seeds

SECRET_BYTES = 32


class Conflict(Exception):
    """The definition was changed by someone else in the meantime; nothing was stored."""


class SaleStore:
    """Writes definitions; `services.kit.definitions` reads them."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js

    async def write(self, sale: Sale, revision: int) -> int:
        """Store a definition made from this revision (0: none); answers its own. Raises Conflict."""
        stored = Sale()
        stored.CopyFrom(sale)
        stored.ClearField("revision")
        stored.ClearField("counts")
        # Every other phase follows from the clock.
        if stored.phase != SALE_PHASE_ARCHIVED:
            stored.ClearField("phase")
        try:
            return await publish_fenced(
                self._js, kv_subject(SALES, sale.sale), stored.SerializeToString(), revision
            )
        except WrongSequence as refusal:
            raise Conflict from refusal


class DrawStore:
    """Makes the secrets of the draws, once per sale; `services.queue.seeds` reads them."""

    def __init__(self, js: JetStreamContext, seeds: Seeds) -> None:
        """Nothing is read before it is asked for."""
        self._js = js
        self._seeds = seeds

    async def commitment(self, sale: str) -> str:
        """What is published of the sale's seed, hexadecimal; whoever asks first makes the seed."""
        try:
            made = await self._seeds.of(sale)
        except Refusal as refusal:
            if refusal.word != "SALE_NOT_LOADED":
                raise
            value = {name: secrets.token_hex(SECRET_BYTES) for name in ("seed", "salt")}
            # Somebody may have been faster: theirs counts.
            with contextlib.suppress(WrongSequence):
                await publish_fenced(self._js, kv_subject(BUCKET, sale), json.dumps(value).encode(), 0)
            made = await self._seeds.of(sale)
        return commitment(made.seed)
