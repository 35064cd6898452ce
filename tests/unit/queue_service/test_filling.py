"""What a lost line is filled with: bounded parts, in order, and nothing where a change is missing."""

import pytest
from catraca.events.v1 import events_pb2 as pb
from catraca.queue.v1.queue_pb2 import BeaconRound

from services.queue.draw import draw_key
from services.queue.filling import ITEMS, Broken, Filling

MANY = 2 * ITEMS + 7


def change(sequence: int, act: str, **fields: object) -> pb.QueueChange:
    value = pb.QueueAct.Value(f"QUEUE_ACT_{act}")
    return pb.QueueChange(sequence=sequence, at_ms=1000 + sequence, act=value, **fields)  # type: ignore[arg-type]


def buyers(count: int) -> bytes:
    return b"".join(number.to_bytes(16, "big") for number in range(count))


def test_a_change_of_many_comes_in_parts_that_are_bounded() -> None:
    filling = Filling()
    joined = change(1, "JOINED", buyers=buyers(MANY), codes=buyers(MANY))
    parts = [*filling.take([joined]), filling.rest()]

    pieces = [piece for part in parts for piece in part]
    assert all(len(piece["buyers"]) <= 16 * ITEMS for piece in pieces)
    assert all(sum(len(piece["buyers"]) for piece in part) < 32 * ITEMS for part in parts)
    assert b"".join(piece["buyers"] for piece in pieces) == b"".join(piece["codes"] for piece in pieces)
    assert [piece["index"] for piece in pieces] == [0, ITEMS, 2 * ITEMS]
    assert [piece["more"] for piece in pieces] == [True, True, False]
    assert (filling.count, filling.sequence, filling.rest()) == (MANY, 1, [])


def test_many_small_changes_are_gathered() -> None:
    filling = Filling()
    first = change(1, "JOINED", buyers=buyers(5))
    left = [change(2 + at, "LEFT", index=at % 5, buyers=buyers(1)) for at in range(3 * ITEMS)]
    parts = [*filling.take([first, *left]), filling.rest()]

    assert [piece["sequence"] for part in parts for piece in part] == list(range(1, 3 * ITEMS + 2))
    assert max(map(len, parts)) <= ITEMS
    assert len(parts) < 10


def test_a_draw_comes_with_the_key_that_follows_from_it() -> None:
    seed, root, beacon = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
    drawn = change(
        2,
        "DRAWN",
        seed=seed.hex(),
        root=root.hex(),
        beacon=beacon.hex(),
        beacon_round=BeaconRound(round=7),
    )
    filling = Filling()
    list(filling.take([change(1, "FROZEN", cohort=0), drawn]))
    (_, piece) = filling.rest()

    assert piece["draw_key"] == filling.draw_key == draw_key(seed, root, beacon)
    assert BeaconRound.FromString(piece["beacon_round"]).round == 7


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([change(2, "DEFINED", cohort=1)], "change 2 follows change 0"),
        ([change(1, "DEFINED", cohort=1), change(3, "FROZEN")], "change 3 follows change 1"),
        ([change(1, "DEFINED", cohort=1), change(1, "DEFINED", cohort=1)], "change 1 follows change 1"),
        ([change(1, "JOINED", index=1, buyers=buyers(1))], "gives index 1 after 0 members"),
    ],
    ids=["the beginning", "one between", "one twice", "a member"],
)
def test_what_is_missing_is_not_made_up(changes: list[pb.QueueChange], problem: str) -> None:
    with pytest.raises(Broken, match=problem):
        list(Filling().take(changes))


def test_what_was_rebuilt_before_is_a_change_of_which_nothing_follows() -> None:
    filling = Filling()
    list(filling.take([change(1, "DEFINED", cohort=4), change(2, "REBUILT")]))

    assert [piece["act"] for piece in filling.rest()] == ["DEFINED", "REBUILT"]
    assert filling.sequence == 2
