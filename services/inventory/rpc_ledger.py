"""The same store for the other services: batches of commands in, one result each, in their order."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.inventory.v1 import inventory_pb2_grpc
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from services.inventory import rules, translate
from services.inventory.house import House
from services.inventory.store import Result, Store
from services.inventory.workers.relay import Relays
from services.kit.definitions import Definitions
from services.kit.errors import Refusal, refusal_for
from services.kit.identity import caller
from services.kit.tasks import stop

ROLE = "service"
PUBLISH_WAIT_S = 5.0
# Requests of one stream whose commands stand in line at once: enough that batches fill while answers travel.
REQUESTS_AHEAD = 32

Answer = Coroutine[Any, Any, pb.ApplyStreamResponse]
"""Awaits the results of commands that stand in line."""

Read = Sequence[rules.Command | Refusal]
Running = asyncio.Future[list[Result]]


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
        response = pb.ApplyResponse()
        read, running = await self._enqueued(request.sale, request.commands)
        _fill(response.results, read, await running)
        return response

    async def ApplyStream(
        self, requests: AsyncIterator[pb.ApplyStreamRequest], context: Any
    ) -> AsyncIterator[pb.ApplyStreamResponse]:
        """The same as a stream: one response per request, in order. The next ones are read meanwhile."""
        caller(context).need(ROLE)
        # What is full stops the reading, and so the caller.
        under_way: asyncio.Queue[Answer | None] = asyncio.Queue(REQUESTS_AHEAD)
        reading = asyncio.create_task(self._read_ahead(requests, under_way))
        try:
            while (answer := await under_way.get()) is not None:
                try:
                    yield await answer
                except Exception as error:
                    yield pb.ApplyStreamResponse(refusal=_word_of(error))
            await reading
        finally:
            await stop(reading)
            while not under_way.empty():
                if (left := under_way.get_nowait()) is not None:
                    left.close()

    async def _read_ahead(
        self, requests: AsyncIterator[pb.ApplyStreamRequest], under_way: "asyncio.Queue[Answer | None]"
    ) -> None:
        """Puts each request's commands in line, in the order of the stream, before it reads the next."""
        try:
            async for request in requests:
                try:
                    answer = _answer(*await self._enqueued(request.sale, request.commands))
                except Exception as error:
                    answer = _refused(error)
                try:
                    await under_way.put(answer)
                except asyncio.CancelledError:
                    answer.close()
                    raise
        except Exception:
            await under_way.put(None)
            raise
        await under_way.put(None)

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
        definition = self._definitions.get(request.sale)
        if not definition.archived and not await self._store.is_dropped(definition):
            await self._store.drop(request.sale, await self._all_published(request.sale))
        return pb.DropResponse()

    async def _all_published(self, sale: str) -> int:
        """Sequence of the last change, once JetStream has it."""
        result = await self._store.submit(sale, {"op": "ledger"})
        sequence = int(result["ledger"]["sequence"])
        async with asyncio.timeout(PUBLISH_WAIT_S):
            await self._relays.wait_published(sale, sequence)
        return sequence

    async def _enqueued(self, sale: str, commands: Sequence[pb.Command]) -> tuple[Read, Running]:
        """The commands as they were read, and what answers those that stand in line by then."""
        rules.check_sale(sale)
        if len(commands) > rules.COMMANDS:
            raise Refusal("INVALID_FIELD", field="commands", expected=f"at most {rules.COMMANDS}")
        # The sale is judged first: an unknown one is no command's fault.
        await self._definitions.found(sale)
        await self._store.loaded(sale)
        house = self._store.house(sale)
        read = [_read(command, house) for command in commands]
        wanted = [command for command in read if not isinstance(command, Refusal)]
        return read, await self._store.enqueue(sale, wanted)


async def _answer(read: Read, running: Running) -> pb.ApplyStreamResponse:
    response = pb.ApplyStreamResponse()
    _fill(response.results, read, await running)
    return response


def _fill(
    filled: "RepeatedCompositeFieldContainer[pb.Result]", read: Read, results: Iterable[Result]
) -> None:
    """One result for each command, in order, made where it stays: a list of them would be copied."""
    following, add = iter(results), filled.add
    for command in read:
        if isinstance(command, Refusal):
            translate.fill_refused(add(), command)
        else:
            translate.fill_result(add(), next(following))


async def _refused(error: Exception) -> pb.ApplyStreamResponse:
    raise error


def _word_of(error: Exception) -> str:
    """The word that a request is refused with. Raises what is a defect."""
    refusal = refusal_for(error)
    if refusal is None:
        raise error
    return refusal.word


def _read(command: pb.Command, house: House) -> rules.Command | Refusal:
    """The command as the script takes it, or why it cannot be; that does not stop the others."""
    try:
        read = rules.command_of(command)
        if "items" in read:
            read["items"] = (house.to_block if read["op"] == "block" else house.with_units)(read["items"])
        return read
    except Refusal as refusal:
        return refusal
