"""What is under way is wrong only where everything must have come to its end."""

import dataclasses

from catraca.sale.v1 import sale_pb2

from local.audit.facts import Facts, Session
from local.audit.findings import Finding
from local.audit.judge import judge, persistent
from services.checkout.states import OrderState


def verdicts(facts: Facts) -> dict[str, list[str]]:
    return {finding.invariant: finding.violations for finding in judge(facts) if not finding.ok}


def going_on(facts: Facts) -> Facts:
    """The same sale, read while it goes on."""
    return dataclasses.replace(facts, settled=False)


def forget_row(facts: Facts, order_id: str) -> None:
    """As if the order's row had been written after the rows were read."""
    del facts.orders[order_id]
    facts.payments.pop(order_id, None)
    facts.tickets[:] = [ticket for ticket in facts.tickets if ticket.order_id != order_id]


def test_an_order_that_has_not_ended_is_under_way(facts: Facts) -> None:
    order = next(order for order in facts.orders.values() if order.state is OrderState.EXPIRED)
    order.state, order.version = OrderState.AWAITING_PAYMENT, 2
    del facts.announced[order.order_id][3]

    assert verdicts(facts).keys() == {"I6"}
    assert verdicts(going_on(facts)) == {}
    assert sum(finding.under_way for finding in judge(going_on(facts))) == 1


def test_an_order_whose_row_came_after_the_reading_is_under_way(facts: Facts) -> None:
    order_id = next(o.order_id for o in facts.orders.values() if o.state is OrderState.CONFIRMED)
    forget_row(facts, order_id)

    assert verdicts(going_on(facts)) == {}
    assert verdicts(facts).keys() >= {"I1", "I4", "I6"}


def test_money_taken_for_an_order_that_nobody_accepted_is_wrong_at_any_time(facts: Facts) -> None:
    facts.sessions.append(Session("s", "unknown", "captured", 100, 100, 0))

    assert verdicts(going_on(facts)).keys() == {"I4"}


def test_changes_that_wait_in_the_outbox_are_under_way(facts: Facts) -> None:
    facts.inventory_outbox = [facts.inventory.pop()]
    facts.inventory_batches[0].last -= 1
    facts.inventory_batches[0].announced_last -= 1

    assert verdicts(facts).keys() == {"I11"}
    assert verdicts(going_on(facts)) == {}


def test_a_stream_that_went_on_after_redis_was_read_is_no_fault(facts: Facts) -> None:
    """The last change is then in the stream, but not in the state that is compared."""
    last = facts.inventory[-1]
    whole = facts.inventory_store
    assert whole is not None
    extra = type(last)(sequence=last.sequence + 1, at_ms=last.at_ms, act=last.act, buyer=last.buyer, place=77)
    facts.inventory.append(extra)
    facts.inventory_batches[0].last += 1
    facts.inventory_batches[0].announced_last += 1

    assert verdicts(facts) == {}


def test_an_archived_sale_is_judged_by_its_streams_alone(facts: Facts) -> None:
    facts.inventory_store = facts.queue_store = None

    assert verdicts(facts) == {}


def test_a_sale_without_a_line_has_nobody_called(facts: Facts) -> None:
    facts.definition.spec.line.kind = sale_pb2.LINE_KIND_NONE

    assert "I8" in verdicts(facts)


def test_only_what_is_wrong_twice_is_wrong() -> None:
    first = [Finding("I1", "", violations=["for a moment", "for good"]), Finding("I2", "")]
    second = [
        Finding("I1", "", violations=["for good"]),
        Finding("I2", "", violations=["for another moment"]),
    ]

    assert [finding.violations for finding in persistent(first, second)] == [["for good"], []]
