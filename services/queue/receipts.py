"""Receipts of joins: one Ed25519 signature per batch over the indexes given and the buyers' salted ids."""

from collections.abc import Awaitable, Callable, Sequence

from catraca.queue.v1 import queue_pb2
from catraca.sale.v1.sale_pb2 import Sale

from services.kit.signing import SigningKeys
from services.queue.draw import salted_id

SaltOf = Callable[[str], Awaitable[bytes]]


class Receipts:
    """Signs what a batch of joins came to; without keys there are no receipts."""

    def __init__(self, keys: SigningKeys | None, salt_of: SaltOf) -> None:
        """`salt_of` gives a sale's salt, the one of the draw's tree."""
        self._keys = keys
        self._salt_of = salt_of

    async def sign(
        self, sale: Sale, joined: Sequence[tuple[bytes, int]], at_ms: int
    ) -> queue_pb2.Receipt | None:
        """The receipt of (buyer, index) in the batch's order, naming the draw that they are in."""
        if self._keys is None or not joined:
            return None
        salt = await self._salt_of(sale.sale)
        body = queue_pb2.ReceiptBody(
            sale=sale.sale,
            signed_at_ms=at_ms,
            draw_commitment=sale.draw_commitment,
            beacon=sale.spec.line.beacon,
        )
        add = body.entries.add
        for buyer, index in joined:
            add(salted_buyer=salted_id(salt, buyer), index=index)
        serialized = body.SerializeToString()
        key = self._keys.signing
        return queue_pb2.Receipt(body=serialized, signature=key.sign(serialized), key_id=key.id)
