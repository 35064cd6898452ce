"""The one port to the line's Redis: every transition is a command of one script, run under an epoch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from nats.js import JetStreamContext
from redis.asyncio import Redis

from services.kit.errors import Refusal, refuse_word
from services.kit.lua import NotLoaded, Script, raw
from services.kit.relay import BuildBatch, OutboxRelay
from services.queue.draw import BUYER_BYTES
from services.queue.states import Availability, DrawFacts, Entry, Joiner, Phase, Standing

KEYS = ("meta", "def", "index", "members", "out", "lease", "codes", "spent", "asked")
RECORD_BYTES = 22
NO_ID = bytes(16)

Command = Mapping[str, Any]
Result = dict[str, Any]


class EpochBook(Protocol):
    """Which filling of the store is the valid one, per sale."""

    async def epoch(self, sale: str, *, fresh: bool = False) -> int:
        """The sale's epoch; `fresh` asks for it again. Raises Refusal SALE_NOT_LOADED where there is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """Who stands at an index, and since when."""

    buyer: bytes
    joined_ms: int


@dataclass(frozen=True, slots=True)
class Callees:
    """Members at the indexes asked for, and the positions of those who are gone from them."""

    members: list[Member]
    gone: frozenset[int]


def load_script() -> Script:
    """The line's script, assembled from `lua/`."""
    return Script.load(Path(__file__).parent / "lua", KEYS)


def keys_of(sale: str) -> list[str]:
    """A sale's keys, in the order the script names them; they share one hash tag."""
    return [f"q:{{{sale}}}:{name}" for name in KEYS]


