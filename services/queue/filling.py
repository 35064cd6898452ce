"""What a lost line is filled with: its published changes as parts for the script. Pure: no I/O, no clock."""

from collections.abc import Iterable, Iterator
from typing import Any

from catraca.events.v1 import events_pb2 as pb

from services.queue.draw import BUYER_BYTES, draw_key
from services.queue.events import act_of

# Members and codes of one part, and changes: it is one run of the script, a few milliseconds of Redis.
ITEMS = 1000
ID_BYTES = 16

Change = dict[str, Any]


class Broken(Exception):
    """The published changes do not follow from one another: they are not all there."""


class Filling:
    """Takes the published changes in their order, and gives them on in parts. It holds one part at most."""

    def __init__(self) -> None:
        self.sequence = 0
        """Of the last change that was taken."""
        self.at_ms = 0
        """The latest time of a change."""
        self.count = 0
        """How many have joined."""
        self.cohort = 0
        self.draw_key = b""
        """Empty until the draw has taken place."""
        self.serving = 0
        self._part: list[Change] = []
        self._items = 0

    def take(self, changes: Iterable[pb.QueueChange]) -> Iterator[list[Change]]:
        """The parts that became full. Raises Broken where a change is missing."""
        for change in changes:
            self.note(change)
            for piece in _pieces(change):
                self._part.append(piece)
                self._items += 1 + len(piece.get("buyers") or piece.get("codes", b"")) // ID_BYTES
                if self._items >= ITEMS:
                    yield self.rest()

    def rest(self) -> list[Change]:
        """What was taken and not given on yet."""
        part, self._part, self._items = self._part, [], 0
        return part

    def note(self, change: pb.QueueChange) -> None:
        """Takes note of a change of which nothing is to be filled in. Raises Broken as `take`."""
        if change.sequence != self.sequence + 1:
            raise Broken(f"change {change.sequence} follows change {self.sequence}")
        if change.act == pb.QUEUE_ACT_JOINED:
            if change.index != self.count:
                raise Broken(
                    f"change {change.sequence} gives index {change.index} after {self.count} members"
                )
            self.count += len(change.buyers) // BUYER_BYTES
        elif change.act == pb.QUEUE_ACT_FROZEN:
            self.cohort = change.cohort
        elif change.act == pb.QUEUE_ACT_DRAWN:
            self.draw_key = _draw_key(change)
        elif change.act == pb.QUEUE_ACT_SERVING:
            self.serving = change.serving
        self.sequence = change.sequence
        self.at_ms = max(self.at_ms, change.at_ms)


def _pieces(change: pb.QueueChange) -> Iterator[Change]:
    """A change as the script takes it; one of many in pieces, each but the last with `more`."""
    piece: Change = {"act": act_of(change), "sequence": change.sequence, "at_ms": change.at_ms}
    match change.act:
        case pb.QUEUE_ACT_JOINED | pb.QUEUE_ACT_ASKED:
            yield from _some(piece, change, change.buyers)
        case pb.QUEUE_ACT_CODES:
            yield from _some(piece | {"uses": change.uses}, change, change.codes)
        case pb.QUEUE_ACT_LEFT | pb.QUEUE_ACT_REJOINED:
            yield piece | {"index": change.index, "buyers": change.buyers}
        case pb.QUEUE_ACT_DEFINED | pb.QUEUE_ACT_FROZEN:
            yield piece | {"cohort": change.cohort}
        case pb.QUEUE_ACT_ROOTED:
            yield piece | {"root": change.root}
        case pb.QUEUE_ACT_DRAWN:
            yield piece | _draw(change)
        case _:
            yield piece | {"serving": change.serving}


def _some(piece: Change, change: pb.QueueChange, items: bytes) -> Iterator[Change]:
    step = ITEMS * ID_BYTES
    for at in range(0, len(items), step):
        yield {
            **piece,
            "index": change.index + at // ID_BYTES,
            "buyers": change.buyers[at : at + step],
            "codes": change.codes[at : at + step],
            "more": at + step < len(items),
        }


def _draw(change: pb.QueueChange) -> Change:
    """The draw, with the key that follows from it."""
    has_round = change.HasField("beacon_round")
    return {
        "draw_key": _draw_key(change),
        "root": change.root,
        "seed": change.seed,
        "beacon": change.beacon,
        "beacon_round": change.beacon_round.SerializeToString() if has_round else b"",
    }


def _draw_key(change: pb.QueueChange) -> bytes:
    return draw_key(*(bytes.fromhex(text) for text in (change.seed, change.root, change.beacon)))
