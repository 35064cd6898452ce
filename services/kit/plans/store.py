"""The object store that plans are kept in, under their digests; what is kept never changes."""

import asyncio
import base64
import hashlib
import json
import uuid

from nats.js import JetStreamContext
from nats.js.api import ObjectInfo, ObjectMetaOptions

from services.kit.errors import Refusal
from services.kit.messages import RawMsg, last_message
from services.kit.plans.compiled import DIGEST, MAX_PACKED_BYTES, Plan, unpacked
from services.kit.streams import WrongSequence, publish_fenced, read_all

BUCKET = "plans"
STREAM = f"OBJ_{BUCKET}"
# Plans that a process keeps beside those of running sales: a few houses are sold over and over.
KEPT = 8
CHUNK_BYTES = 128 * 1024


class PlanStore:
    """Reads and writes plans; a plan that was read is kept, for it cannot change."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._kept: dict[str, Plan] = {}

    async def put(self, plan: Plan) -> bool:
        """Stores a plan. False where it was stored before, or another was faster.

        The object's meta is written last, and once: the library's own `put` writes it again, and takes away
        what a reader may be reading, where two store the same plan at once.
        """
        before = await self._meta(plan.digest)
        if before is not None and not json.loads(before.data).get("deleted"):
            return False
        packed = await asyncio.to_thread(plan.packed)
        chunks = [packed[at : at + CHUNK_BYTES] for at in range(0, len(packed), CHUNK_BYTES)]
        info = ObjectInfo(
            name=plan.digest,
            bucket=BUCKET,
            description=plan.name,
            options=ObjectMetaOptions(max_chunk_size=CHUNK_BYTES),
            nuid=uuid.uuid4().hex,
            size=len(packed),
            chunks=len(chunks),
            digest=f"SHA-256={base64.urlsafe_b64encode(hashlib.sha256(packed).digest()).decode()}",
        )
        for chunk in chunks:
            await self._js.publish(_chunks(info.nuid), chunk)
        meta, seen = json.dumps(info.as_dict()).encode(), before.seq if before is not None else 0
        try:
            await publish_fenced(self._js, _meta(plan.digest), meta, seen)
        except WrongSequence:
            return False
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
        meta = await self._meta(digest)
        if meta is None:
            return None
        info = json.loads(meta.data)
        if info.get("deleted") or info["size"] > MAX_PACKED_BYTES:
            return None
        chunks = [message.data async for message in read_all(self._js, STREAM, _chunks(info["nuid"]))]
        return b"".join(chunks)

    async def _meta(self, digest: str) -> RawMsg | None:
        return await last_message(self._js, STREAM, _meta(digest), from_leader=True)


def _meta(digest: str) -> str:
    return f"$O.{BUCKET}.M.{base64.urlsafe_b64encode(digest.encode()).decode()}"


def _chunks(nuid: str) -> str:
    return f"$O.{BUCKET}.C.{nuid}"
