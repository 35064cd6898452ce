"""The script's results and changes as the contract's messages."""

from catraca.events.v1 import events_pb2
from catraca.inventory.v1 import inventory_pb2 as pb

from services.inventory import events, translate
from services.inventory.house import House
from services.inventory.states import WORDS, HoldState
from services.kit.reasons import WORDS as REASONS

SUCCESSES = {
    "DEFINED",
    "UNCHANGED",
    "CALLED",
    "NOT_WATERMARK",
    "PAUSED",
    "CLAIMED",
    "HELD",
    "PINNED",
    "RELEASED",
    "COMMITTED",
    "RETURNED",
    "REACQUIRED",
    "FILLED",
    "PAGE",
    "PROMISED",
    "LAPSED",
    "FINISHED",
    "NOT_CALLED",
    "SHOWN",
    "LEDGER",
    "EXPIRED",
    "DROPPED",
    "DROPPABLE",
    "BLOCKED",
    "UNBLOCKED",
    "MAP",
}


def test_every_refusal_is_a_reason() -> None:
    words = {word for each in WORDS.values() for word in each}

    assert words - SUCCESSES <= REASONS
    assert not SUCCESSES & REASONS


def test_hold_states_are_the_contracts() -> None:
    assert {f"HOLD_STATE_{state}" for state in HoldState} == set(pb.HoldState.keys()) - {
        "HOLD_STATE_UNSPECIFIED"
    }


def test_a_refusals_moments_are_readable() -> None:
    result = {
        "word": "WRONG_PHASE",
        "detail": {"phase": "LOBBY", "opens_at": 1_700_000_000_123, "retry_after_ms": 1500},
    }

    refusal = translate.refusal_of(result)

    assert refusal.metadata == {"phase": "LOBBY", "opens_at": "2023-11-14T22:13:20.123Z"}
    assert refusal.retry_after_s == 1.5


def test_an_empty_detail_is_none() -> None:
    # An empty Lua table is packed as a list.
    assert translate.metadata_of({"word": "HOLD_NOT_FOUND", "detail": []}) == {}


def test_a_hold_is_told_in_full() -> None:
    unit = {"section": "floor", "unit": 3, "ticket_type": "full", "price": 1000}
    hold = translate.hold_of(
        {"hold_id": "hold-0001", "state": "HELD", "units": [unit], "order_id": "o", "expires_at_ms": 1500}
    )

    assert hold.state == pb.HOLD_STATE_HELD
    assert hold.units[0] == pb.HeldUnit(section="floor", unit=3, ticket_type="full", price=1000)
    assert (hold.order_id, hold.expires_at.ToMilliseconds()) == ("o", 1500)


def test_a_sold_hold_ends_never() -> None:
    hold = translate.hold_of({"hold_id": "hold-0001", "state": "SOLD", "units": []})

    assert not hold.HasField("expires_at")


def test_a_change_without_a_place_has_none() -> None:
    held = {"sequence": 4, "at_ms": 5, "act": "HELD", "buyer": "b", "hold_id": "h", "units": []}

    assert not events.change_of(held).HasField("place")
    assert events.change_of(held | {"place": 0}).HasField("place")


def test_what_only_the_ledger_knows_of_a_unit_is_not_told() -> None:
    unit = {"section": "floor", "unit": 3, "ticket_type": "full", "price": 1000, "returned": True}
    change = events.change_of({"sequence": 4, "at_ms": 5, "act": "RETURNED", "units": [unit]})

    assert change.act == events_pb2.INVENTORY_ACT_RETURNED
    assert change.units[0] == pb.HeldUnit(section="floor", unit=3, ticket_type="full", price=1000)


def test_a_batch_says_whose_it_is() -> None:
    change = {"sequence": 1, "at_ms": 5, "act": "DEFINED", "quantity": 10, "watermark": 7}

    batch = events.batch_of("show", 3, [change, change | {"sequence": 2}], House())

    assert (batch.sale, batch.epoch, [each.sequence for each in batch.changes]) == ("show", 3, [1, 2])