class LineStore:
    """The line of every sale, as Redis keeps it."""

    def __init__(
        self, redis: Redis, epochs: EpochBook, rejoin_pause_s: float = 0.0, challenge_s: float = 600.0
    ) -> None:
        """`redis` answers bytes. `rejoin_pause_s` is the least time between two joins of who left.

        `challenge_s` is how long a challenge can be solved, and so how long a used one is remembered.
        """
        self.rejoin_pause_s = rejoin_pause_s
        self._challenge_ms = round(challenge_s * 1000)
        self._redis = redis
        self._epochs = epochs
        self._script = load_script()

    async def run(self, sale: str, *commands: Command) -> list[Result]:
        """Runs commands in order as one script. Raises Refusal, also for the first that was refused."""
        try:
            results = await self._run(sale, await self._epochs.epoch(sale), commands)
        except NotLoaded:
            # The store may have been rebuilt under a later epoch than the one remembered here.
            results = await self._run(sale, await self._epochs.epoch(sale, fresh=True), commands)
        for result in results:
            refuse(sale, result)
        return results

    async def _run(self, sale: str, epoch: int, commands: Sequence[Command]) -> list[Result]:
        return await self._script.run(self._redis, keys_of(sale), {"epoch": epoch}, commands)

    async def create(self, sale: str, epoch: int, revision: int, definition: Mapping[str, object]) -> int:
        """As `define`, but fills an empty store under its first epoch; answers the revision that stands."""
        command = {"op": "define", "revision": revision, "definition": definition}
        envelope = {"epoch": epoch, "create": True}
        (result,) = await self._script.run(self._redis, keys_of(sale), envelope, [command])
        return int(result["revision"])

    async def define(self, sale: str, revision: int, definition: Mapping[str, object]) -> int:
        """Takes a definition of a higher revision; answers the revision that stands."""
        (result,) = await self.run(sale, {"op": "define", "revision": revision, "definition": definition})
        return int(result["revision"])

    async def join(self, sale: str, joiners: Sequence[Joiner]) -> tuple[list[Entry | str], Standing]:
        """Gives each a place, or says why not: JOIN_LIMIT, CHALLENGE_REQUIRED, ACCESS_CODE_INVALID.

        Raises NO_LINE, WRONG_PHASE, OVERLOADED.
        """
        command = {
            "op": "join",
            "buyers": b"".join(joiner.buyer for joiner in joiners),
            "pause_ms": round(self.rejoin_pause_s * 1000),
            "codes": _ids([joiner.code for joiner in joiners]),
            "challenges": _ids([joiner.challenge for joiner in joiners]),
            "spent_ms": self._challenge_ms,
        }
        asks = _asks(joiner.buyer for joiner in joiners if joiner.turn_news)
        joined, *_, seen = await self.run(sale, command, *asks, _STANDING)
        standing = standing_of(seen)
        entries = _entries(joined, standing.now_ms)
        words = dict.fromkeys(joined["unsolved"], "CHALLENGE_REQUIRED")
        words |= dict.fromkeys(joined["unopened"], "ACCESS_CODE_INVALID")
        return [entry or words.get(at, "JOIN_LIMIT") for at, entry in enumerate(entries)], standing

    async def put_codes(self, sale: str, codes: Sequence[bytes], uses: int) -> tuple[int, int, int]:
        """Lets each code be used so often in all; how many are new, how many changed, how many there are.

        Raises NO_LINE, WRONG_PHASE, OVERLOADED.
        """
        (result,) = await self.run(sale, {"op": "codes", "codes": b"".join(codes), "uses": uses})
        return int(result["added"]), int(result["changed"]), int(result["known"])

    async def renew(
        self, sale: str, joiners: Sequence[Joiner], over: Sequence[int]
    ) -> tuple[list[Entry | None], Standing]:
        """Gives buyers whose turn at the indexes `over` has ended a place at the end. Raises WRONG_PHASE."""
        buyers = b"".join(joiner.buyer for joiner in joiners)
        command = {"op": "renew", "buyers": buyers, "indexes": list(over)}
        asks = _asks(joiner.buyer for joiner in joiners if joiner.turn_news)
        renewed, *_, seen = await self.run(sale, command, *asks, _STANDING)
        standing = standing_of(seen)
        return _entries(renewed, standing.now_ms), standing

    async def leave(self, sale: str, buyers: Sequence[bytes]) -> tuple[list[Entry | None], Standing]:
        """Gives the buyers' places up; None for who has none. Raises NO_LINE."""
        return await self._look_up(sale, "leave", buyers)

    async def read(self, sale: str, buyers: Sequence[bytes]) -> tuple[list[Entry | None], Standing]:
        """The buyers' entries; None for who has none. Raises NO_LINE."""
        return await self._look_up(sale, "read", buyers)

    async def _look_up(
        self, sale: str, op: str, buyers: Sequence[bytes]
    ) -> tuple[list[Entry | None], Standing]:
        found, seen = await self.run(sale, {"op": op, "buyers": b"".join(buyers)}, _STANDING)
        entries = [
            None if index is False else _entry(index, record)
            for index, record in zip(found["indexes"], found["records"], strict=True)
        ]
        return entries, standing_of(seen)

    async def standing(self, sale: str) -> Standing:
        """The line's standing; freezes the cohort if that is due."""
        (seen,) = await self.run(sale, _STANDING)
        return standing_of(seen)

    async def lead(self, sale: str, token: str, ttl_ms: int) -> tuple[int | None, Standing]:
        """Takes or keeps the lease: the leader's fence, or None if another leads."""
        lease, seen = await self.run(sale, {"op": "lease", "token": token, "ttl_ms": ttl_ms}, _STANDING)
        return lease.get("fence"), standing_of(seen)

    async def resign(self, sale: str, token: str) -> None:
        """Gives the lease back, if it is this token's."""
        await self.run(sale, {"op": "resign", "token": token})

    async def callees(self, sale: str, indexes: Sequence[int]) -> Callees:
        """Who stands at these indexes; each is below the number who joined."""
        (result,) = await self.run(sale, {"op": "callees", "indexes": list(indexes)})
        return _callees(result)

    async def serve(self, sale: str, serving: int, indexes: Sequence[int]) -> Callees:
        """Moves `serving` forward and reads, in the same run, who is gone from the indexes just called."""
        _, result = await self.run(
            sale, {"op": "serve", "serving": serving}, {"op": "callees", "indexes": list(indexes)}
        )
        return _callees(result)

    async def tell(self, sale: str, availability: Availability, fence: int) -> bool:
        """Records what those who wait are told; False if a later leader has taken over."""
        (result,) = await self.run(sale, {"op": "tell", "availability": availability.value, "fence": fence})
        return bool(result["word"] == "TOLD")

    async def askers(self, sale: str, indexes: Sequence[int]) -> dict[int, bytes]:
        """Who of those at these indexes want turn news: their internal ids by position in the list."""
        (result,) = await self.run(sale, {"op": "askers", "indexes": list(indexes)})
        buyers = (_member(record).buyer for record in result["records"])
        return dict(zip(result["positions"], buyers, strict=True))

    async def told(self, sale: str, *, come: int = 0, near: int = 0) -> None:
        """Notes that turn news was published for the places below these."""
        await self.run(sale, {"op": "told", "come": come, "near": near})

    async def members(self, sale: str, first: int, most: int) -> list[bytes]:
        """Internal ids in index order, from `first` on."""
        (result,) = await self.run(sale, {"op": "members", "first": first, "most": most})
        records = raw(result["records"])
        return [records[at : at + BUYER_BYTES] for at in range(0, len(records), RECORD_BYTES)]

    async def root(self, sale: str, *, cohort: int, root: bytes) -> tuple[bytes, int]:
        """Publishes the root before the draw; answers the first one, and when that was, in milliseconds."""
        (result,) = await self.run(sale, {"op": "root", "cohort": cohort, "root": root.hex()})
        if result["word"] != "ROOTED":
            raise RuntimeError(f"the root of {sale} was answered {result['word']}")
        return bytes.fromhex(result["root"]), int(result["root_ms"])

    async def draw(
        self,
        sale: str,
        *,
        cohort: int,
        root: bytes,
        key: bytes,
        seed: bytes,
        beacon: bytes = b"",
        beacon_round: bytes = b"",
    ) -> None:
        """Stores what the draw came to; the first one stays."""
        command = {
            "op": "draw",
            "cohort": cohort,
            "root": root.hex(),
            "draw_key": key,
            "seed": seed.hex(),
            "beacon": beacon.hex(),
            "beacon_round": beacon_round,
        }
        (result,) = await self.run(sale, command)
        if result["word"] != "DRAWN":
            raise RuntimeError(f"the draw of {sale} was answered {result['word']}")

    async def facts(self, sale: str, commitment: str) -> DrawFacts:
        """What is published of the draw. Raises NO_LINE."""
        (found,) = await self.run(sale, {"op": "facts"})
        return DrawFacts(
            commitment=commitment,
            cohort=found.get("cohort"),
            frozen_ms=found["frozen_ms"],
            root=found["root"],
            root_ms=found["root_ms"],
            beacon=found["beacon"],
            beacon_round=raw(found["beacon_round"]),
            seed=found["seed"],
        )

    async def sequence(self, sale: str) -> int:
        """The sequence of the line's last change."""
        (seen,) = await self.run(sale, _STANDING)
        return int(seen["sequence"])

    async def drop(self, sale: str) -> None:
        """Frees a closed sale's keys. Raises WRONG_PHASE before closing."""
        await self.run(sale, {"op": "drop"})

    def outbox(self, js: JetStreamContext, sale: str, build_batch: BuildBatch) -> OutboxRelay:
        """The relay of a sale's changes to JetStream."""
        key = keys_of(sale)[KEYS.index("out")]
        return OutboxRelay(self._redis, js, sale, key, f"catraca.queue.{sale}.line", build_batch)

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


