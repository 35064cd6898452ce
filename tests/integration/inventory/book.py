"""A sale's ledger on a real Redis, driven through the script alone, with a clock that tests move forward."""

import base64
import hashlib
from collections.abc import Iterable
from typing import Any

import msgpack
from redis.asyncio import Redis

from services.inventory.house import House
from services.inventory.store import KEYS, LUA, SECTION_KEYS, key_of
from services.kit.lua import Script
from services.kit.plans.layout import layouts
from tests.plans import hall, plan_of, seated_section, spec_of_seats

SCRIPT = Script.load(LUA, KEYS)
STATES = {"HELD": 1, "SOLD": 2}
Result = dict[str, Any]

OPENS_MS = 1_000_000
HOUR_MS = 3_600_000


def buyer(name: str) -> str:
    """An internal buyer id, or order id, from a short name."""
    return base64.b32encode(hashlib.blake2b(name.encode(), digest_size=16).digest())[:26].decode().lower()


def definition(**changes: Any) -> dict[str, Any]:
    """What the script sees of a sale with a line, open for an hour, with ten units in two sections."""
    return {
        "line": True,
        "lobby_opens_ms": -HOUR_MS,
        "opens_ms": 0,
        "closes_ms": HOUR_MS,
        "paused": False,
        "rehearsal": False,
        "concurrency": 0,
        "turn_ms": 300_000,
        "limit": 4,
        "holds_per_turn": 20,
        "hold_ms": 120_000,
        "queue_max_ms": 60_000,
        "sections": [section("floor", 6), section("balcony", 4)],
    } | changes


def section(name: str, capacity: int, **quotas: int) -> dict[str, Any]:
    """A section with the ticket types full and half."""
    types = [{"id": kind, "price": price, "quota": 0} for kind, price in (("full", 1000), ("half", 500))]
    for kind in types:
        kind["quota"] = quotas.get(str(kind["id"]), 0)
    return {"id": name, "capacity": capacity, "types": types}


def seated(name: str, *rows: str, **how: Any) -> dict[str, Any]:
    """A seated section, a row per text as in `tests.plans.hall`, with the ticket types full and half."""
    quotas, how = how.pop("quotas", {}), {"categories": ("Hall",), **how}
    made = seated_section(name, *how.pop("categories"), **how)
    layout = layouts(spec_of_seats(made), plan_of(hall(*rows)))[name]
    return section(name, len(layout.ids), **quotas) | {"layout": layout}


def _for_script(of: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in of.items() if name != "layout"}
    return told | ({"seats": of["layout"].for_script()} if "layout" in of else {})


def items(*wanted: tuple[str, int] | tuple[str, int, str]) -> list[dict[str, Any]]:
    """Items of (section, quantity) or (section, quantity, ticket type)."""
    return [
        {"section": each[0], "quantity": each[1], **({"ticket_type": each[2]} if len(each) > 2 else {})}
        for each in wanted
    ]


