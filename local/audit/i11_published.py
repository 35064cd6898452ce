"""I11: every committed change is published without loss or visible duplicate, and in order."""

from collections.abc import Sequence

from catraca.events.v1.events_pb2 import InventoryChange, QueueChange

from local.audit.facts import Announced, Batch, Facts, InventoryStore, Order, QueueStore
from local.audit.findings import Finding
from local.audit.replay import Replay


def check(facts: Facts, replay: Replay) -> Finding:
    """Sequences of ledger and line without gaps up to what Redis has; versions of each order likewise."""
    finding = Finding("I11", "Every change is published once and in order")
    finding.violations += replay.wrong["I11"]
    finding.looked_at = {
        "inventory changes": len(facts.inventory),
        "queue changes": len(facts.queue),
        "order states": sum(map(len, facts.announced.values())),
    }
    _check_log(
        "inventory",
        facts.inventory_batches,
        facts.inventory,
        facts.inventory_outbox,
        facts.inventory_store,
        facts.settled,
        finding,
    )
    _check_log(
        "queue",
        facts.queue_batches,
        facts.queue,
        facts.queue_outbox,
        facts.queue_store,
        facts.settled,
        finding,
    )
    _check_orders(facts, finding)
    return finding


def _check_log(
    name: str,
    batches: Sequence[Batch],
    published: Sequence[InventoryChange | QueueChange],
    outbox: Sequence[InventoryChange | QueueChange],
    store: InventoryStore | QueueStore | None,
    settled: bool,
    finding: Finding,
) -> None:
    """One sale's log: published without gaps, continued by the outbox, up to Redis' own sequence."""
    epoch = 0
    for batch in batches:
        if batch.announced_last != batch.last:
            finding.wrong(
                f"{name} message {batch.stream_seq} ends with change {batch.last}, "
                f"its header says {batch.announced_last}"
            )
        if batch.epoch < epoch:
            finding.wrong(f"{name} message {batch.stream_seq} is of epoch {batch.epoch}, after {epoch}")
        epoch = max(epoch, batch.epoch)
    last = 0
    for change in published:
        if change.sequence != last + 1:
            finding.wrong(f"{name} change {change.sequence} was published after {last}")
        last = change.sequence
    if store is None:
        return
    waiting = [change.sequence for change in outbox if change.sequence > last]
    for sequence in waiting:
        if sequence != last + 1:
            finding.wrong(
                f"{name} change {sequence} waits for publication, but {last} was the last before it"
            )
        last = sequence
    if last < store.sequence:
        finding.wrong(f"{name}: Redis has made {store.sequence} changes, {last} are published or wait")
    if waiting and settled:
        finding.wrong(f"{name}: {len(waiting)} changes were never published")
    finding.under_way += len(waiting)


def _check_orders(facts: Facts, finding: Finding) -> None:
    for order_id, states in facts.announced.items():
        _check_versions(order_id, states, finding)
        order = facts.orders.get(order_id)
        if facts.too_new(order_id):
            finding.under_way += 1
            continue
        if order is None:
            finding.wrong(f"order {order_id} was published, but has no row")
            continue
        _check_last(facts, order, states[-1], finding)
    for order in facts.orders.values():
        waiting = facts.unpublished.get(order.order_id, 0)
        finding.under_way += waiting
        if waiting and facts.settled:
            finding.wrong(f"{waiting} states of order {order.order_id} were never published")
        elif order.order_id not in facts.announced and not waiting:
            finding.wrong(f"order {order.order_id} was never published")


def _check_versions(order_id: str, states: Sequence[Announced], finding: Finding) -> None:
    expected = 0
    for state in states:
        if state.version != expected:
            finding.wrong(f"order {order_id}: version {state.version} was published, {expected} was the next")
        if state.header_version != state.version:
            finding.wrong(
                f"order {order_id}: version {state.version} is called {state.header_version} in its header"
            )
        expected = state.version + 1


def _check_last(facts: Facts, order: Order, last: Announced, finding: Finding) -> None:
    """What was published last is the row, but for states that still wait or were decided since."""
    waiting = facts.unpublished.get(order.order_id, 0)
    behind = order.version - last.version
    if behind < 0 and not facts.settled:
        finding.under_way += 1
    elif not 0 <= behind <= waiting:
        finding.wrong(
            f"order {order.order_id} is at version {order.version}, published is {last.version}, "
            f"{waiting} states wait"
        )
    elif behind == 0 and last.state is not order.state:
        finding.wrong(f"order {order.order_id} is {order.state}, published is {last.state}")