_STANDING: Command = {"op": "standing"}
_REFUSALS = frozenset({"NO_LINE", "WRONG_PHASE", "OVERLOADED"})


def refuse(sale: str, result: Result) -> None:
    """Raises the Refusal that a result's word names, if it is one."""
    word = result["word"]
    if word not in _REFUSALS:
        return
    if word != "WRONG_PHASE":
        raise refuse_word(word, {"sale": sale})
    detail = result["detail"]
    raise wrong_phase(Phase(detail["phase"]), detail["needs"], detail["opens_ms"], detail["now"])


def wrong_phase(phase: Phase, needs: str, opens_ms: int, now_ms: int) -> Refusal:
    """WRONG_PHASE, with when to try again while the phase is still to come."""
    detail: dict[str, object] = {
        "phase": phase.value,
        "needs": needs,
        "opens_at": datetime.fromtimestamp(opens_ms / 1000, UTC).isoformat().replace("+00:00", "Z"),
    }
    if opens_ms > now_ms and phase is not Phase.CLOSED:
        detail["retry_after_ms"] = opens_ms - now_ms
    return refuse_word("WRONG_PHASE", detail)


def standing_of(seen: Result) -> Standing:
    """The script's standing as the domain's."""
    draw_key = seen.get("draw_key")
    return Standing(
        phase=Phase(seen["phase"]),
        now_ms=seen["now"],
        serving=seen["serving"],
        joined=seen["joined"],
        cohort=seen.get("cohort"),
        key=raw(draw_key) if draw_key else b"",
        availability=Availability(seen["availability"]),
        revision=seen["revision"],
        lobby_opens_ms=seen["lobby_opens_ms"],
        opens_ms=seen["opens_ms"],
        closes_ms=seen["closes_ms"],
        sequence=seen["sequence"],
        marks=tuple((at, serving) for at, serving in seen["marks"]),
        asked=seen["asked"],
        told_come=seen["told_come"],
        told_near=seen["told_near"],
    )


def _member(record: str) -> Member:
    data = raw(record)
    return Member(data[:BUYER_BYTES], int.from_bytes(data[BUYER_BYTES:], "big"))


def _entry(index: int, record: str) -> Entry:
    joined_ms = _member(record).joined_ms
    return Entry(-index - 1, joined_ms, left=True) if index < 0 else Entry(index, joined_ms)


def _entries(result: Result, now_ms: int) -> list[Entry | None]:
    """Who is new joined now; who is not is named in `earlier` with their record; who got no place is None."""
    entries = [None if index is False else Entry(index, now_ms) for index in result["indexes"]]
    earlier = result["earlier"]
    for position, record in zip(earlier[::2], earlier[1::2], strict=True):
        entries[position] = _entry(result["indexes"][position], record)
    return entries


def _asks(buyers: Iterable[bytes]) -> list[Command]:
    """The command of those who want turn news, if anybody does; it follows what gives them their places."""
    asking = b"".join(buyers)
    return [{"op": "ask", "buyers": asking}] if asking else []


def _ids(ids: Sequence[bytes]) -> bytes:
    """Ids one after the other, zeros for who has none; nothing where nobody has one."""
    return b"".join(each or NO_ID for each in ids) if any(ids) else b""


def _callees(result: Result) -> Callees:
    return Callees([_member(record) for record in result["records"]], frozenset(result["gone"]))
