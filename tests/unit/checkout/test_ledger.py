"""The port to inventory's ledger keeps something of each sale, until that is archived."""

import gc
import weakref

import grpc.aio
from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, SALE_PHASE_OPEN, Sale

from services.checkout.ledger import GrpcLedger
from services.kit.definitions import Definition


async def test_an_archived_sale_leaves_nothing_behind() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        ledger = GrpcLedger(channel, 1.0)
        kept = {sale: weakref.ref(ledger._batches[sale]) for sale in ("gone", "open")}

        ledger.follow(Definition(Sale(sale="gone", phase=SALE_PHASE_ARCHIVED), 2))
        ledger.follow(Definition(Sale(sale="open", phase=SALE_PHASE_OPEN), 3))
        gc.collect()

        assert kept["gone"]() is None
        assert kept["open"]() is not None
