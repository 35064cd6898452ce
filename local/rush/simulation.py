"""The whole crowd: who does what when, what is under way, and whether anything can still happen."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale

from local.rush.agenda import Agenda
from local.rush.buyer import Buyer
from local.rush.intent import Do, Stage, World
from local.rush.measure import Measures
from local.rush.payer import Payer
from local.rush.people import person
from local.rush.record import Admitted, Answer, Ask, Attempt, Placed, Probe, Refused, View
from local.rush.settings import Plan
from local.rush.shop import Offer

# Refusals that say "the same again, a little later": nothing changed, or repeating is safe.
TRANSIENT = frozenset({"JOIN_LIMIT", "OVERLOADED", "UNAVAILABLE", "SALE_NOT_LOADED", "DEADLINE"})
# A pause that the sale asks of whoever comes back; the others tell that a service did not do its part.
ASKED_FOR = frozenset({"JOIN_LIMIT"})
MOST_TRIES = 40
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# What buyers plan of these kinds can still change how the sale ends.
CONSEQUENTIAL = frozenset({Ask.ENTER, Ask.HOLD, Ask.RELEASE, Ask.ORDER, Ask.PAY, Ask.CANCEL})


class Way(Protocol):
    """How a buyer's asks reach the services."""

    def send(self, do: Do) -> None:
        """Send it; the answer goes to `Simulation.answered`."""


