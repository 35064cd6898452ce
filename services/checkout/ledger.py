"""The port to inventory's promise ledger: commands of one sale, gathered into batches."""

from collections.abc import Sequence
from typing import Protocol

import grpc.aio
from catraca.inventory.v1 import inventory_pb2 as ledger
from catraca.inventory.v1.inventory_pb2_grpc import LedgerServiceStub

from services.kit.batcher import Batcher, PerKey
from services.kit.definitions import Definition

COMMANDS_PER_APPLY = 1000
PENDING_PER_SALE = 50_000


class Ledger(Protocol):
    """What checkout needs of the ledger."""

    async def apply(self, sale: str, commands: Sequence[ledger.Command]) -> list[ledger.Result]:
        """Run commands in their order, with nobody's between them; one result each.

        Raises Refusal where inventory does not answer: what became of the commands is open then, and sending
        them again is safe.
        """


class GrpcLedger:
    """The ledger over inventory's LedgerService."""

    def __init__(self, channel: grpc.aio.Channel, timeout_s: float) -> None:
        """`channel` leads to inventory and carries this service's token."""
        self._stub = LedgerServiceStub(channel)
        self._timeout_s = timeout_s
        self._batches: PerKey[str, Batcher[ledger.Command, ledger.Result]] = PerKey(self._batcher)

    async def apply(self, sale: str, commands: Sequence[ledger.Command]) -> list[ledger.Result]:
        """Run commands in their order; calls that come together share a batch."""
        return await self._batches[sale].submit_many(list(commands))

    def follow(self, definition: Definition) -> None:
        """Give it to Definitions.on_change: it lets go of what is kept for an archived sale."""
        if definition.archived:
            self._batches.drop(definition.sale.sale)

    def _batcher(self, sale: str) -> Batcher[ledger.Command, ledger.Result]:
        async def run(commands: list[ledger.Command]) -> list[ledger.Result]:
            request = ledger.ApplyRequest(sale=sale, commands=commands)
            answer = await self._stub.Apply(request, timeout=self._timeout_s)
            return list(answer.results)

        return Batcher(run, COMMANDS_PER_APPLY, PENDING_PER_SALE, name="checkout_ledger")
