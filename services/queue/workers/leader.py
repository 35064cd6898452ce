"""The one who calls, per sale: holds the lease, draws at opening, asks the ledger for turns, follows it.

Two leaders at once do no harm: the ledger accepts a CALL only from its own watermark, `serving` only moves
forward, and what those who wait are told is fenced.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from catraca.queue.v1.queue_pb2 import BeaconRound

from services.kit.buyers import to_text
from services.kit.definitions import Definition
from services.kit.errors import Refusal, refusal_for
from services.kit.logs import get_logger
from services.kit.tasks import stop
from services.queue import rules
from services.queue.beacon import Drand, value_of
from services.queue.draw import Permutation, draw_key
from services.queue.ledger import Callee, Ledger, LedgerState
from services.queue.seeds import DrawSecrets
from services.queue.states import Phase, Standing
from services.queue.store import Callees, LineStore
from services.queue.trees import Trees
from services.queue.workers.turns import TurnTeller

# The ledger as last seen is believed for so long at most; news of the stock end it sooner.
LEDGER_S = 1.0
# While nobody can be called, news of the stock and of who joins wake the leader; it looks this often beside.
REST_S = 1.0
# While nothing can happen the line is looked at this often; a new definition wakes the loop sooner.
IDLE_S = 30.0
LOBBY_S = 1.0
# Between two looks, however fast the stock changes: others on this event loop have their turn.
BREATH_S = 0.01
BACKOFF_S = (0.1, 2.0)

log = get_logger("leader")


SecretsOf = Callable[[str], Awaitable[DrawSecrets]]
Kept = Callable[[str, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How a leader goes about it."""

    lease_ttl_ms: int
    poll_s: float
    """Seconds between two looks while somebody waits who may be called."""
    batch: int
    """Callees of one CALL at most."""


