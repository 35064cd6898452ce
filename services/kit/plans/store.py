"""The object store that plans are kept in, under their digests; what is kept never changes."""

import asyncio
import base64
import json

from nats.js import JetStreamContext
from nats.js.api import ObjectMeta

from services.kit.errors import Refusal
from services.kit.plans.compiled import DIGEST, MAX_PACKED_BYTES, Plan, unpacked
from services.kit.streams import last_message, read_all

BUCKET = "plans"
STREAM = f"OBJ_{BUCKET}"
# Plans that a process keeps beside those of running sales: a few houses are sold over and over.
KEPT = 8


class PlanStore:
    """Reads and writes plans; a plan that was read is kept, for it cannot change."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._kept: dict[str, Plan] = {}

    async def put(self, plan: Plan) -> bool:
        """Stores a plan. False where it was stored before."""
        if await self.find(plan.digest) is not None:
            return False
        bucket = await self._js.object_store(BUCKET)
        packed = await asyncio.to_thread(plan.packed)
        await bucket.put(plan.digest, packed, meta=ObjectMeta(name=plan.digest, description=plan.name))
        return True

    async def get(self, digest: str) -> Plan:
        """A plan by its digest. Raises Refusal PLAN_NOT_FOUND."""
        plan = await self.find(digest)
        if plan is None:
            raise Refusal("PLAN_NOT_FOUND", digest=digest[:64])
        return plan

    async def find(self, digest: str) -> Plan | None:
        """A plan by its digest, or None. Raises PlanUnreadable where what is stored is not that plan."""
        if digest in self._kept:
            return self._kept[digest]
        if DIGEST.fullmatch(digest) is None:
            # Nothing else is a name here, and as a subject it could ask for more than one.
            return None
        packed = await self._read(digest)
        if packed is None:
            return None
        plan = await asyncio.to_thread(unpacked, packed, digest)
        while len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[digest] = plan
        return plan

    async def _read(self, digest: str) -> bytes | None:
        """An object's chunks, by the messages that the object store is made of."""
        name = base64.urlsafe_b64encode(digest.encode()).decode()
        meta = await last_message(self._js, STREAM, f"$O.{BUCKET}.M.{name}", from_leader=True)
        if meta is None:
            return None
        info = json.loads(meta.data)
        if info.get("deleted") or info["size"] > MAX_PACKED_BYTES:
            return None
        chunks = [
            message.data async for message in read_all(self._js, STREAM, f"$O.{BUCKET}.C.{info['nuid']}")
        ]
        return b"".join(chunks)
