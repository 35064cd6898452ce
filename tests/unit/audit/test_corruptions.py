"""Each invariant, broken in one store at a time, is named by its number."""

from collections.abc import Callable

import pytest
from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1.inventory_pb2 import HeldUnit

from local.audit.facts import Batch, Facts, Intake, Session
from local.audit.judge import judge
from services.checkout.states import OrderState
from tests.unit.audit.conftest import inventory_store

Corrupt = Callable[[Facts], object]
CORRUPTIONS: list[tuple[str, Corrupt]] = []


def breaks(invariant: str) -> Callable[[Corrupt], Corrupt]:
    """Declare what breaks an invariant."""

    def declare(corrupt: Corrupt) -> Corrupt:
        CORRUPTIONS.append((invariant, corrupt))
        return corrupt

    return declare


def broken(facts: Facts) -> list[str]:
    return [finding.invariant for finding in judge(facts) if not finding.ok]


def change(facts: Facts, act: str, number: int = 0) -> pb.InventoryChange:
    """The n-th change of this act."""
    value = pb.InventoryAct.Value(f"INVENTORY_ACT_{act}")
    return [each for each in facts.inventory if each.act == value][number]


def line_change(facts: Facts, act: str, number: int = 0) -> pb.QueueChange:
    value = pb.QueueAct.Value(f"QUEUE_ACT_{act}")
    return [each for each in facts.queue if each.act == value][number]


def order_in(facts: Facts, state: OrderState) -> str:
    """One order in this state."""
    return next(order.order_id for order in facts.orders.values() if order.state is state)


def session_in(facts: Facts, state: str) -> Session:
    return next(session for session in facts.sessions if session.state == state)


# ---- I1: one unit, one ticket ----


@breaks("I1")
def a_unit_has_two_tickets(facts: Facts) -> None:
    facts.tickets[-1].unit = facts.tickets[0].unit


@breaks("I1")
def a_held_unit_is_held_again(facts: Facts) -> None:
    change(facts, "HELD", 1).units[0].unit = change(facts, "HELD", 0).units[0].unit


@breaks("I1")
def a_hold_is_sold_that_nobody_made(facts: Facts) -> None:
    change(facts, "COMMITTED").hold_id = "another"


@breaks("I1")
def a_sold_unit_is_free_in_redis(facts: Facts) -> None:
    facts.inventory_store.units["floor"] = b"\0\0"


@breaks("I1")
def a_hold_is_gone_from_redis(facts: Facts) -> None:
    facts.inventory_store.holds.popitem()


@breaks("I1")
def a_ticket_is_gone(facts: Facts) -> None:
    facts.tickets.pop()


@breaks("I1")
def a_ticket_belongs_to_an_order_that_ended_without(facts: Facts) -> None:
    facts.orders[facts.tickets[0].order_id].state = OrderState.EXPIRED


# ---- I2: counters ----


@breaks("I2")
def more_is_held_than_there_is(facts: Facts) -> None:
    facts.definition.spec.sections[0].capacity = 3


@breaks("I2")
def more_is_promised_than_is_free(facts: Facts) -> None:
    change(facts, "CALLED", 2).quantity = 5


@breaks("I2")
def a_claim_takes_more_than_was_promised(facts: Facts) -> None:
    change(facts, "CALLED").quantity = 1


@breaks("I2")
def redis_counts_less_sold(facts: Facts) -> None:
    facts.inventory_store.sections["floor"].sold -= 1


@breaks("I2")
def a_counter_in_redis_is_negative(facts: Facts) -> None:
    facts.inventory_store.sections["floor"].held = -1


@breaks("I2")
def redis_promises_what_nobody_has(facts: Facts) -> None:
    facts.inventory_store.promised += 1


@breaks("I2")
def a_promise_in_redis_is_larger(facts: Facts) -> None:
    next(iter(facts.inventory_store.promises.values())).left += 1


