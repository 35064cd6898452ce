"""Takes orders in: durably in JetStream, claimed at the ledger, answered without waiting for the database."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from catraca.events.v1.events_pb2 import OrderIntake
from catraca.sale.v1.sale_pb2 import LINE_KIND_NONE
from google.protobuf.message import DecodeError
from nats.js import JetStreamContext

from services.checkout import rules
from services.checkout.ledger import Ledger
from services.checkout.messages import claim_command, item_message, order_of
from services.checkout.pauses import Pauses
from services.checkout.records import Item, Order
from services.checkout.saga import now_ms
from services.kit import admission, tracing
from services.kit.definitions import Definition, Definitions
from services.kit.errors import Refusal, refuse_word
from services.kit.identity import Buyer
from services.kit.keys import Ring
from services.kit.publisher import Publisher
from services.kit.streams import WrongSequence, cloud_headers, last_message, read_all

STREAM = "INTAKE"
SOURCE = "catraca/checkout"
EVENT_TYPE = "catraca.order.intake"
# One subject per order, so the number of subjects is the number of orders; no page of them is needed.
BEYOND_EVERY_PAGE = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What a buyer asks for."""

    sale: str
    idempotency_key: str
    items: tuple[Item, ...]
    hold_id: str
    admission: str


class Intake:
    """Accepts orders, and finds those that no worker has seen yet."""

    def __init__(
        self,
        js: JetStreamContext,
        ledger: Ledger,
        definitions: Definitions,
        admission_keys: Ring,
        pauses: Pauses,
        at_once: int,
    ) -> None:
        """`at_once` is how many orders may be under way before more are refused."""
        self._js = js
        self._publisher = Publisher(js, STREAM)
        self._ledger = ledger
        self._definitions = definitions
        self._keys = admission_keys
        self._pauses = pauses
        self._room = at_once

    async def definition(self, sale: str) -> Definition:
        """The sale's definition. Raises INVALID_FIELD or SALE_NOT_FOUND."""
        rules.sale_id(sale)
        return await self._definitions.find(sale)

    async def place(self, buyer: Buyer, wish: Wish) -> Order:
        """– → ACCEPTED: stored, then claimed. The same wish again answers the same.

        Before anything is stored, raises the refusal of a wish that is malformed or for what the sale has not
        got, and ORDER_LIMIT of a buyer who was refused too often. The ledger's refusal is the order's end,
        which a worker will write down.
        """
        definition = await self.definition(wish.sale)
        if definition.archived:
            raise Refusal("SALE_ARCHIVED", sale=wish.sale)
        rules.check_request(wish.idempotency_key, wish.items, wish.hold_id)
        await self._check_items(wish, definition)
        asked = self._asked(buyer, wish, definition)
        if self._room <= 0:
            raise Refusal("OVERLOADED")
        self._room -= 1
        try:
            return await self._accept(asked, definition.sale.spec.currency)
        finally:
            self._room += 1

    async def _accept(self, asked: OrderIntake, currency: str) -> Order:
        await self._check_pause(asked)
        stored = await self._stored(asked)
        order = order_of(stored, currency)
        (result,) = await self._ledger.apply(asked.sale, [claim_command(order)])
        if result.word == "CLAIMED":
            return order
        refusal = refuse_word(result.word, result.detail)
        # An earlier order's answer is repeated as it was: it says nothing of now.
        if refusal.word == "ORDER_LIMIT" and refusal.retry_after_s and stored is asked:
            self._pauses.begin(asked.sale, asked.buyer, refusal.retry_after_s)
        raise refusal

    async def _check_pause(self, asked: OrderIntake) -> None:
        """Raises ORDER_LIMIT for a new order of a buyer whom the ledger refuses in any case for a while."""
        left_s = self._pauses.left_s(asked.sale, asked.buyer)
        if left_s and await self.find(asked.sale, asked.buyer, asked.order_id) is None:
            raise Refusal("ORDER_LIMIT", retry_after_s=left_s)

    async def _check_items(self, wish: Wish, definition: Definition) -> None:
        """Raises SECTION_NOT_FOUND or TICKET_TYPE_NOT_FOUND for what the latest definition does not have."""
        try:
            rules.check_offered(wish.items, definition.sale.spec)
        except Refusal:
            # Perhaps it was added a moment ago and the news of it is still on its way.
            latest = await self._definitions.latest(wish.sale)
            rules.check_offered(wish.items, latest.sale.spec)

    async def find(self, sale: str, buyer: str, order_id: str) -> OrderIntake | None:
        """What a buyer asked for, by the order's id."""
        subject = rules.intake_subject(sale, buyer, order_id)
        message = await last_message(self._js, STREAM, subject, from_leader=True)
        return None if message is None else read(message.data)

    async def all_of(self, sale: str) -> AsyncIterator[OrderIntake]:
        """Every order that was ever taken in for a sale; what cannot be read is left out."""
        async for message in read_all(self._js, STREAM, f"catraca.intake.{sale}.>"):
            asked = read(message.data)
            if asked is not None:
                yield asked

    async def count(self, sale: str) -> int:
        """How many orders were ever taken in for a sale."""
        request = {"subjects_filter": f"catraca.intake.{sale}.>", "offset": BEYOND_EVERY_PAGE}
        nc = self._js._nc
        answer = await nc.request(f"$JS.API.STREAM.INFO.{STREAM}", json.dumps(request).encode(), timeout=5)
        info = json.loads(answer.data)
        if "error" in info:
            raise Refusal("UNAVAILABLE")
        return int(info.get("total", 0))

    def _asked(self, buyer: Buyer, wish: Wish, definition: Definition) -> OrderIntake:
        buyer_id = buyer.id_in(definition.sale)
        intake = OrderIntake(
            sale=wish.sale,
            buyer=buyer_id,
            order_id=rules.order_id_of(wish.sale, buyer_id, wish.idempotency_key),
            request_hash=rules.request_hash(
                wish.sale, buyer_id, wish.idempotency_key, wish.items, wish.hold_id
            ),
            idempotency_key=wish.idempotency_key,
            items=[item_message(item) for item in wish.items],
            hold_id=wish.hold_id,
            accepted_at_ms=now_ms(),
            namespace=buyer.namespace,
            subject=buyer.subject,
        )
        if wish.admission:
            claims = admission.verify(wish.admission, self._keys, sale=wish.sale, buyer=buyer_id)
            intake.place = claims.place
            intake.joined_at_ms = claims.joined_at_ms
            intake.called_at_ms = claims.called_at_ms
        elif definition.sale.spec.line.kind != LINE_KIND_NONE and not wish.hold_id:
            raise Refusal("ADMISSION_REQUIRED")
        return intake

    async def _stored(self, intake: OrderIntake) -> OrderIntake:
        """The message on this key's subject: this one, or an earlier one with the same request."""
        subject = rules.intake_subject(intake.sale, intake.buyer, intake.order_id)
        try:
            with tracing.inner("INTAKE publish", tracing.SpanKind.PRODUCER):
                headers = cloud_headers(EVENT_TYPE, SOURCE, subject, intake.order_id, intake.accepted_at_ms)
                await self._publisher.publish(subject, intake.SerializeToString(), 0, headers)
        except WrongSequence:
            known = await self.find(intake.sale, intake.buyer, intake.order_id)
            if known is None:
                raise Refusal("UNAVAILABLE") from None
            if known.request_hash != intake.request_hash:
                raise Refusal("IDEMPOTENCY_KEY_REUSED") from None
            return known
        return intake


def read(data: bytes) -> OrderIntake | None:
    """A message of INTAKE; None for one that is none."""
    try:
        return OrderIntake.FromString(data)
    except DecodeError:
        return None
