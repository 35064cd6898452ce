"""A sale whose line is lost: its ledger, its replicas, and all that buyers can see of it."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from catraca.events.v1 import events_pb2 as pb
from catraca.queue.v1 import queue_pb2
from redis.asyncio import Redis

from local import draw_verifier
from services.kit.buyers import to_text
from services.kit.errors import Refusal
from services.kit.streams import read_all
from services.queue.events import subject_of
from services.queue.states import Availability, PlaceState, Standing
from services.queue.store import LineStore, keys_of
from tests.drand import Chain, Relay
from tests.integration.line.fakes import MemoryLedger, joiners
from tests.integration.line.replicas import Replica, Replicas
from tests.patience import NOT_LOADED, patiently

PATIENCE_S = 20
COHORT = 24
EVERYBODY = range(40)
CODES = [hashlib.md5(b"code %d" % number).digest() for number in range(3)]


def buyer(number: int) -> bytes:
    return hashlib.md5(b"%d" % number).digest()


def named(number: int) -> str:
    """The buyer as the ledger knows them."""
    return to_text(buyer(number))


once_loaded = partial(patiently, passing=NOT_LOADED, pause_s=0.02)


class Case:
    """One sale, its ledger and the replicas that keep its line."""

    def __init__(self, replicas: Replicas, sale: str) -> None:
        self.replicas = replicas
        self.sale = sale
        self.ledger = MemoryLedger(stock=10)
        self.redis: Redis = replicas.redis
        self.relay = Relay(Chain())
        self.definition: dict[str, Any] = {}
        self.replica: Replica

    async def start(self, **definition: Any) -> Replica:
        """The sale, and the first replica."""
        self.replica = await self.another()
        await self.define(**definition)
        return self.replica

    async def another(self, *, takeover_s: float = 10.0) -> Replica:
        return await self.replicas.start(self.ledger, self.sale, takeover_s=takeover_s, drand=self.relay.url)

    async def define(self, **changes: Any) -> None:
        self.definition |= changes
        revision = await self.replicas.define(self.sale, **self.definition)
        await once_loaded(lambda: self.replica.loader.load(self.sale, revision))

    @property
    def store(self) -> LineStore:
        return self.replica.store

    async def join(self, *numbers: int, news: bool = False) -> None:
        wanted = joiners([buyer(number) for number in numbers], turn_news=news)
        await self.store.join(self.sale, wanted)

    async def leave(self, *numbers: int) -> None:
        await self.replica.line.leave(self.sale, [buyer(number) for number in numbers])

    async def standing(self, done: Callable[[Standing], bool]) -> Standing:
        """The standing, as soon as it is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not done(found := await self.store.standing(self.sale)):
                await asyncio.sleep(0.01)
        return found

    async def called_out(self) -> None:
        """Everything is promised: the line stands still."""
        self.replica.leaders[self.sale].wake()
        await self.standing(
            lambda now: (
                now.serving == self.ledger.watermark > 0
                and not self.unpromised
                and now.availability is Availability.MAY_RETURN
            )
        )

    @property
    def unpromised(self) -> int:
        return self.ledger.free - self.ledger.promised

    async def published(self) -> list[pb.QueueChange]:
        """Every change, once all are published."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                last = await self.store.sequence(self.sale)
                changes = await self.changes()
                if changes and changes[-1].sequence >= last:
                    return changes
                await asyncio.sleep(0.01)

    async def changes(self) -> list[pb.QueueChange]:
        return [
            change
            async for message in read_all(self.replicas.js, "QUEUE", subject_of(self.sale))
            for change in pb.QueueBatch.FromString(message.data).changes
        ]

    async def empty(self) -> None:
        """Flushes the sale, as FLUSHALL would all of them; other tests share this Redis."""
        await self.redis.delete(*keys_of(self.sale))

    async def restore(self, copied: dict[str, bytes | None]) -> None:
        """The store is another copy of it, at once."""
        async with self.redis.pipeline(transaction=True) as other:
            other.delete(*keys_of(self.sale))
            for key, value in copied.items():
                if value is not None:
                    other.restore(key, 0, value)
            await other.execute()

    async def seen(self, replica: Replica | None = None) -> dict[str, Any]:
        """All that buyers can see of the line."""
        replica = replica or self.replica
        line, store = replica.line, replica.store
        standing = await once_loaded(lambda: store.standing(self.sale))
        answers = await once_loaded(lambda: line.read(self.sale, [buyer(number) for number in EVERYBODY]))
        facts = await once_loaded(lambda: store.facts(self.sale, ""))
        drawn = standing.drawn and bool(standing.cohort)
        return {
            "views": [str(view) if isinstance(view, Refusal) else view for view in answers.views],
            "facts": facts,
            # What was told of turns is looked through once more.
            "standing": replace(standing, now_ms=0, sequence=0, epoch=0, told_come=0, told_near=0),
            "askers": await once_loaded(lambda: store.askers(self.sale, list(range(standing.joined)))),
            "members": await once_loaded(lambda: store.members(self.sale, 0, 1000)),
            "last": await once_loaded(lambda: line.last(self.sale, facts.cohort)) if drawn else None,
            "receipts": [
                await self.receipt(replica, number, view, standing)
                for number, view in zip(EVERYBODY, answers.views, strict=True)
                if not isinstance(view, Refusal)
            ],
        }

    async def receipt(self, replica: Replica, number: int, view: Any, standing: Standing) -> Any:
        """What a receipt says, and its path to the published root, which leads there."""
        receipt, proof = await once_loaded(
            lambda: replica.line.receipt(self.sale, buyer(number), view.entry, standing)
        )
        said = queue_pb2.ReceiptBody.FromString(receipt.body)
        if proof is not None:
            facts = await replica.store.facts(self.sale, "")
            leaf = draw_verifier.leaf(proof.index, said.entries[0].salted_buyer)
            found = draw_verifier.root_by_path(proof.index, standing.cohort, leaf, proof.path)
            assert found.hex() == facts.root
        return said.draw_commitment, list(said.entries), proof

    async def end_a_turn(self) -> None:
        """Whose turn runs the longest lets it lapse."""
        who, place = next(key for key, turn in self.ledger.turns.items() if turn.state is PlaceState.CALLED)
        self.ledger.end(who, place)
