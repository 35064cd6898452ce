"""Replays the line's changes: who stood at which index, who left when, and what the draw came to."""

from catraca.events.v1 import events_pb2 as pb
from catraca.events.v1.events_pb2 import QueueChange

from local.audit.facts import Facts, known_changes
from services.queue.draw import BUYER_BYTES


class LineReplay:
    """The line as its own changes tell it. `wrong` has what should have been impossible."""

    def __init__(self, facts: Facts) -> None:
        self.wrong: list[str] = []
        self.members = bytearray()
        """Raw buyer ids by index."""
        self.index_of: dict[bytes, int] = {}
        """Where each buyer stands, or stood before leaving."""
        self.left_at: dict[int, int] = {}
        """When who stood at an index left, unless they came back to it."""
        self.moved_at: dict[int, int] = {}
        """When who stood at an index joined anew at another one."""
        self.cohort: int | None = None
        self.frozen_at = self.serving = 0
        self.commitments: set[str] = set()
        """Every commitment that was published."""
        self.rooted: QueueChange | None = None
        """What published the root ahead of the draw, where that waits for a beacon."""
        self.drawn: QueueChange | None = None
        for change in known_changes(facts.queue, facts.queue_outbox, facts.queue_store):
            self._step(change)

    @property
    def count(self) -> int:
        """How many have ever joined."""
        return len(self.members) // BUYER_BYTES

    def buyer_at(self, index: int) -> bytes:
        """Who stood at an index."""
        return bytes(self.members[index * BUYER_BYTES : (index + 1) * BUYER_BYTES])

    def gone_at(self, index: int) -> int | None:
        """When whoever stood at an index gave it up; None if they never did."""
        return self.left_at.get(index, self.moved_at.get(index))

    def _step(self, change: QueueChange) -> None:
        if change.act == pb.QUEUE_ACT_DEFINED:
            self.commitments |= {change.commitment} - {""}
        elif change.act == pb.QUEUE_ACT_JOINED:
            self._joined(change)
        elif change.act in (pb.QUEUE_ACT_LEFT, pb.QUEUE_ACT_REJOINED):
            self._left_or_back(change)
        elif change.act == pb.QUEUE_ACT_FROZEN:
            self._frozen(change)
        elif change.act == pb.QUEUE_ACT_ROOTED:
            if self.rooted is not None or self.cohort is None:
                self._say(change, "rooted twice" if self.rooted is not None else "rooted before the freeze")
            self.rooted = self.rooted or change
        elif change.act == pb.QUEUE_ACT_DRAWN:
            self._drawn(change)
        elif change.act == pb.QUEUE_ACT_SERVING:
            if change.serving <= self.serving:
                self._say(change, f"serving went from {self.serving} to {change.serving}")
            self.serving = change.serving

    def _joined(self, change: QueueChange) -> None:
        if change.index != self.count:
            self._say(change, f"index {change.index} was given where {self.count} was the next")
        data = change.buyers
        for at in range(0, len(data), BUYER_BYTES):
            buyer, index = data[at : at + BUYER_BYTES], self.count + at // BUYER_BYTES
            before = self.index_of.get(buyer)
            if before is not None:
                self.moved_at[before] = change.at_ms
                if self.cohort is None:
                    self._say(change, f"{buyer.hex()} joined twice before opening, at {before} and {index}")
            self.index_of[buyer] = index
        self.members += data

    def _left_or_back(self, change: QueueChange) -> None:
        if self.index_of.get(change.buyers) != change.index:
            self._say(
                change, f"{change.buyers.hex()} left or came back at {change.index}, but does not stand there"
            )
        elif change.act == pb.QUEUE_ACT_LEFT:
            self.left_at[change.index] = change.at_ms
        elif self.cohort is not None:
            self._say(change, f"{change.buyers.hex()} came back to index {change.index} after the freeze")
        else:
            self.left_at.pop(change.index, None)

    def _frozen(self, change: QueueChange) -> None:
        if self.cohort is not None:
            self._say(change, "frozen twice")
        if change.cohort != self.count:
            self._say(change, f"frozen with {change.cohort} in the draw, but {self.count} had joined")
        self.cohort, self.frozen_at = change.cohort, change.at_ms

    def _drawn(self, change: QueueChange) -> None:
        if self.drawn is not None or self.cohort is None:
            self._say(change, "drawn twice" if self.drawn is not None else "drawn before the freeze")
        if self.rooted is not None and self.rooted.root != change.root:
            self._say(change, "drawn with another root than the one published before")
        self.drawn = change

    def _say(self, change: QueueChange, sentence: str) -> None:
        self.wrong.append(f"queue change {change.sequence}: {sentence}")