# ---- I3: the limit ----


@breaks("I3")
def a_buyer_holds_more_than_the_limit(facts: Facts) -> None:
    facts.definition.spec.limits.per_buyer = 1


@breaks("I3")
def one_owns_the_tickets_of_two(facts: Facts) -> None:
    owners = [order for order in facts.orders.values() if order.state is OrderState.CONFIRMED]
    owners[1].buyer = owners[0].buyer


@breaks("I3")
def redis_counts_fewer_units_of_a_buyer(facts: Facts) -> None:
    facts.inventory_store.buyers = dict.fromkeys(facts.inventory_store.buyers, (0, 0, 0))


# ---- I4: charged means tickets ----


@breaks("I4")
def the_provider_charged_an_order_that_expired(facts: Facts) -> None:
    session = session_in(facts, "expired")
    session.state, session.captured = "captured", session.amount


@breaks("I4")
def the_provider_charged_for_an_order_that_nobody_knows(facts: Facts) -> None:
    facts.sessions.append(Session("s", "unknown", "captured", 100, 100, 0))


@breaks("I4")
def the_provider_keeps_money_reserved(facts: Facts) -> None:
    session_in(facts, "expired").state = "authorized"


@breaks("I4")
def a_charged_order_has_no_tickets(facts: Facts) -> None:
    facts.tickets.clear()


@breaks("I4")
def a_refund_was_only_believed(facts: Facts) -> None:
    order_id = order_in(facts, OrderState.CONFIRMED)
    facts.payments[order_id].state = "REFUNDED"


@breaks("I4")
def a_session_asks_for_another_amount(facts: Facts) -> None:
    session_in(facts, "expired").amount += 1


# ---- I5: tickets mean money ----


@breaks("I5")
def the_provider_took_nothing_for_issued_tickets(facts: Facts) -> None:
    session = session_in(facts, "captured")
    session.state, session.captured = "authorized", 0


@breaks("I5")
def tickets_are_issued_while_capturing(facts: Facts) -> None:
    facts.orders[order_in(facts, OrderState.CONFIRMED)].state = OrderState.CAPTURING


@breaks("I5")
def an_expired_order_told_of_tickets(facts: Facts) -> None:
    facts.announced[order_in(facts, OrderState.EXPIRED)][2].tickets = 1


@breaks("I5")
def two_tickets_have_one_code(facts: Facts) -> None:
    facts.tickets[1].code = facts.tickets[0].code


@breaks("I5")
def a_code_does_not_verify(facts: Facts) -> None:
    facts.ticket_keys = {"k1": b"x" * 32}


# ---- I6: one end ----


@breaks("I6")
def an_order_never_ends(facts: Facts) -> None:
    facts.orders[order_in(facts, OrderState.EXPIRED)].state = OrderState.AWAITING_PAYMENT


@breaks("I6")
def an_accepted_order_has_no_row(facts: Facts) -> None:
    del facts.orders[order_in(facts, OrderState.REJECTED)]


@breaks("I6")
def a_row_was_never_accepted(facts: Facts) -> None:
    facts.intake.pop()


@breaks("I6")
def an_order_ended_twice(facts: Facts) -> None:
    facts.announced[order_in(facts, OrderState.EXPIRED)][2].state = OrderState.CANCELLED


@breaks("I6")
def an_order_ended_without_a_reason(facts: Facts) -> None:
    facts.orders[order_in(facts, OrderState.REJECTED)].reason = ""


@breaks("I6")
def an_accepted_order_cannot_be_read(facts: Facts) -> None:
    facts.intake[0].order = None


# ---- I7: one effect ----


@breaks("I7")
def a_key_was_accepted_twice(facts: Facts) -> None:
    facts.intake.append(Intake(99, facts.intake[0].subject, facts.intake[0].order))


@breaks("I7")
def a_row_has_another_request(facts: Facts) -> None:
    next(iter(facts.orders.values())).request_hash = b"other"