class Book:
    """One sale. Moments are milliseconds since it was defined; its clock stands still unless moved."""

    def __init__(self, redis: Redis, sale: str, content: dict[str, Any]) -> None:
        self.redis = redis
        self.sale = sale
        self.content = content
        self.revision = 0
        self.epoch = 1
        self.start = 0
        self.named: list[str] = []
        self.refused_orders = 100
        """Every section that was ever defined: all of them are among the keys."""

    @classmethod
    async def open(cls, redis: Redis, sale: str, content: dict[str, Any] | None = None) -> "Book":
        """Defines the sale. The clock is an hour ahead of the real one, so that only tests move it."""
        book = cls(redis, sale, content or definition())
        seconds, _ = await redis.time()
        book.start = seconds * 1000 + HOUR_MS
        await book.define(book.content, create=True)
        await book.at(0)
        return book

    @property
    def keys(self) -> list[str]:
        keys = [key_of(self.sale, name) for name in KEYS]
        for each in self.named:
            keys += [key_of(self.sale, f"{kind}:{each}") for kind in SECTION_KEYS]
        return keys

    async def define(self, content: dict[str, Any], *, create: bool = False) -> Result:
        """A further revision; its moments are relative to the sale's start."""
        command = self._define(content, self.revision + 1)
        before, self.content = self.content, content
        self.named += [each["id"] for each in content["sections"] if each["id"] not in self.named]
        (result,) = await self.some([command], create=create)
        if result["word"] == "DEFINED":
            self.revision += 1
        else:
            self.content = before
        return result

    def _define(self, content: dict[str, Any], revision: int) -> dict[str, Any]:
        moments = ("lobby_opens_ms", "opens_ms", "closes_ms", "release_ms")
        absolute = content | {name: self.start + content[name] for name in moments if name in content}
        absolute["sections"] = [_for_script(each) for each in content["sections"]]
        told = {
            id: {"layout": each.packed, "runs": each.runs}
            for id, each in self.house_of(content).layouts.items()
        }
        return {"op": "define", "revision": revision, "def": absolute, "layouts": told}

    @staticmethod
    def house_of(content: dict[str, Any]) -> House:
        """The seats of a definition."""
        return House({each["id"]: each["layout"] for each in content["sections"] if "layout" in each})

    async def at(self, moment_ms: int) -> None:
        """Moves the clock to a moment: the script goes by the last time it has seen, if that is later."""
        await self.redis.hset(key_of(self.sale, "meta"), "now", str(self.start + moment_ms))

    async def some(
        self, commands: list[dict[str, Any]], *, budget: int = 800, create: bool = False, **more: Any
    ) -> list[Result]:
        """One run of the script, which may answer fewer commands than it was given."""
        envelope = {"epoch": self.epoch, "sections": self.named, "budget": budget, "create": create}
        envelope |= {"refused_orders": self.refused_orders, **more}
        return await SCRIPT.run(self.redis, self.keys, envelope, commands)

    async def refill(self, *, watermark: int = 0, **filled: list[dict[str, Any]]) -> Result:
        """Empties the store, fills it under the next epoch with just this, and answers the last result."""
        nothing = {name: [] for name in ("sections", "blocks", "promises", "holds", "claims")}
        last = {"sequence": 100, "watermark": watermark, "at_ms": self.start, "stamp": 1}
        return await self.refill_with([{"op": "fill", "number": 1, **nothing, **filled, "last": last}])

    async def refill_with(self, parts: Iterable[dict[str, Any]], *, runs: int = 1) -> Result:
        """The same with these parts, a run each; `runs` of each where answers are lost."""
        self.epoch += 1
        for _ in range(runs):
            await self.some([self._define(self.content, self.revision)], filling="begin")
        await self.at(0)
        for part in parts:
            for _ in range(runs):
                (result,) = await self.some([part], filling="go on")
        return result

    async def run(self, *commands: dict[str, Any], budget: int = 800) -> list[Result]:
        """Runs until every command is answered."""
        results: list[Result] = []
        while len(results) < len(commands):
            results += await self.some(list(commands[len(results) :]), budget=budget)
        return results

    async def do(self, op: str, **fields: Any) -> Result:
        """One command's result."""
        (result,) = await self.run({"op": op, **{k: v for k, v in fields.items() if v is not None}})
        return result

    # ---- commands by short names ----

    async def call(self, *names: str, want: int | None = None, start: int | None = None) -> Result:
        """Calls buyers at the places that follow the watermark."""
        first = (await self.ledger())["watermark"] if start is None else start
        callees: list[dict[str, Any]] = [
            {"buyer": buyer(name), "place": first + offset, "joined_at_ms": 1}
            for offset, name in enumerate(names)
        ]
        for callee in callees:
            if want is not None:
                callee["want"] = want
        return await self.do("call", **{"from": first, "to": first + len(names), "callees": callees})

    async def hold(
        self, name: str, hold_id: str, *wanted: Any, place: int | None = None, order: str | None = None
    ) -> Result:
        """A hold from the promise of a place, or from an order's claim."""
        order_id = buyer(order) if order else None
        return await self.do(
            "hold",
            buyer=buyer(name),
            hold_id=hold_id,
            items=items(*wanted) if wanted else None,
            place=place,
            order_id=order_id,
        )

    async def claim(
        self, name: str, order: str, *wanted: Any, place: int | None = None, hold_id: str | None = None
    ) -> Result:
        """A claim for an order, of items or of a hold."""
        return await self.do(
            "claim",
            buyer=buyer(name),
            order_id=buyer(order),
            items=items(*wanted) if wanted else None,
            place=place,
            hold_id=hold_id,
        )

    async def of_order(self, op: str, name: str, hold_id: str, order: str | None, **more: Any) -> Result:
        """PIN, RELEASE, COMMIT or RETURN."""
        order_id = buyer(order) if order else None
        return await self.do(op, buyer=buyer(name), hold_id=hold_id, order_id=order_id, **more)

    async def look(self, name: str, place: int) -> Result:
        """A buyer's promise."""
        return await self.do("look", buyer=buyer(name), place=place)

    async def ledger(self) -> dict[str, Any]:
        """The ledger's numbers."""
        ledger: dict[str, Any] = (await self.do("ledger"))["ledger"]
        return ledger

    async def counts(self) -> dict[str, int]:
        """The sums of all sections."""
        counts: dict[str, int] = (await self.ledger())["counts"]
        return counts

    async def sections(self) -> dict[str, dict[str, Any]]:
        """Each section's counts."""
        return {each["section"]: each for each in (await self.do("ledger"))["sections"]}

    async def summary(self, name: str) -> bytes:
        """A seated section's free runs, a byte for each block."""
        return bytes(await self.redis.get(key_of(self.sale, f"runs:{name}")))

    def unit(self, section: str, seat: str) -> int:
        """The unit of a seat by its name."""
        layout = next(each["layout"] for each in self.content["sections"] if each["id"] == section)
        return int(layout.units[seat])

    def seats(self, result: Result) -> list[str]:
        """The names of the seats that a result's hold or block has."""
        laid = {each["id"]: each.get("layout") for each in self.content["sections"]}
        of = result.get("hold") or result["block"]
        return [laid[unit["section"]].ids[unit["unit"]] for unit in of["units"]]

    async def sit(
        self,
        name: str,
        hold_id: str,
        section: str,
        wanted: int | str,
        *,
        place: int | None = None,
        **more: Any,
    ) -> Result:
        """A hold of so many best seats, or of seats by name: `A1 A2`."""
        return await self.do(
            "hold",
            buyer=buyer(name),
            hold_id=hold_id,
            items=[self.seat_item(section, wanted, **more)],
            place=place,
        )

    def seat_item(self, section: str, wanted: int | str, **more: Any) -> dict[str, Any]:
        """An item of so many best seats, or of seats by name."""
        if isinstance(wanted, int):
            return {"section": section, "quantity": wanted} | more
        found = [self.unit(section, seat) for seat in wanted.split()]
        return {"section": section, "quantity": len(found), "units": found} | more

    async def outbox(self) -> list[dict[str, Any]]:
        """Every change that was made, in order."""
        entries = await self.redis.xrange(key_of(self.sale, "out"))
        found: list[dict[str, Any]] = []
        for entry_id, fields in entries:
            changes = msgpack.unpackb(fields[b"e"])
            assert int(fields[b"f"]) == changes[0]["sequence"]
            assert entry_id == b"%d-0" % changes[-1]["sequence"]
            found += changes
        return found

    async def acts(self) -> list[str]:
        """The acts of all changes after the definition."""
        return [change["act"] for change in await self.outbox()][1:]

    async def unit_states(self, name: str) -> list[int]:
        """The state of each unit of a section, by its map."""
        capacity = next(each["capacity"] for each in self.content["sections"] if each["id"] == name)
        packed = await self.redis.get(key_of(self.sale, f"units:{name}")) or b""
        bits = packed.ljust((capacity + 3) // 4, b"\0")
        return [bits[unit // 4] >> (6 - 2 * (unit % 4)) & 3 for unit in range(capacity)]
