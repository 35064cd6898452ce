"""What has to change between a sale's last published change and what holds, once its store lost the rest.

The published changes say what the ledger was. Checkout's orders say what became of the units since, as far
as it matters: who has paid, who is paying, who was accepted. Where the two differ, the orders are right.
Every difference becomes an ordinary change, so that whoever follows the changes needs to know nothing of
rebuilds. Pure: no I/O, no clock.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as api
from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem
from catraca.sale.v1 import sale_pb2

from services.inventory.house import House
from services.inventory.replay import Claim, Hold, HoldId, Replay, UnitId, id_of
from services.inventory.rules import has_line, release_ms_of

TICKETED = frozenset({api.ORDER_STATE_CAPTURING, api.ORDER_STATE_CONFIRMED})
"""Orders whose tickets claim their units."""
PAYING = frozenset({api.ORDER_STATE_HELD, api.ORDER_STATE_AWAITING_PAYMENT})
ENDED = frozenset(
    {
        api.ORDER_STATE_CONFIRMED,
        api.ORDER_STATE_REJECTED,
        api.ORDER_STATE_EXPIRED,
        api.ORDER_STATE_CANCELLED,
        api.ORDER_STATE_PAYMENT_FAILED,
    }
)
UNSOLD = ENDED - {api.ORDER_STATE_CONFIRMED}


def is_to_be_sold(order: OrderUnits) -> bool:
    """Whether COMMIT was asked for or may have been: checkout names that intent before it asks."""
    free_of_charge = order.state == api.ORDER_STATE_HELD and not order.amount and bool(order.units)
    return order.state in TICKETED or order.state == api.ORDER_STATE_AUTHORIZED or free_of_charge


def units_wanted(order: OrderUnits) -> list[HeldUnit]:
    """The units that an order must have at the ledger: those of its tickets, else all that it held."""
    if order.state not in TICKETED:
        return list(order.units)
    ticketed = {(ticket.section, ticket.unit) for ticket in order.tickets}
    return [unit for unit in order.units if id_of(unit) in ticketed]


def _rank(order: OrderUnits) -> tuple[int, int, str]:
    """Who comes first where two want one unit: tickets, then money, then who was accepted first."""
    rank = 0 if order.state in TICKETED else 1 if is_to_be_sold(order) else 2
    return rank, order.accepted_at_ms, order.order_id


class Rebuild:
    """One rebuild of one sale. `changes` are those that lead from what was published to what holds."""

    def __init__(self, replay: Replay, sale: sale_pb2.Sale, house: House, epoch: int, now_ms: int) -> None:
        """`replay` has taken in every published change, and takes in those that are made here.

        `house` has the sale's seats.
        """
        self.replay = replay
        self.changes: list[pb.InventoryChange] = []
        self.conflicts: list[str] = []
        """Orders whose units another order has with better right."""
        self._sale = sale
        self._house = house
        self._now_ms = max(now_ms, replay.at_ms)
        self._secured: set[HoldId] = set()
        self._add("REBUILT", quantity=epoch)
        if sale.revision > replay.revision:
            capacity = sum(section.capacity for section in sale.spec.sections)
            self._add("DEFINED", quantity=capacity, watermark=sale.revision)

    def follow(self, orders: Mapping[str, OrderUnits]) -> None:
        """Lead the ledger to what the orders say."""
        self._end_claims(orders)
        self._end_holds(orders)
        for order in sorted(orders.values(), key=_rank):
            if is_to_be_sold(order) or order.state in PAYING:
                self._secure(order)
        for order in sorted(orders.values(), key=_rank):
            if order.state == api.ORDER_STATE_ACCEPTED:
                self._claim(order)
        self._make_room(0)

    # ---- what nobody has any more ----

    def _end_claims(self, orders: Mapping[str, OrderUnits]) -> None:
        for claim in list(self.replay.claims.values()):
            order = orders.get(claim.order_id)
            over = claim.ends_ms <= self._now_ms or (order is not None and order.state in ENDED)
            if claim.state == "OPEN" and over:
                self._unclaim(claim)

    def _end_holds(self, orders: Mapping[str, OrderUnits]) -> None:
        wanted = {(each.buyer, each.hold_id): each for each in orders.values() if each.state not in ENDED}
        for key, hold in list(self.replay.holds.items()):
            if hold.state == "HELD" and not hold.order_id:
                order = wanted.get(key)
                if order is None:
                    self._give_back(hold, "LOST")
                else:
                    self._bind(hold, order)
            elif hold.order_id in orders:
                self._end_of_order(hold, orders[hold.order_id])

    def _bind(self, hold: Hold, order: OrderUnits) -> None:
        """The order's CLAIM of the hold was lost, or is still to come."""
        until_ms = max(hold.ends_ms, order.accepted_at_ms + self._sale.spec.orders.queue_max.ToMilliseconds())
        self._add("BOUND", hold=hold, order_id=order.order_id, until_ms=until_ms)

    def _end_of_order(self, hold: Hold, order: OrderUnits) -> None:
        if hold.state == "HELD" and order.state in UNSOLD:
            self._give_back(hold, "RELEASED")
        elif hold.state == "SOLD" and order.state in ENDED and not order.owes_units:
            keeps = {id_of(unit) for unit in units_wanted(order)} if order.state in TICKETED else set()
            self._return(hold, [unit for unit in hold.standing if id_of(unit) not in keeps])

    # ---- what somebody has ----

    def _secure(self, order: OrderUnits) -> None:
        """See to it that an order has its units: HELD until its payment is over, or SOLD."""
        key = (order.buyer, order.hold_id)
        hold = self.replay.holds.get(key)
        wanted = units_wanted(order)
        if hold is not None and hold.state not in ("HELD", "SOLD") and order.state not in TICKETED:
            # It ended as everybody could see: should money come all the same, REACQUIRE takes units anew.
            return
        if not wanted or not self._clear(key, wanted, order):
            return
        if hold is None:
            hold = self._hold(order, wanted)
        elif hold.state not in ("HELD", "SOLD"):
            self._make_room(len(wanted))
            self._add("REACQUIRED", hold=hold, order_id=order.order_id, units=wanted)
        if self.replay.holds[key].state == "HELD":
            self._lead_on(self.replay.holds[key], order)
        self._secured.add(key)

    def _clear(self, key: HoldId, wanted: Sequence[HeldUnit], order: OrderUnits) -> bool:
        """Free the units from whoever has them with less right. False if somebody has one with more."""
        others = {self.replay.taken.get(id_of(unit)) for unit in wanted} - {None, key}
        keepers = {self.replay.kept.get(id_of(unit)) for unit in wanted} - {None, order.order_id}
        if others & self._secured:
            self.conflicts.append(order.order_id)
            return False
        for other in others:
            assert other is not None
            hold = self.replay.holds[other]
            if hold.state == "HELD":
                self._give_back(hold, "RELEASED")
            else:
                self._return(hold, hold.standing)
        for keeper in sorted(keeper for keeper in keepers if keeper is not None):
            self._unclaim(self.replay.claims[keeper])
        # Whoever got a unit of a block got it when the whole of that was given back.
        blocks = {block.block_id: block for unit in wanted if (block := self.replay.blocked.get(id_of(unit)))}
        for block in blocks.values():
            self._add("UNBLOCKED", block_id=block.block_id, units=block.units)
        return True

    def _hold(self, order: OrderUnits, wanted: Sequence[HeldUnit]) -> Hold:
        """– → HELD: the hold was made after the last published change."""
        claim = self.replay.claims.get(order.order_id)
        if claim is not None and claim.state == "OPEN":
            kept = {id_of(unit) for unit in claim.kept}
            if claim.quantity != len(wanted) or not kept <= {id_of(unit) for unit in wanted}:
                self._unclaim(claim)
        has_claim = claim is not None and claim.state == "OPEN"
        place = self._place_for(order, len(wanted))
        if not has_claim and place is None:
            self._make_room(len(wanted))
        self._add(
            "HELD",
            buyer=order.buyer,
            order_id=order.order_id,
            hold_id=order.hold_id,
            units=wanted,
            until_ms=max(order.pin_until_ms, self._now_ms),
            **_at(place),
        )
        return self.replay.holds[order.buyer, order.hold_id]

    def _lead_on(self, hold: Hold, order: OrderUnits) -> None:
        """A hold that is HELD → SOLD, or HELD until the payment is over."""
        if is_to_be_sold(order):
            self._add("COMMITTED", hold=hold, order_id=order.order_id)
            self._finish(hold.buyer)
        elif order.pin_until_ms > hold.ends_ms or not hold.pinned:
            until_ms = max(order.pin_until_ms, hold.ends_ms)
            self._add("PINNED", hold=hold, order_id=order.order_id, until_ms=until_ms)

    def _claim(self, order: OrderUnits) -> None:
        """An accepted order of which the ledger knows nothing: its claim, if it can still be had as it was
        then.

        Otherwise nothing is kept of it, and the worker's CLAIM is judged as a first one.
        """
        until_ms = order.accepted_at_ms + self._sale.spec.orders.queue_max.ToMilliseconds()
        known = order.order_id in self.replay.claims or (order.buyer, order.hold_id) in self.replay.holds
        lines = self._lines_of(order.items)
        if known or until_ms <= self._now_ms or not lines:
            return
        quantity = sum(line.quantity for line in lines)
        place = self._place_for(order, quantity)
        has_right = place is not None if has_line(self._sale) else self._unpromised() >= quantity
        below_limit = self.replay.has[order.buyer].total + quantity <= self._sale.spec.limits.per_buyer
        if not (has_right and below_limit and self._has_stock(lines)):
            return
        self._add(
            "CLAIMED",
            buyer=order.buyer,
            order_id=order.order_id,
            quantity=quantity,
            until_ms=until_ms,
            items=lines,
            **_at(place),
        )

    def _place_for(self, order: OrderUnits, quantity: int) -> int | None:
        """The order's place in line, if the promise of it still has so much."""
        promise = self.replay.promises.get(order.buyer) if order.HasField("place") else None
        if promise is None or promise.place != order.place:
            return None
        return order.place if promise.state == "PROMISED" and promise.left >= quantity else None

    def _lines_of(self, items: Iterable[HoldItem]) -> list[HoldItem]:
        """The items with their ticket types; none where one of them is for seats, or for what is not sold."""
        lines = []
        sections = {section.id: section for section in self._sale.spec.sections}
        for item in items:
            section = sections.get(item.section)
            if section is None or section.kind == sale_pb2.SECTION_KIND_SEATED or item.seats:
                return []
            ticket_type = item.ticket_type or section.ticket_types[0].id
            lines.append(HoldItem(section=item.section, ticket_type=ticket_type, quantity=item.quantity))
        return lines

    # ---- stock ----

    def _free(self) -> dict[str, int]:
        """Units by section that are neither taken, blocked nor claimed, and may be anyone's."""
        return {
            section.id: section.capacity
            - self.replay.out[section.id]
            - self.replay.claimed[section.id]
            - self._reserved(section.id)
            for section in self._sale.spec.sections
        }

    def _reserved(self, section: str) -> int:
        """Free seats of a section that are kept for wheelchair users and companions as yet."""
        replay = self.replay
        return sum(
            unit not in replay.taken and unit not in replay.blocked and unit not in replay.kept
            for unit in self._for_few(section)
        )

    def _under_way(self, section: str) -> int:
        """Such seats that are HELD: who has one spent a promise of any unit, and may get that back."""
        if not has_line(self._sale):
            return 0
        replay = self.replay
        holders = (replay.taken.get(unit) for unit in self._for_few(section))
        held = sum(key is not None and replay.holds[key].state == "HELD" for key in holders)
        return held + sum(unit in replay.kept for unit in self._for_few(section))

    def _for_few(self, section: str) -> Iterator[UnitId]:
        """The seats of a section that are for wheelchair users and companions as yet: far fewer than all."""
        layout = self._house.layouts.get(section)
        if layout is not None and not self._is_released():
            yield from ((section, unit) for unit in range(layout.uses[0], sum(layout.uses)))

    def _is_released(self) -> bool:
        release_ms = release_ms_of(self._sale.spec)
        return release_ms is not None and self._now_ms >= release_ms

    def _sellable(self) -> dict[str, int]:
        """What may be sold of each section: with a quota on every type, no more than the quotas leave."""
        free = self._free()
        for section in self._sale.spec.sections:
            free[section.id] -= self._under_way(section.id)
            if all(kind.quota for kind in section.ticket_types):
                left = (kind.quota - self.replay.used[section.id, kind.id] for kind in section.ticket_types)
                free[section.id] = min(free[section.id], sum(max(0, each) for each in left))
        return free

    def _unpromised(self) -> int:
        return sum(self._sellable().values()) - self.replay.promised

    def _has_stock(self, lines: Iterable[HoldItem]) -> bool:
        sellable, wanted, by_type = self._sellable(), Counter[str](), Counter[tuple[str, str]]()
        quotas = {
            (section.id, kind.id): kind.quota
            for section in self._sale.spec.sections
            for kind in section.ticket_types
        }
        for line in lines:
            wanted[line.section] += line.quantity
            by_type[line.section, line.ticket_type] += line.quantity
        return all(count <= sellable[section] for section, count in wanted.items()) and all(
            not quotas.get(kind) or self.replay.used[kind] + count <= quotas[kind]
            for kind, count in by_type.items()
        )

    def _make_room(self, quantity: int) -> None:
        """See to it that so many units are unpromised: whoever was called last loses their turn first."""
        if self._unpromised() >= quantity:
            return
        running = [
            (promise.place, buyer)
            for buyer, promise in self.replay.promises.items()
            if promise.state == "PROMISED"
        ]
        for _, buyer in sorted(running, reverse=True):
            self._lapse(buyer)
            if self._unpromised() >= quantity:
                return
        for claim in list(self.replay.claims.values())[::-1]:
            if self._unpromised() >= quantity:
                return
            if claim.state == "OPEN":
                self._unclaim(claim)

    # ---- changes ----

    def _unclaim(self, claim: Claim) -> None:
        self._add(
            "UNCLAIMED",
            buyer=claim.buyer,
            order_id=claim.order_id,
            quantity=claim.quantity,
            **self._restored(claim.buyer, claim.place, claim.quantity),
        )
        self._finish(claim.buyer)

    def _give_back(self, hold: Hold, act: str) -> None:
        self._add(act, hold=hold, **self._restored(hold.buyer, hold.place, len(hold.standing)))
        self._finish(hold.buyer)

    def _return(self, hold: Hold, units: Sequence[HeldUnit]) -> None:
        if units:
            self._add("RETURNED", hold=hold, units=units)

    def _restored(self, buyer: str, place: int | None, quantity: int) -> dict[str, Any]:
        """What goes back to the promise that it came from, and that promise's place."""
        if place is None:
            return {}
        promise = self.replay.promises.get(buyer)
        runs = promise is not None and promise.place == place and promise.state == "PROMISED"
        return {"place": place, "restored": quantity if runs else 0}

    def _finish(self, buyer: str) -> None:
        promise, has = self.replay.promises.get(buyer), self.replay.has[buyer]
        if promise is not None and promise.state == "PROMISED" and not promise.left + has.held + has.claimed:
            self._lapse(buyer)

    def _lapse(self, buyer: str) -> None:
        promise = self.replay.promises[buyer]
        self._add("LAPSED", buyer=buyer, place=promise.place, quantity=promise.left)

    def _add(self, act: str, *, hold: Hold | None = None, **fields: Any) -> None:
        """Make one change; `hold` gives it a hold's buyer, id and order."""
        if hold is not None:
            of_hold = {"buyer": hold.buyer, "hold_id": hold.hold_id, "order_id": hold.order_id}
            fields = {**of_hold, **fields}
        change = pb.InventoryChange(
            sequence=self.replay.sequence + 1,
            at_ms=self._now_ms,
            act=pb.InventoryAct.Value(f"INVENTORY_ACT_{act}"),
            **fields,
        )
        self.changes.append(change)
        self.replay.apply(change)


def _at(place: int | None) -> dict[str, Any]:
    """The place as a change has it, where there is one."""
    return {} if place is None else {"place": place}