@breaks("I7")
def a_request_was_changed_after_it_was_hashed(facts: Facts) -> None:
    facts.intake[0].order.items[0].quantity += 1


@breaks("I7")
def an_order_has_another_orders_id(facts: Facts) -> None:
    facts.intake[0].order.idempotency_key = "another-key"


@breaks("I7")
def an_order_has_two_holds(facts: Facts) -> None:
    order_id = order_in(facts, OrderState.CONFIRMED)
    change(facts, "HELD", 1).order_id = order_id


@breaks("I7")
def an_order_has_two_payment_sessions(facts: Facts) -> None:
    first = facts.sessions[0]
    facts.sessions.append(Session("second", first.order_id, "expired", first.amount, 0, 0))


@breaks("I7")
def an_order_has_one_ticket_too_many(facts: Facts) -> None:
    facts.orders[order_in(facts, OrderState.CONFIRMED)].units.pop()


# ---- I8: the line ----


@breaks("I8")
def the_seed_is_not_the_committed_one(facts: Facts) -> None:
    facts.definition.draw_commitment = "00" * 32


@breaks("I8")
def the_root_is_not_the_cohorts(facts: Facts) -> None:
    line_change(facts, "DRAWN").root = "00" * 32


@breaks("I8")
def the_cohort_is_not_who_had_joined(facts: Facts) -> None:
    line_change(facts, "FROZEN").cohort = 3


@breaks("I8")
def somebody_was_called_at_anothers_place(facts: Facts) -> None:
    first, second = change(facts, "CALLED", 0), change(facts, "CALLED", 1)
    first.buyer, second.buyer = second.buyer, first.buyer


@breaks("I8")
def somebody_who_waits_was_passed_over(facts: Facts) -> None:
    line_change(facts, "LEFT").at_ms += 3_600_000


@breaks("I8")
def somebody_was_called_twice(facts: Facts) -> None:
    change(facts, "CALLED", 1).place = change(facts, "CALLED", 0).place


@breaks("I8")
def a_place_changed_in_redis(facts: Facts) -> None:
    facts.queue_store.index[next(iter(facts.queue_store.index))] = 2


@breaks("I8")
def an_index_belongs_to_another_in_redis(facts: Facts) -> None:
    facts.queue_store.members = bytes(len(facts.queue_store.members))


@breaks("I8")
def more_was_served_than_called(facts: Facts) -> None:
    line_change(facts, "SERVING", -1).serving += 1
    facts.queue_store.serving += 1


@breaks("I8")
def somebody_got_a_second_place(facts: Facts) -> None:
    line_change(facts, "JOINED", 2).buyers = line_change(facts, "JOINED", 1).buyers[:16]
    line_change(facts, "LEFT").act = pb.QUEUE_ACT_SELLING


# ---- I11: publication ----


@breaks("I11")
def an_inventory_change_is_missing(facts: Facts) -> None:
    del facts.inventory[3]


@breaks("I11")
def a_queue_change_was_published_twice(facts: Facts) -> None:
    facts.queue.insert(2, facts.queue[1])


@breaks("I11")
def redis_made_changes_that_nobody_has(facts: Facts) -> None:
    facts.inventory_store.sequence += 5


@breaks("I11")
def a_change_was_never_published(facts: Facts) -> None:
    facts.inventory_outbox = [facts.inventory.pop()]


@breaks("I11")
def the_epoch_goes_back(facts: Facts) -> None:
    facts.queue_batches.append(Batch(2, 0, 0, 0, 0))


@breaks("I11")
def a_header_says_another_sequence(facts: Facts) -> None:
    facts.inventory_batches[0].announced_last += 1


@breaks("I11")
def a_version_was_never_published(facts: Facts) -> None:
    del facts.announced[order_in(facts, OrderState.CONFIRMED)][2]


