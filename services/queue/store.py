"""The one port to the line's Redis: every transition is a command of one script, run under an epoch."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nats.js import JetStreamContext
from redis.asyncio import Redis

from services.kit.errors import Refusal, refuse_word
from services.kit.lua import Script, raw
from services.kit.redis import ONLY_ONE, Copies
from services.kit.relay import BuildBatch, OutboxRelay
from services.kit.runs import Command, EpochBook, Result, Runs
from services.queue.draw import BUYER_BYTES
from services.queue.events import subject_of
from services.queue.states import Availability, DrawFacts, Entry, Joiner, Phase, Standing

SERVICE = "queue"
KEYS = ("meta", "def", "index", "members", "out", "lease", "codes", "spent", "asked")
RECORD_BYTES = 22
NO_ID = bytes(16)


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
        self,
        redis: Redis,
        epochs: EpochBook,
        last_published: Callable[[str], Awaitable[int]],
        rejoin_pause_s: float = 0.0,
        challenge_s: float = 600.0,
        copies: Copies = ONLY_ONE,
    ) -> None:
        """`redis` answers bytes. `last_published` answers the last change of a line that JetStream has.

        `rejoin_pause_s` is the least time between two joins of who left. `challenge_s` is how long a
        challenge can be solved, and so how long a used one is remembered. `copies` as for Runs.
        """
        self.rejoin_pause_s = rejoin_pause_s
        self._challenge_ms = round(challenge_s * 1000)
        self._redis = redis
        self._epochs = epochs
        self._runs = Runs(redis, load_script(), keys_of, epochs, last_published, copies)
        self.on_lost = self._runs.on_lost
        self.on_changes = self._runs.on_changes
        self.connection_lost = self._runs.connection_lost
        self.lost = self._runs.lost
        self.known = self._runs.known
        self.forget = self._runs.forget
        self.now_ms = self._runs.now_ms

    async def run(self, sale: str, *commands: Command) -> list[Result]:
        """Runs commands in order as one script. Raises Refusal, also for the first that was refused."""
        results = await self._runs.run(sale, commands)
        for result in results:
            refuse(sale, result)
        return results

    async def create(self, sale: str, epoch: int, revision: int, definition: Mapping[str, object]) -> int:
        """As `define`, but makes the store under its first epoch; answers the revision that stands."""
        (result,) = await self._runs.create(sale, epoch, [_define(revision, definition)])
        return int(result["revision"])

    async def define(self, sale: str, revision: int, definition: Mapping[str, object]) -> int:
        """Takes a definition of a higher revision; answers the revision that stands."""
        (result,) = await self.run(sale, _define(revision, definition))
        return int(result["revision"])

    # ---- a store that is filled again; raises NotLoaded where somebody else began anew ----

    async def holds(self, sale: str, epoch: int) -> bool:
        """Whether the store has a sale under this epoch, to the last change that is known of."""
        return await self._runs.holds(sale, epoch, [_STANDING])

    async def begin_filling(self, sale: str, epoch: int, definition: Mapping[str, object]) -> None:
        """Empties the sale's store; from here on nobody is answered under an earlier epoch."""
        command = {"op": "fill", "definition": definition, "changes": []}
        await self._runs.fill(sale, epoch, [command], begin=True)

    async def fill(self, sale: str, epoch: int, changes: Sequence[Mapping[str, object]]) -> None:
        """Fills in published changes."""
        await self._runs.fill(sale, epoch, [{"op": "fill", "changes": changes}])

    async def callees_in_filling(self, sale: str, epoch: int, indexes: Sequence[int]) -> Callees:
        """As `callees`, of what was filled in."""
        command = {"op": "callees", "indexes": list(indexes)}
        (result,) = await self._runs.fill(sale, epoch, [command])
        return _callees(result)

    async def end_filling(
        self,
        sale: str,
        epoch: int,
        last: Mapping[str, object],
        revision: int,
        definition: Mapping[str, object],
        serving: int,
    ) -> None:
        """The line goes on after the last change that was published, and answers."""
        commands = [
            {"op": "fill", "changes": [], "last": last},
            _define(revision, definition),
            {"op": "serve", "serving": serving},
        ]
        await self._runs.fill(sale, epoch, commands)

    async def recovered(self, sale: str) -> None:
        """Takes the sale's commands again, under an epoch that is read anew."""
        await self._epochs.epoch(sale, fresh=True)
        self._runs.recovered(sale)

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

    async def ask_to_drop(self, sale: str) -> None:
        """Changes nothing. Raises WRONG_PHASE where `drop` would."""
        await self.run(sale, {"op": "drop", "ask": True})

    async def drop(self, sale: str) -> None:
        """Frees a closed sale's keys. Raises WRONG_PHASE before closing."""
        await self.run(sale, {"op": "drop"})

    def outbox(self, js: JetStreamContext, sale: str, build_batch: BuildBatch) -> OutboxRelay:
        """The relay of a sale's changes to JetStream."""
        key = keys_of(sale)[KEYS.index("out")]
        return OutboxRelay(self._redis, js, sale, key, subject_of(sale), build_batch)


_STANDING: Command = {"op": "standing"}
_REFUSALS = frozenset({"NO_LINE", "WRONG_PHASE", "OVERLOADED"})


def _define(revision: int, definition: Mapping[str, object]) -> Command:
    return {"op": "define", "revision": revision, "definition": definition}


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
        epoch=seen["epoch"],
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
