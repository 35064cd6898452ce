"""Who fills a lost store, and who waits: the rules on a bucket in memory."""

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2

from services.kit import rebuilding
from services.kit.definitions import Definition
from services.kit.epochs import Epoch
from services.kit.errors import Refusal
from services.kit.lua import NotLoaded
from services.kit.rebuilding import Rebuilding


@dataclass
class Bucket:
    """Epochs by compare-and-set, as `Epochs` has them."""

    entry: Epoch | None = field(default_factory=lambda: Epoch(1, True, 1, 0))
    reads: int = 0

    async def current(self, service: str, sale: str) -> Epoch | None:
        self.reads += 1
        return self.entry

    async def create(self, service: str, sale: str, after: Epoch | None = None) -> Epoch | None:
        if after != self.entry:
            return None
        number, revision = (after.number, after.revision) if after else (0, 0)
        self.entry = Epoch(number + 1, False, revision + 1, 0)
        return self.entry

    async def renew(self, service: str, sale: str, epoch: Epoch) -> Epoch | None:
        if epoch != self.entry:
            return None
        self.entry = replace(epoch, revision=epoch.revision + 1)
        return self.entry

    async def mark_loaded(self, service: str, sale: str, epoch: Epoch) -> Epoch | None:
        if epoch != self.entry:
            return None
        self.entry = replace(epoch, loaded=True, revision=epoch.revision + 1)
        return self.entry


@dataclass
class Known:
    """One sale's definition."""

    archived: bool = False

    async def latest(self, sale: str) -> Definition:
        if self.archived:
            raise Refusal("SALE_NOT_FOUND", sale=sale)
        return Definition(sale_pb2.Sale(sale=sale), 1)


@dataclass
class Store:
    """What the replicas of a test share."""

    whole_under: int = 0
    rebuilt: list[str] = field(default_factory=list)


class Replica(Rebuilding):
    """Fills the store at once, unless it is told how it fails."""

    def __init__(self, name: str, bucket: Bucket, store: Store, takeover_s: float = 5.0, **more: Any) -> None:
        self.name, self.store = name, store
        self.failures: list[Exception] = more.pop("failures", [])
        self.done = asyncio.Event()
        self.hangs = more.pop("hangs", False)
        known: Any = more.pop("known", Known())
        epochs: Any = bucket
        super().__init__("queue", epochs, known, takeover_s, lambda _: None)

    async def holds(self, definition: Definition, epoch: Epoch) -> bool:
        return self.store.whole_under == epoch.number

    async def rebuild(self, definition: Definition, epoch: Epoch) -> int:
        self.store.rebuilt.append(f"{self.name} {epoch.number}")
        if self.hangs:
            await asyncio.Event().wait()
        if self.failures:
            raise self.failures.pop()
        self.store.whole_under = epoch.number
        return 0

    async def recovered(self, sale: str) -> None:
        self.done.set()

    async def recovers(self, condemned: int = 0) -> None:
        self.recover("sale", condemned)
        async with asyncio.timeout(10):
            await self.done.wait()
        await self.close()


async def test_of_several_replicas_one_fills_it() -> None:
    bucket, store = Bucket(), Store()
    await asyncio.gather(*(Replica(name, bucket, store).recovers() for name in ("one", "two", "three")))

    assert len(store.rebuilt) == 1
    assert bucket.entry is not None and (bucket.entry.number, bucket.entry.loaded) == (2, True)


async def test_a_store_that_is_whole_is_left_alone_unless_it_is_condemned() -> None:
    bucket, store = Bucket(), Store(whole_under=1)
    await Replica("one", bucket, store).recovers()
    assert store.rebuilt == []

    await Replica("one", bucket, store).recovers(condemned=1)
    # Whoever comes late with the same news finds it done.
    await Replica("two", bucket, store).recovers(condemned=1)

    assert store.rebuilt == ["one 2"]


async def test_one_that_does_not_finish_is_taken_over_from() -> None:
    bucket, store = Bucket(), Store()
    dying = Replica("dying", bucket, store, hangs=True)
    dying.recover("sale")
    async with asyncio.timeout(10):
        while not store.rebuilt:
            await asyncio.sleep(0.01)

    await Replica("heir", bucket, store, takeover_s=0.05).recovers()
    await dying.close()

    assert store.rebuilt == ["dying 2", "heir 3"]


async def test_nobody_takes_over_from_one_that_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(rebuilding, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(rebuilding, "RETRY_S", 0.01)
    bucket, store = Bucket(), Store()
    slow, heir = (Replica(name, bucket, store, takeover_s=30, hangs=True) for name in ("slow", "heir"))

    async def looked() -> None:
        """The heir has seen the epoch as it is."""
        seen = bucket.reads
        async with asyncio.timeout(10):
            while bucket.reads < seen + 2:
                await asyncio.sleep(0.01)

    slow.recover("sale")
    async with asyncio.timeout(10):
        while not store.rebuilt:
            await asyncio.sleep(0.01)
    heir.recover("sale")
    await looked()
    for _ in range(3):
        now += 25
        await slow.still_at_it("sale")
        await looked()
    assert store.rebuilt == ["slow 2"]
    # Not at every step: each is written to the bucket.
    entry, now = bucket.entry, now + 5
    await slow.still_at_it("sale")
    assert bucket.entry == entry

    now += 26
    async with asyncio.timeout(10):
        while store.rebuilt != ["slow 2", "heir 3"]:
            await asyncio.sleep(0.01)
    with pytest.raises(rebuilding.Superseded):
        await slow.still_at_it("sale")
    await slow.close()
    await heir.close()


@pytest.mark.parametrize("failure", [NotLoaded(), Refusal("UNAVAILABLE"), OSError()], ids=repr)
async def test_what_one_left_unfinished_it_does_not_wait_for(failure: Exception) -> None:
    bucket, store = Bucket(), Store()
    await Replica("one", bucket, store, takeover_s=60, failures=[failure]).recovers()

    assert store.rebuilt == ["one 2", "one 3"]


@pytest.mark.parametrize(
    ("bucket", "known"),
    [
        (Bucket(Epoch(1, True, 1, 0, dropped=True)), Known()),
        (Bucket(), Known(archived=True)),
    ],
    ids=["dropped", "archived"],
)
async def test_what_was_let_go_is_not_filled_again(bucket: Bucket, known: Known) -> None:
    replica = Replica("one", bucket, Store(), known=known)
    replica.recover("sale")
    async with asyncio.timeout(10):
        await asyncio.gather(*replica._tasks.values())

    assert (replica.store.rebuilt, replica.done.is_set()) == ([], False)