@breaks("I11")
def a_version_was_published_twice(facts: Facts) -> None:
    states = facts.announced[order_in(facts, OrderState.CONFIRMED)]
    states.insert(1, states[1])


@breaks("I11")
def the_last_version_is_not_the_rows(facts: Facts) -> None:
    facts.orders[order_in(facts, OrderState.CONFIRMED)].version += 1


@breaks("I11")
def a_state_waits_in_checkouts_outbox(facts: Facts) -> None:
    facts.unpublished = {order_in(facts, OrderState.CONFIRMED): 1}


@breaks("I11")
def an_order_was_never_published(facts: Facts) -> None:
    del facts.announced[order_in(facts, OrderState.REJECTED)]


def test_a_sale_without_a_fault_is_found_without_one(facts: Facts) -> None:
    findings = judge(facts)

    assert {finding.invariant: finding.violations for finding in findings if not finding.ok} == {}
    assert [finding.invariant for finding in findings] == [
        "I1",
        "I2",
        "I3",
        "I4",
        "I5",
        "I6",
        "I7",
        "I8",
        "I11",
    ]
    assert all(sum(finding.looked_at.values()) > 0 for finding in findings)


@pytest.mark.parametrize(
    ("invariant", "corrupt"), CORRUPTIONS, ids=[f"{number} {each.__name__}" for number, each in CORRUPTIONS]
)
def test_a_corruption_is_named_by_its_number(facts: Facts, invariant: str, corrupt: Corrupt) -> None:
    corrupt(facts)

    assert invariant in broken(facts)


# ---- seats and blocks: what only some sales have ----


def seated(facts: Facts) -> None:
    """Orders claim their very seats, and at last the organiser blocks a free one and frees it again."""
    for act in ("BLOCKED", "UNBLOCKED"):
        number = pb.InventoryAct.Value(f"INVENTORY_ACT_{act}")
        blocked = [HeldUnit(section="floor", unit=2)]
        facts.inventory.append(pb.InventoryChange(act=number, block_id="stage-left", units=blocked))
    for place, each in enumerate(facts.inventory):
        each.sequence = place + 1
        if each.act == pb.INVENTORY_ACT_CLAIMED:
            held = next(other for other in facts.inventory[place:] if other.act == pb.INVENTORY_ACT_HELD)
            each.units.extend(held.units)
    count = len(facts.inventory)
    facts.inventory_batches = [Batch(1, 1, 1, count, count)]
    facts.inventory_store = None
    facts.inventory_store = inventory_store(facts)


def test_seats_and_blocks_are_followed(facts: Facts) -> None:
    seated(facts)
    assert broken(facts) == []


SEATED: list[tuple[str, Corrupt]] = [
    ("I1", lambda facts: change(facts, "HELD").units[0].MergeFrom(HeldUnit(unit=5))),
    ("I1", lambda facts: change(facts, "CLAIMED", 1).units[0].MergeFrom(HeldUnit(unit=1))),
    ("I7", lambda facts: change(facts, "CLAIMED").units[0].MergeFrom(HeldUnit(unit=5))),
    ("I1", lambda facts: change(facts, "UNBLOCKED").units[0].MergeFrom(HeldUnit(unit=4))),
    ("I1", lambda facts: change(facts, "BLOCKED").units.add(section="floor", unit=2)),
    ("I2", lambda facts: change(facts, "BLOCKED").units[0].MergeFrom(HeldUnit(unit=6))),
    (
        "I7",
        lambda facts: change(facts, "UNBLOCKED").MergeFrom(pb.InventoryChange(act=pb.INVENTORY_ACT_BLOCKED)),
    ),
]


@pytest.mark.parametrize(("invariant", "corrupt"), SEATED)
def test_what_is_wrong_with_seats_and_blocks_is_named(facts: Facts, invariant: str, corrupt: Corrupt) -> None:
    seated(facts)
    corrupt(facts)
    assert invariant in broken(facts)
