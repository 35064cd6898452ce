"""The same store for the other services: batches of commands in, one result each, in their order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.inventory.v1 import inventory_pb2_grpc

from services.inventory import rules, translate
from services.inventory.house import House
from services.inventory.store import Store
from services.inventory.workers.relay import Relays
from services.kit.definitions import Definitions
from services.kit.errors import Refusal, refusal_for
from services.kit.identity import caller
from services.kit.lua import NotLoaded

ROLE = "service"
PUBLISH_WAIT_S = 5.0


class LedgerService(inventory_pb2_grpc.LedgerServiceServicer):
    """catraca.inventory.v1.LedgerService."""

    def __init__(self, store: Store, definitions: Definitions, relays: Relays, load_wait_s: float) -> None:
        self._store = store
        self._definitions = definitions
        self._relays = relays
        self._load_wait_s = load_wait_s

    async def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:
        """Runs the commands of one sale in their order."""
        caller(context).need(ROLE)
        return pb.ApplyResponse(results=await self._apply(request.sale, request.commands))

    async def ApplyStream(
        self, requests: AsyncIterator[pb.ApplyStreamRequest], context: Any
    ) -> AsyncIterator[pb.ApplyStreamResponse]:
        """The same as a stream: one response per request, in order."""
        caller(context).need(ROLE)
        async for request in requests:
            try:
                results = await self._apply(request.sale, request.commands)
            except Exception as error:
                refusal = refusal_for(error)
                if refusal is None:
                    raise
                yield pb.ApplyStreamResponse(refusal=refusal.word)
            else:
                yield pb.ApplyStreamResponse(results=results)

    async def GetLedger(self, request: pb.GetLedgerRequest, context: Any) -> pb.GetLedgerResponse:
        """Reads the ledger's watermark and counts."""
        caller(context).need(ROLE)
        rules.check_sale(request.sale)
        result = await self._store.submit(request.sale, {"op": "ledger"})
        return pb.GetLedgerResponse(ledger=translate.ledger_of(result["ledger"]))

    async def Load(self, request: pb.LoadRequest, context: Any) -> pb.LoadResponse:
        """Answers once the store holds the sale's definition of at least this revision."""
        caller(context).need(ROLE)
        rules.check_sale(request.sale)
        # The bucket's leader has every sale that was ever defined; only a revision may still be on its way.
        await self._definitions.latest(request.sale)
        async with asyncio.timeout(self._load_wait_s):
            definition = await self._definitions.at_least(request.sale, request.revision)
        if definition.archived:
            raise Refusal("SALE_ARCHIVED", sale=request.sale)
        return pb.LoadResponse(revision=await self._store.load(definition))

    async def Drop(self, request: pb.DropRequest, context: Any) -> pb.DropResponse:
        """Frees an archived sale's keys."""
        caller(context).need(ROLE)
        rules.check_sale(request.sale)
        if not self._definitions.get(request.sale).archived:
            # What is not there was freed before.
            with contextlib.suppress(NotLoaded):
                await self._store.drop(request.sale, await self._all_published(request.sale))
        return pb.DropResponse()

    async def _all_published(self, sale: str) -> int:
        """Sequence of the last change, once JetStream has it."""
        result = await self._store.submit(sale, {"op": "ledger"})
        sequence = int(result["ledger"]["sequence"])
        async with asyncio.timeout(PUBLISH_WAIT_S):
            await self._relays.wait_published(sale, sequence)
        return sequence

    async def _apply(self, sale: str, commands: Sequence[pb.Command]) -> list[pb.Result]:
        rules.check_sale(sale)
        if len(commands) > rules.COMMANDS:
            raise Refusal("INVALID_FIELD", field="commands", expected=f"at most {rules.COMMANDS}")
        # The sale is judged first: an unknown one is no command's fault.
        await self._definitions.found(sale)
        await self._store.loaded(sale)
        house = self._store.house(sale)
        read = [_read(command, house) for command in commands]
        wanted = [command for command in read if not isinstance(command, Refusal)]
        results = iter(await self._store.submit_many(sale, wanted))
        return [
            translate.result_of_refusal(command)
            if isinstance(command, Refusal)
            else translate.result_of(next(results))
            for command in read
        ]


def _read(command: pb.Command, house: House) -> rules.Command | Refusal:
    """The command as the script takes it, or why it cannot be; that does not stop the others."""
    try:
        read = rules.command_of(command)
        if "items" in read:
            read["items"] = (house.to_block if read["op"] == "block" else house.with_units)(read["items"])
        return read
    except Refusal as refusal:
        return refusal
