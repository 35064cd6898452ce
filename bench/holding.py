"""Ways to hold a unit, each a subject of rounds that answers holds a second: for `holds` and `rivals`."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from catraca.inventory.v1 import inventory_pb2 as inventory

from bench.ground import BUYER, ROUND_S, SECTION, Ground, buyer, exchange
from bench.hall import Hall, hold
from bench.wire import Call, Played, Prepared, flood, paced

HOLD = "/catraca.inventory.v1.InventoryService/Hold"
APPLY_STREAM = "/catraca.inventory.v1.LedgerService/ApplyStream"
BATCH = 200
"""Commands of a message: as many holds of one unit as the budget of one run lets it take."""
BATCHES = 150
"""Messages of one round: some 30,000 holds."""
AHEAD = 8
STRAIGHT_AHEAD = 2
FAILED_PRECONDITION = 9

HELD = "HELD"


class Holding:
    """Holds in one sale through the service. Every hold is another buyer's."""

    def __init__(self, ground: Ground, sale: str, first: int = 1) -> None:
        """`first` numbers the buyers from there: another's holds are not one's own."""
        self._ground = ground
        self.sale = sale
        self._number = count(first)
        self._prepared = Prepared(self._calls())
        self._stream: Any = None
        self.held = 0
        """How many units were held so far, by what was answered."""

    def _calls(self) -> Iterator[Call]:
        """Unary holds of one unit."""
        item = inventory.HoldItem(section=SECTION, quantity=1)
        while True:
            number = next(self._number)
            request = inventory.HoldRequest(sale=self.sale, hold_id=f"hold-{number:09d}", items=[item])
            metadata = (BUYER, f"buyer-{number:09d}")
            yield self._ground.caller.call(HOLD, request.SerializeToString(), metadata)

    async def unary(self) -> float:
        """Holds a second, one in each call."""
        played = (await self._ground.play(self._prepared)).all(0)
        self.held += len(played.statuses)
        return played.rate

    async def unary_at(self, rate: float, seconds: float) -> Played:
        """The same at a rate that does not depend on how fast they are answered."""
        calls = self._prepared.ready(round(rate * seconds))
        await self._ground.at_rest()
        played = (await paced(self._ground.wires, calls, rate, seconds)).all(0)
        self.held += len(played.statuses)
        return played

    async def batched(self) -> float:
        """Holds a second through the ledger's stream."""
        return await self._batched(HELD)

    async def _batched(self, word: str) -> float:
        """Commands a second, each of which is answered with this word."""
        messages = [self._message() for _ in range(BATCHES)]
        await self._ground.at_rest()
        if self._stream is None:
            self._stream = self._ground.stream(APPLY_STREAM, "service")
        seconds, answers = await exchange(self._stream, messages, AHEAD)
        words = words_of(answers)
        if set(words) != {word}:
            raise AssertionError(f"holds were answered with {set(words)}, and not all with {word}")
        self.held += len(words) if word == HELD else 0
        return len(words) / seconds

    async def once(self) -> None:
        """Holds one unit."""
        call = next(self._prepared.ready(1))
        played = (await flood(self._ground.wires, [call], 1, ROUND_S)).all(0)
        self.held += len(played.statuses)

    async def check(self) -> None:
        """Raises AssertionError where the ledger counts other holds than were answered."""
        counts = (await self._ground.organiser.ledger(self.sale)).counts
        if counts.held != self.held:
            raise AssertionError(f"{self.held} units were answered as held, and the ledger has {counts.held}")

    def _message(self) -> bytes:
        commands = [
            inventory.Command(
                hold=inventory.HoldCommand(
                    hold_id=f"hold-{number:09d}",
                    buyer=buyer(number),
                    items=[inventory.HoldItem(section=SECTION, quantity=1)],
                )
            )
            for number in (next(self._number) for _ in range(BATCH))
        ]
        return bytes(inventory.ApplyStreamRequest(sale=self.sale, commands=commands).SerializeToString())


class Refusing(Holding):
    """The same where nothing is left: refusals a second."""

    async def unary(self) -> float:
        """Refusals a second, one in each call."""
        return (await self._ground.play(self._prepared)).all(FAILED_PRECONDITION).rate

    async def batched(self) -> float:
        """Refusals a second through the ledger's stream."""
        return await self._batched("SOLD_OUT")


class Straight:
    """The same script driven straight at Redis, in batches of the same size, as fast as it answers."""

    def __init__(self, hall: Hall) -> None:
        """The hall is no sale of the service's: no relay publishes what is held there."""
        self._hall = hall
        self._number = count(1)

    async def batched(self) -> float:
        """Holds a second."""
        batches = iter([self._batch() for _ in range(BATCHES)])
        began = time.perf_counter()
        answered = await asyncio.gather(*(self._drive(batches) for _ in range(STRAIGHT_AHEAD)))
        return sum(answered) / (time.perf_counter() - began)

    async def _drive(self, batches: Iterator[list[dict[str, Any]]]) -> int:
        answered = 0
        for batch in batches:
            results = await self._hall.run_all(batch)
            words = {result["word"] for result in results}
            if words != {HELD}:
                raise AssertionError(f"holds were answered with {words}")
            answered += len(results)
        return answered

    def _batch(self) -> list[dict[str, Any]]:
        numbers = [next(self._number) for _ in range(BATCH)]
        return [hold(buyer(number), f"hold-{number:09d}") for number in numbers]


def words_of(answers: list[bytes]) -> list[str]:
    """The words of every result. Raises AssertionError where a whole message was refused."""
    words: list[str] = []
    for answer in answers:
        response = inventory.ApplyStreamResponse.FromString(answer)
        if response.refusal:
            raise AssertionError(f"a message was refused: {response.refusal}")
        words += [result.word for result in response.results]
    return words