class Leader:
    """One replica's candidate for calling one sale's line."""

    def __init__(
        self,
        sale: str,
        token: str,
        store: LineStore,
        ledger: Ledger,
        definition_of: Callable[[str], Definition],
        secrets_of: SecretsOf,
        trees: Trees,
        drand: Drand,
        kept: Kept,
        teller: TurnTeller,
        pace: Pace,
    ) -> None:
        """`token` names this replica in the lease; no other may have it.

        `kept` returns once JetStream has a change of the sale, and raises Refusal where that takes too long.
        """
        self._sale = sale
        self._token = token
        self._store = store
        self._ledger = ledger
        self._definition_of = definition_of
        self._secrets_of = secrets_of
        self._trees = trees
        self._drand = drand
        self._kept = kept
        self._teller = teller
        self._pace = pace
        self._woken = asyncio.Event()
        self._permutation: Permutation | None = None
        self._bucket = rules.Bucket(0.0)
        # The ledger as last seen, and when by the loop's clock; None when it may have changed.
        self._state: LedgerState | None = None
        self._state_at = 0.0
        # There was news of the stock since.
        self._changed = False
        # Somebody waits for whom the stock matters at once.
        self._waited_for = False
        self._rest_s = pace.poll_s
        self._fence: int | None = None
        self._to_lapse: list[tuple[str, int]] = []
        # So many of those who joined JetStream is known to have.
        self._kept_members = 0
        self._lease_s = pace.lease_ttl_ms / 1000
        self._backoff_s = 0.0
        self.leads = False
        """Whether this replica had the lease when it last looked."""

    def wake(self) -> None:
        """Says that the definition or the line may have changed."""
        self._changed = True
        self._woken.set()

    def stock_changed(self) -> None:
        """Says that the stock did. Where nobody waits the next look is soon enough."""
        self._changed = True
        if self._waited_for:
            self._woken.set()

    def arrived(self) -> None:
        """Says that somebody joined a line in which nobody waited."""
        if self.leads:
            self._woken.set()

    async def run(self) -> None:
        """Leads or waits to lead, until cancelled."""
        telling = asyncio.create_task(self._teller.run(), name=f"turns-{self._sale}")
        try:
            while True:
                pause_s = await self._guarded_step()
                await asyncio.sleep(BREATH_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, pause_s - BREATH_S)):
                        await self._woken.wait()
                self._woken.clear()
        finally:
            await stop(telling)
            with contextlib.suppress(Exception):
                await asyncio.shield(self._store.resign(self._sale, self._token))

    async def _guarded_step(self) -> float:
        """One step; an outage is told once and waited out, longer each time."""
        try:
            pause_s = await self.step()
        except Exception as error:
            self._state, self.leads = None, False
            refusal = refusal_for(error)
            if self._backoff_s == 0.0:
                word = refusal.word if refusal else "INTERNAL"
                log.warning("calling_waits", sale=self._sale, word=word, exc_info=refusal is None)
            self._backoff_s = min(max(BACKOFF_S[0], 2 * self._backoff_s), BACKOFF_S[1])
            return self._backoff_s
        if self._backoff_s:
            log.info("calling_goes_on", sale=self._sale)
            self._backoff_s = 0.0
        return pause_s

    async def step(self) -> float:
        """Does what is due and answers the seconds until the next look. Raises Refusal in an outage."""
        fence, standing = await self._store.lead(self._sale, self._token, self._pace.lease_ttl_ms)
        self.leads = fence is not None
        if standing.phase is Phase.LOBBY:
            # Whoever joined is hashed by now: at opening only the last ones are left, whoever leads then.
            await self._trees.grown(self._sale, standing.joined)
        if fence != self._fence:
            # Whoever leads anew begins from what the stores say.
            self._fence, self._state = fence, None
        if fence is None:
            self._waited_for = False
            return self._lease_s / 3
        if standing.phase is Phase.SCHEDULED:
            return min(IDLE_S, (standing.lobby_opens_ms - standing.now_ms) / 1000)
        if standing.phase is Phase.CLOSED:
            return IDLE_S
        if standing.cohort is None:
            # At the very millisecond: the first look after it freezes the cohort.
            return min(LOBBY_S, self._lease_s / 3, (standing.opens_ms - standing.now_ms) / 1000)
        if not standing.drawn:
            return await self._draw(standing.cohort, standing)
        more = await self._call(standing)
        await self._tell(standing, fence)
        return 0.0 if more else min(self._rest(standing), self._lease_s / 3)

    def _rest(self, standing: Standing) -> float:
        """Seconds to the next look: ever more while there is nobody to call, or nothing to call them for."""
        state = self._state
        self._waited_for = state is None or state.watermark < standing.joined
        if self._waited_for and self._changed:
            # Heard of in this very look, when it was not known yet that somebody waits.
            self._woken.set()
        can_call = standing.phase is Phase.OPEN and self._waited_for
        if can_call and (state is None or self._has_room(state)):
            self._rest_s = self._pace.poll_s
        else:
            self._rest_s = min(2 * self._rest_s, REST_S)
        return self._rest_s

    async def _draw(self, cohort: int, standing: Standing) -> float:
        """Draws; answers the seconds to wait where a beacon's round is not due yet. Raises Refusal.

        What the draw follows from is published before anybody can know a place: a store that is lost after
        that is filled again with the same one.
        """
        await self._kept(self._sale, standing.sequence)
        root = (await self._trees.grown(self._sale, cohort)).root()
        beacon_round = BeaconRound()
        source = self._definition_of(self._sale).sale.spec.line.beacon
        if source:
            root, root_ms = await self._store.root(self._sale, cohort=cohort, root=root)
            await self._kept(self._sale, self._store.known(self._sale))
            found = await self._drand.round_after(source, root_ms, standing.now_ms)
            if not isinstance(found, BeaconRound):
                return min(found, self._lease_s / 3)
            beacon_round = found
        beacon = value_of(beacon_round) if source else b""
        seed = (await self._secrets_of(self._sale)).seed
        await self._store.draw(
            self._sale,
            cohort=cohort,
            root=root,
            key=draw_key(seed, root, beacon),
            seed=seed,
            beacon=beacon,
            beacon_round=beacon_round.SerializeToString(),
        )
        log.info("drawn", sale=self._sale, cohort=cohort, root=root.hex(), beacon=beacon.hex())
        return 0.0

    async def _call(self, standing: Standing) -> bool:
        """Calls whom it may and moves `serving`; True if there may be more to call at once."""
        await self._lapse_those_who_left()
        state = await self._ledger_state()
        start = state.watermark
        await self._follow(standing, start)
        if standing.phase is not Phase.OPEN or not self._has_room(state):
            return False
        wanted = min(self._pace.batch, await self._members_kept(standing, start + self._pace.batch) - start)
        most = self._bucket_for(standing).most(standing.now_ms, wanted)
        if most <= 0:
            return False
        return await self._call_places(standing, start, start + most)

    async def _ledger_state(self) -> LedgerState:
        """The ledger: anew where it may have changed, which an idle look at the line need not ask for."""
        now_s = asyncio.get_running_loop().time()
        if self._state is None or self._changed or now_s - self._state_at >= LEDGER_S:
            self._changed = False
            self._state, self._state_at = await self._ledger.state(self._sale), now_s
        return self._state

    async def _members_kept(self, standing: Standing, end: int) -> int:
        """How many members may be called, at least up to `end` if there are so many: those JetStream has.

        A store that is lost takes along who joined and was not published; whoever was called must not be
        among them, for their place would be another's.
        """
        # The draw waited for the whole cohort.
        self._kept_members = max(self._kept_members, standing.cohort or 0)
        if self._kept_members < min(end, standing.joined):
            with contextlib.suppress(Refusal):
                await self._kept(self._sale, standing.sequence)
                self._kept_members = standing.joined
        return min(self._kept_members, standing.joined)

    async def _call_places(self, standing: Standing, start: int, end: int) -> bool:
        indexes = self._indexes(standing, start, end)
        found = await self._store.callees(self._sale, indexes)
        callees = [
            Callee(start + position, to_text(member.buyer), member.joined_ms)
            for position, member in enumerate(found.members)
            if position not in found.gone
        ]
        called = await self._ledger.call(self._sale, start, end, callees)
        self._state = called.ledger
        if called.word == "NOT_WATERMARK":
            return True
        if called.word != "CALLED" or called.ledger is None:
            return False
        self._bucket.spend(called.granted)
        watermark = called.ledger.watermark
        await self._serve(standing, start, watermark, indexes[: watermark - start], found.gone)
        return watermark == end and self._has_room(called.ledger)

    async def _follow(self, standing: Standing, watermark: int) -> None:
        """Moves `serving` to a watermark that another leader, or this one before a crash, had reached."""
        start = standing.serving
        while start < watermark:
            end = min(watermark, start + self._pace.batch)
            await self._serve(standing, start, end, self._indexes(standing, start, end), frozenset())
            start = end

    async def _serve(
        self, standing: Standing, start: int, end: int, indexes: Sequence[int], known_gone: frozenset[int]
    ) -> None:
        """Moves `serving`; whoever left since the look before CALL is noted, as their promise is idle.

        Whoever leaves after this run sees that they were called and ends their promise themselves.
        """
        if end <= start:
            return
        found: Callees = await self._store.serve(self._sale, end, indexes)
        self._to_lapse += [
            (to_text(found.members[position].buyer), start + position)
            for position in sorted(found.gone - known_gone)
        ]
        await self._lapse_those_who_left()

    async def _lapse_those_who_left(self) -> None:
        if self._to_lapse:
            await self._ledger.lapse(self._sale, self._to_lapse)
            self._to_lapse = []

    async def _tell(self, standing: Standing, fence: int) -> None:
        """Tells those who wait what there is to wait for, when that changed."""
        state = self._state
        if state is None:
            return
        availability = rules.availability(
            unpromised=state.unpromised,
            reserved=state.reserved,
            promised=state.promised,
            held=state.held,
            claims=state.claims,
        )
        if availability is not standing.availability:
            await self._store.tell(self._sale, availability, fence)
        # By now `serving` has followed the ledger.
        served = replace(standing, serving=max(standing.serving, state.watermark))
        self._teller.look(served, state.unpromised)

    def _has_room(self, state: LedgerState) -> bool:
        """Whether a CALL can grant anything: something is unpromised, and a turn may begin."""
        concurrency = self._definition_of(self._sale).sale.spec.line.concurrency
        return state.unpromised > 0 and (concurrency <= 0 or state.turns < concurrency)

    def _bucket_for(self, standing: Standing) -> rules.Bucket:
        rate = self._definition_of(self._sale).sale.spec.line.rate
        if rate != self._bucket.rate:
            self._bucket = rules.Bucket(rate, at_ms=standing.now_ms)
        return self._bucket

    def _indexes(self, standing: Standing, start: int, end: int) -> list[int]:
        cohort = standing.cohort or 0
        if self._permutation is None and cohort:
            self._permutation = Permutation(standing.key, cohort)
        return [rules.index_at(place, cohort, self._permutation) for place in range(start, end)]