class Simulation:
    """All buyers of one run and what they share."""

    def __init__(self, plan: Plan, payer: Payer, tasks: asyncio.TaskGroup) -> None:
        settings = plan.settings
        self.plan = plan
        self.settings = settings
        self.tasks = tasks
        self.measures = Measures()
        self.world = World(
            run=plan.sale,
            opens_at=float("inf"),
            turn_s=settings.turn_s,
            think_s=settings.think_s,
            offers=[Offer(section, capacity, tuple(types)) for section, capacity, types in plan.sections],
            stock={section: capacity for section, capacity, _ in plan.sections},
        )
        self.buyers = [Buyer(number, person(settings, number)) for number in range(settings.buyers)]
        self.agenda = Agenda(time.time, self.perform)
        self.in_flight = 0
        self.open_orders: set[Attempt] = set()
        self.standing = queue.SaleStanding()
        self.sold_out_at = 0.0
        self.sold = 0
        self.last_sold_at = 0.0
        self._direct: Way | None = None
        self._bffs: Sequence[Way] = ()
        self._payer = payer
        self._admission = ("", -1)
        self._random = random.Random(settings.seed)

    def connect(self, direct: Way, bffs: Sequence[Way]) -> None:
        """Say how the buyers reach the services: the first few directly, all others through BFFs."""
        self._direct, self._bffs = direct, bffs

    def open_doors(self, opens_at: float) -> None:
        """The sale is defined and its lobby open: plan all arrivals."""
        self.world = self.world._replace(opens_at=opens_at)
        now = time.time()
        for buyer in self.buyers:
            share = buyer.person.arrives
            if buyer.person.late:
                self.agenda.plan(buyer.arrives(opens_at + share * self.settings.late_s))
            else:
                self.agenda.plan(buyer.arrives(now + share * self.settings.spread_s))

    # ---- asks and answers ----

    def perform(self, do: Do) -> None:
        """Its time has come: send it."""
        now = time.time()
        if not do.buyer.still_means(do) or (do.probe is Probe.FOREIGN and not self._borrow(do, now)):
            return
        if not do.tries:
            do.buyer.begins(do, now)
        self.in_flight += 1
        if do.ask is Ask.PAY:
            self.tasks.create_task(self._pay(do))
        else:
            self.way_of(do.buyer).send(do)

    def way_of(self, buyer: Buyer) -> Way:
        """How this buyer's asks reach the services."""
        beyond = buyer.number - self.settings.direct
        if beyond < 0:
            assert self._direct is not None
            return self._direct
        return self._bffs[beyond % len(self._bffs)]

    def answered(self, do: Do, answer: Answer) -> None:
        """What was asked has its answer."""
        self.in_flight -= 1
        now = time.time()
        if isinstance(answer, Refused):
            if answer.word in TRANSIENT - ASKED_FOR:
                self.measures.setbacks[int(now), f"{do.ask} {answer.word}"] += 1
            if answer.word in TRANSIENT and do.tries < MOST_TRIES:
                self._try_again(do, answer.word, now)
                return
            self.measures.refusals[f"{do.ask} {answer.word}"] += 1
        else:
            self._measure(do, now)
        if isinstance(answer, Admitted):
            self._admission = (answer.token, do.buyer.number)
        does = do.buyer.is_answered(do, answer, self.world, now)
        if isinstance(answer, Placed) and do.attempt is not None and do.attempt.accepted:
            self._follow(do.attempt)
        self.agenda.plan(does)

    def _try_again(self, do: Do, word: str, now: float) -> None:
        """The same ids again: whether the first try had an effect does not matter."""
        self.measures.retries[f"{do.ask} {word}"] += 1
        pause = min(FIRST_PAUSE_S * 2**do.tries, LONGEST_PAUSE_S)
        do.tries += 1
        do.at = now + pause * self._random.uniform(0.5, 1.0)
        self.agenda.plan([do])

    def _measure(self, do: Do, now: float) -> None:
        match do.ask:
            case Ask.JOIN:
                first = do.buyer.stage is Stage.AWAY
                self.measures.joined(now, do.sent_at, fills_lobby=first and now < self.world.opens_at)
            case Ask.ENTER:
                self.measures.durations["enter"].add(now - do.sent_at)
            case Ask.HOLD:
                self.measures.durations["hold"].add(now - do.sent_at)
            case Ask.ORDER:
                self.measures.ordered(now, do.sent_at)
            case _:
                pass

    def _borrow(self, do: Do, now: float) -> bool:
        """Give an intruder the admission of somebody else; wait where there is none yet."""
        token, owner = self._admission
        if token and owner != do.buyer.number:
            do.admission = token
            return True
        do.at = now + 0.5
        self.agenda.plan([do])
        return False

    async def _pay(self, do: Do) -> None:
        assert do.attempt is not None
        self.answered(do, await self._payer.pay(do.attempt.url, do.card))

    # ---- what is told ----

    def is_called(self, buyer: Buyer) -> None:
        """`serving` passed the buyer's place."""
        now = time.time()
        if buyer.stage is Stage.WAITING:
            self.measures.durations["turn wait"].add(now - max(buyer.joined_at, self.world.opens_at))
        self.agenda.plan(buyer.is_called(self.world, now))

    def is_told(self, buyer: Buyer, view: View) -> None:
        """A stream told the state of an order."""
        now = time.time()
        attempt = next((one for one in buyer.attempts if one.key == view.key), None)
        # A stream that was opened again repeats the last state, which is no news.
        if attempt is not None and view.version > attempt.version:
            self.measures.durations["decision to stream"].add(now - view.decided_at)
        had_ended = attempt is None or attempt.ended
        self.agenda.plan(buyer.is_told(view, now))
        if attempt is None or had_ended or not attempt.ended:
            return
        self.open_orders.discard(attempt)
        if attempt.state == "CONFIRMED":
            self.sold += attempt.units
            self.last_sold_at = now
            if attempt.prompt or attempt.amount == 0:
                self.measures.durations["order to outcome"].add(now - attempt.sent_at)

    def stands(self, standing: queue.SaleStanding) -> None:
        """The sale's standing, as everybody who waits is told."""
        self.standing.CopyFrom(standing)
        if standing.availability == queue.AVAILABILITY_SOLD_OUT and not self.sold_out_at:
            self.sold_out_at = time.time()

    def _follow(self, attempt: Attempt) -> None:
        if not attempt.ended:
            self.open_orders.add(attempt)

    # ---- the end ----

    def stages(self) -> Counter[Stage]:
        """How many buyers are at each stage."""
        return Counter(buyer.stage for buyer in self.buyers)

    def is_quiet(self, soon_s: float = 2.0) -> bool:
        """No order is open, nothing is under way, and nothing of consequence is planned soon."""
        soon = time.time() + soon_s
        return (
            not self.open_orders
            and not self.in_flight
            and not any(do.ask in CONSEQUENTIAL and do.at < soon for do in self.agenda)
        )

    def nobody_waits(self) -> bool:
        """Everybody who came was called or has gone, and nobody is still to come."""
        stages = self.stages()
        waiting = stages[Stage.WAITING] + stages[Stage.LEAVING] + stages[Stage.CALLED] + stages[Stage.AWAY]
        return not waiting and not any(do.ask is Ask.JOIN for do in self.agenda)

    def phase(self) -> str:
        """The sale's phase as last told."""
        return sale.SalePhase.Name(self.standing.phase).removeprefix("SALE_PHASE_")
