"""Reads what inventory's and the queue's Redis hold of a sale, each at one moment."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
from catraca.events.v1 import events_pb2
from redis.asyncio import Redis

from local.audit.facts import InventoryStore, QueueStore, SectionCounts, StoredHold, StoredPromise
from services.inventory import events
from services.inventory.store import key_of
from services.queue.draw import BUYER_BYTES
from services.queue.events import fill_change
from services.queue.store import KEYS as QUEUE_KEYS
from services.queue.store import RECORD_BYTES, keys_of


async def inventory(
    redis: Redis, sale: str, sections: Sequence[str]
) -> tuple[InventoryStore | None, list[events_pb2.InventoryChange]]:
    """The ledger and the changes in its outbox; None where the sale is not loaded."""
    async with redis.pipeline(transaction=True) as reads:
        for name in ("meta", "sections", "buyers", "promises", "holds"):
            reads.hgetall(key_of(sale, name))
        reads.xrange(key_of(sale, "out"))
        for section in sections:
            reads.get(key_of(sale, f"units:{section}"))
        meta, counts, buyers, promises, holds, out, *units = await reads.execute()
    if not meta:
        return None, []
    numbers = {name.decode(): int(float(value)) for name, value in meta.items()}
    store = InventoryStore(
        epoch=numbers["epoch"],
        sequence=numbers["sequence"],
        watermark=numbers["watermark"],
        promised=numbers["promised"],
        turns=numbers["turns"],
        claims=numbers["claims"],
        sections={name.decode(): _section(packed) for name, packed in counts.items()},
        units={section: bitmap or b"" for section, bitmap in zip(sections, units, strict=True)},
        buyers={buyer.decode(): _buyer(packed) for buyer, packed in buyers.items()},
        promises={buyer.decode(): _promise(packed) for buyer, packed in promises.items()},
        holds={_hold_key(field): _hold(packed) for field, packed in holds.items()},
    )
    return store, [events.change_of(change) for change in _outbox(out)]


async def queue(redis: Redis, sale: str) -> tuple[QueueStore | None, list[events_pb2.QueueChange]]:
    """The line and the changes in its outbox; None where the sale is not loaded."""
    keys = dict(zip(QUEUE_KEYS, keys_of(sale), strict=True))
    async with redis.pipeline(transaction=True) as reads:
        reads.hgetall(keys["meta"])
        reads.hgetall(keys["index"])
        reads.get(keys["members"])
        reads.xrange(keys["out"])
        meta, index, members, out = await reads.execute()
    if not meta:
        return None, []
    store = QueueStore(
        epoch=int(meta[b"epoch"]),
        sequence=int(meta.get(b"sequence", 0)),
        count=int(meta.get(b"count", 0)),
        cohort=int(meta[b"cohort"]) if b"cohort" in meta else None,
        serving=int(meta.get(b"serving", 0)),
        draw_key=meta.get(b"draw_key", b""),
        index=_indexes(index, members or b"", int(meta.get(b"count", 0))),
        members=members or b"",
    )
    changes = []
    for change in _outbox(out):
        changes.append(events_pb2.QueueChange())
        fill_change(changes[-1], change)
    return store, changes


# See services/queue/lua/lib/buckets.lua.
ENTRY_BYTES, PER_BUCKET, FEWEST_BUCKETS = 6, 4, 256
LEFT = 2**31


def _indexes(buckets: Mapping[bytes, bytes], members: bytes, count: int) -> dict[bytes, int]:
    """Each buyer's index, negative and minus one of who left, as the script finds it.

    Of an entry that is not where its buyer is looked for, or whose index is another's, the buyer is unknown:
    all there is of their id, and zeros.
    """
    total = max(FEWEST_BUCKETS, count // PER_BUCKET)
    whole = 1 << total.bit_length() - 1
    found: dict[bytes, int] = {}
    for name, bucket in buckets.items():
        for at in range(0, len(bucket), ENTRY_BYTES):
            head, stored = bucket[at : at + 2], int.from_bytes(bucket[at + 2 : at + ENTRY_BYTES], "big")
            index = stored % LEFT
            at_member = index * RECORD_BYTES
            buyer = members[at_member : at_member + BUYER_BYTES]
            number = int.from_bytes(buyer[:3], "big") % (2 * whole)
            if number >= total:
                number -= whole
            if buyer[:2] != head or number != int.from_bytes(name, "big"):
                buyer = head.ljust(BUYER_BYTES, b"\0")
            found[buyer] = index if stored < LEFT else -index - 1
    return found


def _outbox(entries: Sequence[Any]) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    for _, fields in entries:
        changes += msgpack.unpackb(fields[b"e"], unicode_errors="surrogateescape", strict_map_key=False)
    return changes


def _values(packed: bytes) -> list[Any]:
    """A record: its values one after the other, see services/inventory/lua/lib/records.lua."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(packed)
    return list(unpacker)


def _section(packed: bytes) -> SectionCounts:
    counts = msgpack.unpackb(packed, strict_map_key=False)
    return SectionCounts(**{name: int(counts[name]) for name in SectionCounts.__slots__})


def _buyer(packed: bytes) -> tuple[int, int, int]:
    held, owned, claimed, *_ = _values(packed)
    return int(held), int(owned), int(claimed)


def _promise(packed: bytes) -> StoredPromise:
    state, place, _, left, *_ = _values(packed)
    return StoredPromise(state, int(place), int(left))


def _hold_key(field: bytes) -> tuple[str, str]:
    buyer, _, hold_id = field.decode().partition("/")
    return buyer, hold_id


def _hold(packed: bytes) -> StoredHold:
    state, _, _, units, order_id, *_ = _values(packed)
    return StoredHold(state, order_id or "", [(unit["section"], int(unit["unit"])) for unit in units])
