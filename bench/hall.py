"""One sale with one section on a Redis of its own: its ledger's script, run without a service before it."""

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis as Client

from local.servers.redis import Redis
from services.inventory.store import KEYS, LUA, SECTION_KEYS, key_of
from services.kit.lua import Script
from services.kit.plans.layout import Layout
from services.kit.redis import connect

HOUR_MS = 3_600_000
SECTION = "hall"
BATCH = 256
"""Commands of one run: what a replica gathers at most."""
BUDGET = 480
"""What one run may cost, as a replica has it unless it is told otherwise."""
SCRIPT = Script.load(LUA, KEYS)


@dataclass
class Hall:
    """A sale. `layout` is what its seats are; without one it is for standing."""

    client: Client
    sale: str
    capacity: int
    layout: Layout | None = None

    @property
    def keys(self) -> list[str]:
        """The keys of the sale, as its script names them."""
        return [key_of(self.sale, name) for name in (*KEYS, *(f"{name}:{SECTION}" for name in SECTION_KEYS))]

    async def run(self, *commands: dict[str, Any], create: bool = False) -> list[dict[str, Any]]:
        """Runs the commands as one batch, and answers their results."""
        envelope = {
            "epoch": 1,
            "sections": [SECTION],
            "budget": BUDGET,
            "refused_orders": 100,
            "seen": 0,
            "create": create,
        }
        return await SCRIPT.run(self.client, self.keys, envelope, list(commands))

    async def run_all(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same in as many runs as it takes: one ends where its budget is spent."""
        results: list[dict[str, Any]] = []
        while len(results) < len(commands):
            results += await self.run(*commands[len(results) :][:BATCH])
        return results

    async def open(self, *, line: bool = False, hold_ms: int = 12 * HOUR_MS) -> None:
        """Defines the sale; it is open from now on."""
        section: dict[str, Any] = {
            "id": SECTION,
            "capacity": self.capacity,
            "types": [{"id": "full", "price": 1, "quota": 0}],
        }
        told = {}
        if self.layout is not None:
            section["seats"] = self.layout.for_script()
            told = {SECTION: {"layout": self.layout.packed, "runs": self.layout.runs}}
        now_ms = int(time.time() * 1000)
        definition = {
            "line": line,
            "lobby_opens_ms": now_ms,
            "opens_ms": now_ms,
            "closes_ms": now_ms + 24 * HOUR_MS,
            "paused": False,
            "rehearsal": False,
            "concurrency": 0,
            "turn_ms": HOUR_MS,
            "limit": 100,
            "holds_per_turn": 1000,
            "hold_ms": hold_ms,
            "queue_max_ms": HOUR_MS,
            "sections": [section],
        }
        command = {"op": "define", "revision": 1, "def": definition, "layouts": told}
        (result,) = await self.run(command, create=True)
        if result["word"] != "DEFINED":
            raise AssertionError(f"the sale was answered with {result}")


def hold(buyer: str, hold_id: str, quantity: int = 1, **more: Any) -> dict[str, Any]:
    """HOLD of so many units; `more` is what its item has beside them."""
    item = {"section": SECTION, "quantity": quantity, **more}
    return {"op": "hold", "buyer": buyer, "hold_id": hold_id, "items": [item]}


async def script_us(client: Client) -> int:
    """Microseconds that this Redis has spent in scripts so far."""
    stats = await client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"usec": 0})["usec"])


@asynccontextmanager
async def redis_server() -> AsyncIterator[str]:
    """The URL of a Redis that nobody else uses."""
    with tempfile.TemporaryDirectory(prefix="catraca-bench-") as folder:
        server = Redis(Path(folder))
        server.launch()
        try:
            yield server.url
        finally:
            server.stop()


@asynccontextmanager
async def own_redis() -> AsyncIterator[Client]:
    """A client of such a Redis, which does not wait for its disk."""
    async with redis_server() as url:
        client = connect(url)
        try:
            await client.config_set("appendfsync", "no")
            yield client
        finally:
            await client.aclose()
