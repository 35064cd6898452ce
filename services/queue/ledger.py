"""The port to inventory's promise ledger: calling, looking at turns, ending them. Looks are batched."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc.aio
from catraca.inventory.v1 import inventory_pb2, inventory_pb2_grpc

from services.kit.batcher import Batcher, PerKey
from services.kit.errors import Refusal, refusal_for
from services.queue.states import PlaceState, Turn

A = TypeVar("A")

# What one Apply may carry.
COMMANDS_PER_APPLY = 1000

_TURN_STATES = {
    "PROMISED": PlaceState.CALLED,
    "FINISHED": PlaceState.FINISHED,
    "LAPSED": PlaceState.LAPSED,
    # The place is below the watermark but the ledger knows no promise of it any more: it is over.
    "NOT_CALLED": PlaceState.LAPSED,
}


@dataclass(frozen=True, slots=True)
class Callee:
    """One buyer to call: place, internal id, and when they joined."""

    place: int
    buyer: str
    joined_ms: int


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The ledger's watermark and counts."""

    watermark: int
    # What a CALL may promise, and what it may later on; what is promised and unspent; what is held.
    unpromised: int
    reserved: int
    promised: int
    held: int
    turns: int
    claims: int


@dataclass(frozen=True, slots=True)
class Called:
    """What a CALL came to: its word, how many were granted a turn, and the ledger after it."""

    word: str
    granted: int
    ledger: LedgerState | None


class Ledger(Protocol):
    """What the line needs of the ledger. Raises Refusal where inventory does not answer."""

    async def call(self, sale: str, start: int, end: int, callees: Sequence[Callee]) -> Called:
        """Asks for turns for the places [start, end); `callees` leaves out those that nobody holds."""

    async def look(self, sale: str, buyers: Sequence[tuple[str, int]]) -> list[Turn]:
        """The turns of (buyer, place), in order."""

    async def lapse(self, sale: str, buyers: Sequence[tuple[str, int]]) -> None:
        """Ends the promises of (buyer, place) as far as they are unspent."""

    async def state(self, sale: str) -> LedgerState:
        """The ledger as it stands."""


class GrpcLedger:
    """The ledger over inventory's LedgerService."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float = 5.0) -> None:
        """`channel` leads to inventory and carries the service's token."""
        self._stub = inventory_pb2_grpc.LedgerServiceStub(channel)
        self._deadline_s = deadline_s
        self._looks: PerKey[str, Batcher[tuple[str, int], Turn]] = PerKey(self._look_batcher)

    def _look_batcher(self, sale: str) -> Batcher[tuple[str, int], Turn]:
        async def run(items: list[tuple[str, int]]) -> list[Turn]:
            commands = [
                inventory_pb2.Command(look=inventory_pb2.LookCommand(buyer=buyer, place=place))
                for buyer, place in items
            ]
            return [turn_of(result) for result in await self._apply(sale, commands)]

        return Batcher(run, max_items=COMMANDS_PER_APPLY, max_pending=100_000, name="queue_looks")

    async def _apply(
        self, sale: str, commands: Sequence[inventory_pb2.Command]
    ) -> list[inventory_pb2.Result]:
        results: list[inventory_pb2.Result] = []
        for start in range(0, len(commands), COMMANDS_PER_APPLY):
            part = commands[start : start + COMMANDS_PER_APPLY]
            request = inventory_pb2.ApplyRequest(sale=sale, commands=part)
            answer = await _answered(self._stub.Apply(request, timeout=self._deadline_s))
            if len(answer.results) != len(part):
                raise Refusal("UNAVAILABLE")
            results.extend(answer.results)
        return results

    async def call(self, sale: str, start: int, end: int, callees: Sequence[Callee]) -> Called:
        """Asks for turns for the places [start, end)."""
        command = inventory_pb2.CallCommand(to=end)
        # `from` is a keyword of Python.
        setattr(command, "from", start)
        for callee in callees:
            command.callees.add(place=callee.place, buyer=callee.buyer, joined_at_ms=callee.joined_ms)
        (result,) = await self._apply(sale, [inventory_pb2.Command(call=command)])
        known = result.HasField("ledger")
        return Called(result.word, result.granted, ledger_of(result.ledger) if known else None)

    async def look(self, sale: str, buyers: Sequence[tuple[str, int]]) -> list[Turn]:
        """The turns of (buyer, place), in order."""
        return await self._looks[sale].submit_many(list(buyers))

    async def lapse(self, sale: str, buyers: Sequence[tuple[str, int]]) -> None:
        """Ends the promises of (buyer, place) as far as they are unspent."""
        await self._apply(
            sale,
            [
                inventory_pb2.Command(lapse=inventory_pb2.LapseCommand(buyer=buyer, place=place))
                for buyer, place in buyers
            ],
        )

    async def state(self, sale: str) -> LedgerState:
        """The ledger as it stands."""
        request = inventory_pb2.GetLedgerRequest(sale=sale)
        return ledger_of((await _answered(self._stub.GetLedger(request, timeout=self._deadline_s))).ledger)

    def forget(self, sale: str) -> None:
        """Lets go of what is kept for an archived sale."""
        self._looks.drop(sale)


async def _answered(call: Awaitable[A]) -> A:
    """The call's answer. Raises what it was refused with as a Refusal."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        refusal = refusal_for(error)
        if refusal is None:
            raise
        raise refusal from error


def turn_of(result: inventory_pb2.Result) -> Turn:
    """A LOOK's result as a turn."""
    state = _TURN_STATES.get(result.word)
    if result.detail.get("again"):
        # The line has called it, the ledger lost that with its store: the leader is about to call it again.
        raise Refusal("SALE_NOT_LOADED")
    if state is None:
        raise Refusal("UNAVAILABLE")
    promise = result.promise
    has = result.detail.get("has")
    return Turn(
        state,
        allowance=promise.allowance,
        left=promise.left,
        called_ms=promise.called_at_ms,
        ends_ms=promise.turn_ends_at_ms,
        has=int(has) if has is not None else None,
    )


def ledger_of(ledger: inventory_pb2.Ledger) -> LedgerState:
    """The ledger's message as the line reads it."""
    counts = ledger.counts
    return LedgerState(
        watermark=ledger.watermark,
        unpromised=ledger.unpromised,
        reserved=ledger.reserved,
        promised=counts.promised,
        held=counts.held,
        turns=ledger.turns,
        claims=ledger.claims,
    )
