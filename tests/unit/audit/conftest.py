"""A small sale in which everything went well, as the audit sees it; tests corrupt what they are about."""

import pytest
from catraca.events.v1 import events_pb2 as pb
from catraca.inventory.v1.inventory_pb2 import HeldUnit, HoldItem
from catraca.sale.v1 import sale_pb2

from local.audit.facts import (
    Announced,
    Batch,
    Facts,
    Intake,
    InventoryStore,
    Order,
    Payment,
    QueueStore,
    SectionCounts,
    Session,
    StoredHold,
    StoredPromise,
    Ticket,
)
from local.audit.replay import Replay
from services.checkout import rules
from services.checkout.records import Item
from services.checkout.states import OrderState
from services.kit.buyers import to_text
from services.queue import draw
from services.queue.seeds import DrawSecrets

SALE = "concert"
PRICE = 5000
CAPACITY = 6
RAW = [bytes([number]) * 16 for number in range(1, 6)]
SECRETS = DrawSecrets(seed=b"s" * 32, salt=b"t" * 32)
LATE = 4
"""The buyer who joins after opening."""

ACCEPTED, HELD, AWAITING = OrderState.ACCEPTED, OrderState.HELD, OrderState.AWAITING_PAYMENT
PAID = [ACCEPTED, HELD, AWAITING, OrderState.AUTHORIZED, OrderState.CAPTURING, OrderState.CONFIRMED]
ENDS = {
    "paid": PAID,
    "expired": [ACCEPTED, HELD, AWAITING, OrderState.EXPIRED],
    "rejected": [ACCEPTED, OrderState.REJECTED],
}


class Scene:
    """Writes down what happens, in every store and stream where the system would."""

    def __init__(self) -> None:
        self.inventory: list[pb.InventoryChange] = []
        self.queue: list[pb.QueueChange] = []
        self.intake: list[Intake] = []
        self.announced: dict[str, list[Announced]] = {}
        self.orders: dict[str, Order] = {}
        self.tickets: list[Ticket] = []
        self.payments: dict[str, Payment] = {}
        self.sessions: list[Session] = []
        self.at_ms = 1_000_000
        self._next_unit = 0

    def ledger(self, act: str, buyer: str = "", **fields: object) -> None:
        self.at_ms += 10
        change = pb.InventoryChange(sequence=len(self.inventory) + 1, at_ms=self.at_ms, buyer=buyer, **fields)
        change.act = pb.InventoryAct.Value(f"INVENTORY_ACT_{act}")
        self.inventory.append(change)

    def line(self, act: str, **fields: object) -> None:
        self.at_ms += 10
        change = pb.QueueChange(sequence=len(self.queue) + 1, at_ms=self.at_ms, **fields)
        change.act = pb.QueueAct.Value(f"QUEUE_ACT_{act}")
        self.queue.append(change)

    def order(self, buyer: str, place: int, end: str, quantity: int = 2) -> None:
        """An order from its acceptance to its end."""
        key = f"key-of-{end}-{place}"
        order_id = rules.order_id_of(SALE, buyer, key)
        items = (Item("floor", "full", quantity),)
        request_hash = rules.request_hash(SALE, buyer, key, items, "")
        wanted = [HoldItem(section="floor", ticket_type="full", quantity=quantity)]
        asked = pb.OrderIntake(
            sale=SALE,
            buyer=buyer,
            order_id=order_id,
            request_hash=request_hash,
            idempotency_key=key,
            items=wanted,
        )
        subject = rules.intake_subject(SALE, buyer, order_id)
        self.intake.append(Intake(len(self.intake) + 1, subject, asked))
        units: list[tuple[str, int]] = []
        if end != "rejected":
            units = self._hold(buyer, place, order_id, quantity, wanted)
        if end == "paid":
            self.ledger("COMMITTED", buyer, order_id=order_id, hold_id=order_id, place=place)
        elif end == "expired":
            self.ledger("EXPIRED", buyer, order_id=order_id, hold_id=order_id, place=place, restored=quantity)
        states = ENDS[end]
        self.announced[order_id] = [
            Announced(
                stream_seq=number,
                header_version=number,
                version=number,
                state=state,
                tickets=quantity * (state is OrderState.CONFIRMED),
            )
            for number, state in enumerate(states)
        ]
        reason = "" if end == "paid" else "PAYMENT_TIMEOUT" if end == "expired" else "SECTION_SOLD_OUT"
        amount = PRICE * len(units)
        self.orders[order_id] = Order(
            order_id,
            buyer,
            states[-1],
            reason,
            len(states) - 1,
            key,
            request_hash,
            order_id,
            units,
            amount,
            False,
        )
        if units:
            self._pay(order_id, units, amount, end == "paid")

    def _hold(
        self, buyer: str, place: int, order_id: str, quantity: int, items: list[HoldItem]
    ) -> list[tuple[str, int]]:
        names = {"order_id": order_id, "place": place}
        self.ledger("CLAIMED", buyer, quantity=quantity, items=items, **names)
        numbers = range(self._next_unit, self._next_unit + quantity)
        self._next_unit += quantity
        held = [HeldUnit(section="floor", unit=unit, ticket_type="full", price=PRICE) for unit in numbers]
        self.ledger("HELD", buyer, hold_id=order_id, units=held, **names)
        self.ledger("PINNED", buyer, order_id=order_id, hold_id=order_id)
        return [("floor", unit) for unit in numbers]

    def _pay(self, order_id: str, units: list[tuple[str, int]], amount: int, paid: bool) -> None:
        session_id = f"session-{order_id}"
        self.payments[order_id] = Payment(order_id, session_id, "CAPTURED" if paid else "LAPSED", amount)
        state = "captured" if paid else "expired"
        self.sessions.append(Session(session_id, order_id, state, amount, amount if paid else 0, 0))
        if paid:
            self.tickets += [
                Ticket(f"{order_id}-{unit}", order_id, section, unit, PRICE, True, f"code-{order_id}-{unit}")
                for section, unit in units
            ]


