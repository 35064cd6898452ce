"""What draws are made from: each sale's seed and salt, from the bucket `draws` that only the queue reads."""

import json
from dataclasses import dataclass, field

from nats.js import JetStreamContext

from services.kit.errors import Refusal
from services.kit.streams import kv_subject, last_message

BUCKET = "draws"
STREAM = "KV_draws"


@dataclass(frozen=True, slots=True)
class DrawSecrets:
    """What nobody may know before the draw: see services/queue/draw.py."""

    seed: bytes = field(repr=False)
    salt: bytes = field(repr=False)


class Seeds:
    """Reads each sale's secrets once: they never change."""

    def __init__(self, js: JetStreamContext) -> None:
        """Nothing is read before it is asked for."""
        self._js = js
        self._known: dict[str, DrawSecrets] = {}

    async def of(self, sale: str) -> DrawSecrets:
        """The secrets of a sale with a line. Raises Refusal SALE_NOT_LOADED where there are none (yet)."""
        secrets = self._known.get(sale)
        if secrets is None:
            message = await last_message(self._js, STREAM, kv_subject(BUCKET, sale), from_leader=True)
            if message is None:
                raise Refusal("SALE_NOT_LOADED", sale=sale)
            value = json.loads(message.data)
            secrets = DrawSecrets(bytes.fromhex(value["seed"]), bytes.fromhex(value["salt"]))
            self._known[sale] = secrets
        return secrets

    async def salt(self, sale: str) -> bytes:
        """The salt of a sale's tree."""
        return (await self.of(sale)).salt

    def forget(self, sale: str) -> None:
        """Lets go of an archived sale's."""
        self._known.pop(sale, None)
