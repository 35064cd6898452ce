"""What all stores hold, as one value to compare: nothing in it moves unless a command was accepted.

Left out is what moves by itself: the stores' clocks, the leader's lease and fence, and outboxes, which are
trimmed with time (the sequence beside each says whether something was added), with the streams that relays
fill from them a moment later.
"""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg
import nats
from redis.asyncio import Redis

from local.discovery import RunningStack
from services.checkout.states import TERMINAL
from services.kit.streams import STREAMS

MOVING_FIELDS = frozenset({b"now", b"fence"})
MOVING_KEYS = frozenset({"lease", "out"})
RELAYED = frozenset({"QUEUE", "INVENTORY"})
TABLES = (
    "buyers.buyers",
    "orders.orders",
    "orders.tickets",
    "orders.outbox",
    "orders.paces",
    "orders.slots",
    "payments.payments",
    "payments.webhooks",
)
LASTING_STATES = frozenset({*TERMINAL, "AWAITING_PAYMENT"})
QUIET_S = 0.05
PATIENCE_S = 30.0

Digest = Mapping[str, Any]


class State:
    """Reads the stores of a running stack."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running

    async def __aenter__(self) -> Self:
        self._redis = Redis.from_url(self._running.redis_url)
        self._nats = await nats.connect(self._running.nats_url)
        self._postgres = await asyncpg.connect(self._running.postgres_url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()
        await self._nats.close()
        await self._postgres.close()

    async def digest(self) -> Digest:
        """Everything that a command may change."""
        return {**await self._keys(), **await self._streams(), **await self._tables(), **self._sessions()}

    async def settled(self) -> Digest:
        """The digest once everything that was accepted has come to rest."""
        before: Digest = {}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                after = await self.digest()
                if after == before and not await self._under_way():
                    return after
                before = after
                await asyncio.sleep(QUIET_S)

    async def _keys(self) -> dict[str, Any]:
        names = sorted([name async for name in self._redis.scan_iter(count=1000)])
        names = [name for name in names if name.rpartition(b":")[2].decode() not in MOVING_KEYS]
        async with self._redis.pipeline(transaction=False) as reads:
            for name in names:
                reads.type(name)
            kinds = await reads.execute()
            for name, kind in zip(names, kinds, strict=True):
                match kind:
                    case b"hash":
                        reads.hgetall(name)
                    case b"zset":
                        reads.zrange(name, 0, -1, withscores=True)
                    case b"list":
                        reads.lrange(name, 0, -1)
                    case b"none":
                        reads.exists(name)
                    case _:
                        reads.get(name)
            values = await reads.execute()
        return {f"redis {name.decode()}": _still(value) for name, value in zip(names, values, strict=True)}

    async def _streams(self) -> dict[str, Any]:
        js = self._nats.jetstream()
        names = [stream.name for stream in STREAMS if stream.name not in RELAYED]
        infos = await asyncio.gather(*(js.stream_info(name) for name in names))
        return {f"stream {info.config.name}": info.state.last_seq for info in infos}

    async def _tables(self) -> dict[str, Any]:
        found = {}
        for table in TABLES:
            query = f"select count(*), md5(string_agg(t::text, ';' order by t::text)) from {table} t"
            found[f"table {table}"] = tuple(await self._postgres.fetchrow(query))
        return found

    def _sessions(self) -> dict[str, Any]:
        file = Path(self._running.data) / "sandbox.sqlite"
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            rows = connection.execute("select * from sessions order by session_id").fetchall()
        finally:
            connection.close()
        return {"provider sessions": rows}

    async def _under_way(self) -> bool:
        """Whether an order or an event is still on its way to somewhere."""
        states = [row["state"] for row in await self._postgres.fetch("select state from orders.orders")]
        unpublished = await self._postgres.fetchval("select count(*) from orders.outbox where not published")
        owing = await self._postgres.fetchval("select count(*) from orders.orders where owes_units")
        taken_in = (await self._nats.jetstream().stream_info("INTAKE")).state.messages
        return bool(unpublished or owing or taken_in != len(states) or not LASTING_STATES.issuperset(states))


def _still(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if name not in MOVING_FIELDS}
    return value


def difference(before: Digest, after: Digest) -> Sequence[str]:
    """What changed, a line each."""
    return [
        f"{name}: {str(before.get(name))[:300]} → {str(after.get(name))[:300]}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