def definition() -> sale_pb2.Sale:
    """One section, four tickets at most for each, and a line."""
    spec = sale_pb2.SaleSpec(
        currency="BRL",
        sections=[
            sale_pb2.Section(
                id="floor", capacity=CAPACITY, ticket_types=[sale_pb2.TicketType(id="full", price=PRICE)]
            )
        ],
        line=sale_pb2.Line(kind=sale_pb2.LINE_KIND_DRAW),
        limits=sale_pb2.Limits(per_buyer=3),
    )
    return sale_pb2.Sale(sale=SALE, spec=spec, revision=1, draw_commitment=draw.commitment(SECRETS.seed))


def told(scene: Scene) -> None:
    """Four join the lobby and one after opening; one leaves; all others are called, three order."""
    scene.ledger("DEFINED", quantity=CAPACITY, watermark=1)
    scene.line("DEFINED", cohort=1)
    scene.line("JOINED", index=0, buyers=b"".join(RAW[:3]))
    scene.line("JOINED", index=3, buyers=RAW[3])
    scene.line("LEFT", index=3, buyers=RAW[3])
    scene.line("FROZEN", cohort=4)
    root = draw.merkle_root(SECRETS.salt, RAW[:4])
    scene.line("DRAWN", root=root.hex(), seed=SECRETS.seed.hex())
    scene.line("JOINED", index=4, buyers=RAW[LATE])
    permutation = draw.Permutation(draw.draw_key(SECRETS.seed, root), 4)
    ends = iter(["paid", "expired", "paid"])
    for place in range(5):
        index = permutation.index(place) if place < 4 else place
        buyer = to_text(RAW[index])
        if index == 3:
            continue
        scene.ledger("CALLED", buyer, place=place, quantity=2, watermark=place + 1)
        scene.line("SERVING", serving=place + 1)
        end = next(ends, "rejected")
        scene.order(buyer, place, end)
        if end == "paid":
            scene.ledger("LAPSED", buyer, place=place, quantity=0)
        else:
            scene.ledger("LAPSED", buyer, place=place, quantity=2)


def inventory_store(facts: Facts) -> InventoryStore:
    """Redis as these events leave it."""
    replay = Replay(facts)
    units = {}
    for name, section in replay.sections.items():
        packed = bytearray(2)
        for unit, state in section.units.items():
            packed[unit >> 2] |= state << (6 - 2 * (unit & 3))
        units[name] = bytes(packed)
    return InventoryStore(
        epoch=1,
        sequence=replay.sequence,
        watermark=replay.watermark,
        promised=replay.promised,
        turns=replay.turns,
        claims=len(replay.claims),
        sections={
            name: SectionCounts(each.capacity, each.held, each.sold, each.blocked, each.claimed)
            for name, each in replay.sections.items()
        },
        units=units,
        buyers={buyer: (has.held, has.owned, has.claimed) for buyer, has in replay.buyers.items()},
        promises={
            buyer: StoredPromise("PROMISED" if each.live else "LAPSED", each.place, each.left)
            for buyer, each in replay.promises.items()
        },
        holds={
            key: StoredHold(hold.state, hold.order_id, [unit[:2] for unit in hold.units])
            for key, hold in replay.holds.items()
        },
    )


def queue_store(scene: Scene) -> QueueStore:
    """The line in Redis as these events leave it."""
    root = draw.merkle_root(SECRETS.salt, RAW[:4])
    index = {buyer: number for number, buyer in enumerate(RAW)}
    index[RAW[3]] = -4
    return QueueStore(
        epoch=1,
        sequence=len(scene.queue),
        count=5,
        cohort=4,
        serving=5,
        draw_key=draw.draw_key(SECRETS.seed, root),
        index=index,
        members=b"".join(buyer + bytes(6) for buyer in RAW),
    )


@pytest.fixture
def facts() -> Facts:
    """The whole sale, settled, without a fault."""
    scene = Scene()
    told(scene)
    whole = Facts(
        sale=SALE,
        definitions={1: definition()},
        settled=True,
        inventory_batches=[Batch(1, 1, 1, len(scene.inventory), len(scene.inventory))],
        inventory=scene.inventory,
        queue_batches=[Batch(1, 1, 1, len(scene.queue), len(scene.queue))],
        queue=scene.queue,
        queue_store=queue_store(scene),
        draw=SECRETS,
        intake=scene.intake,
        announced=scene.announced,
        orders=scene.orders,
        tickets=scene.tickets,
        payments=scene.payments,
        sessions=scene.sessions,
    )
    whole.inventory_store = inventory_store(whole)
    return whole
