"""What buyers do in the line: join, read, leave, enter. The store knows the places, the ledger the turns."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from catraca.queue.v1 import queue_pb2

from services.kit import admission
from services.kit.buyers import short_hash, to_text
from services.kit.definitions import Definition
from services.kit.errors import Refusal
from services.kit.keys import Ring
from services.queue import rules
from services.queue.draw import Permutation
from services.queue.ledger import Ledger
from services.queue.receipts import Receipts
from services.queue.states import Entry, Joiner, Phase, PlaceState, PlaceView, Standing, Turn
from services.queue.store import LineStore, wrong_phase
from services.queue.trees import Trees

# Reads and leaves of one script run: a run stays below five milliseconds of Redis.
BUYERS_PER_RUN = 1000
# Ask again no sooner and no later than this, whatever the estimate says.
RETRY_S = (1.0, 60.0)

View = PlaceView | Refusal


@dataclass(frozen=True, slots=True)
class Answers:
    """One batch's answers, in order: a view or the refusal of each, and the standing they are true at."""

    views: list[View]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Joins:
    """As Answers, with the batch's receipt, or None where receipts are off."""

    views: list[View]
    standing: Standing
    receipt: queue_pb2.Receipt | None


class Line:
    """The line of every sale. Buyers are given by their raw internal ids, 16 bytes each."""

    def __init__(
        self,
        store: LineStore,
        ledger: Ledger,
        receipts: Receipts,
        trees: Trees,
        admission_keys: Ring,
        definition_of: Callable[[str], Definition],
        arrived: Callable[[str], Awaitable[None]],
    ) -> None:
        """`definition_of` raises Refusal for a sale that is unknown or archived.

        `arrived` is told the sale when somebody joined a line in which nobody waited.
        """
        self._store = store
        self._ledger = ledger
        self._receipts = receipts
        self._trees = trees
        self._admission_keys = admission_keys
        self._definition_of = definition_of
        self._arrived = arrived
        self._drawn: dict[str, tuple[bytes, Permutation | None]] = {}

    async def join(self, sale: str, joiners: Sequence[Joiner]) -> Joins:
        """Takes a place for each; whoever has a live one keeps it. Raises NO_LINE, WRONG_PHASE.

        Some are refused alone: JOIN_LIMIT for who left and comes back too soon, CHALLENGE_REQUIRED,
        ACCESS_CODE_INVALID.
        """
        definition = self._definition_of(sale)
        answers, standing = await self._store.join(sale, joiners)
        buyers = [joiner.buyer for joiner in joiners]
        entries = [None if isinstance(answer, str) else answer for answer in answers]
        views = await self._views(sale, buyers, entries, standing)
        for position, answer in enumerate(answers):
            if isinstance(answer, str):
                retry_s = self._store.rejoin_pause_s if answer == "JOIN_LIMIT" else None
                views[position] = Refusal(answer, retry_after_s=retry_s, sale=sale)
        views, standing = await self._renewed(sale, joiners, views, standing)
        if rules.had_nobody(standing, len(joiners)):
            await self._arrived(sale)
        joined = [
            (buyer, view.entry.index)
            for buyer, view in zip(buyers, views, strict=True)
            if isinstance(view, PlaceView)
        ]
        return Joins(views, standing, await self._receipts.sign(definition.sale, joined, standing.now_ms))

    async def receipt(
        self, sale: str, buyer: bytes, entry: Entry, standing: Standing
    ) -> tuple[queue_pb2.Receipt | None, queue_pb2.InclusionProof | None]:
        """A join's receipt signed anew, None where receipts are off, and its proof, None outside the draw.

        `standing` is the one that the entry was read at.
        """
        definition = self._definition_of(sale)
        receipt = await self._receipts.sign(definition.sale, [(buyer, entry.index)], standing.now_ms)
        if not standing.drawn or standing.cohort is None or entry.index >= standing.cohort:
            return receipt, None
        return receipt, await self._trees.proof(sale, standing.cohort, entry.index)

    async def last(self, sale: str, cohort: int) -> queue_pb2.InclusionProof | None:
        """The proof of a drawn cohort's last index, which fixes its size; None for an empty one."""
        return await self._trees.last(sale, cohort) if cohort else None

    async def _renewed(
        self, sale: str, joiners: Sequence[Joiner], views: list[View], standing: Standing
    ) -> tuple[list[View], Standing]:
        """Places at the end for those whose turn is over and who may have another one."""
        limit = self._definition_of(sale).sale.spec.limits.per_buyer
        anew = {
            position: view.entry.index
            for position, view in enumerate(views)
            if isinstance(view, PlaceView) and view.turn is not None and rules.joins_anew(view.turn, limit)
        }
        if not anew:
            return views, standing
        again = [joiners[position] for position in anew]
        entries, standing = await self._store.renew(sale, again, list(anew.values()))
        renewed = await self._views(sale, [joiner.buyer for joiner in again], entries, standing)
        views = list(views)
        for position, view in zip(anew, renewed, strict=True):
            views[position] = view
        return views, standing

    async def read(self, sale: str, buyers: Sequence[bytes]) -> Answers:
        """The buyers' places; NOT_IN_LINE for who has none. Raises NO_LINE."""
        self._definition_of(sale)
        entries, standing = await self._store.read(sale, buyers)
        return Answers(await self._views(sale, buyers, entries, standing), standing)

    async def leave(self, sale: str, buyers: Sequence[bytes]) -> Answers:
        """Gives the places up; what was promised and is unspent goes to the next. Raises NO_LINE."""
        self._definition_of(sale)
        entries, standing = await self._store.leave(sale, buyers)
        views: list[View] = []
        called: dict[int, tuple[str, int]] = {}
        for buyer, entry in zip(buyers, entries, strict=True):
            if entry is None:
                views.append(Refusal("NOT_IN_LINE", sale=sale))
                continue
            place = self.place(sale, entry, standing)
            if place is not None and rules.is_called(place, standing):
                called[len(views)] = (to_text(buyer), place)
            views.append(rules.view(entry, place, standing, None))
        if called:
            try:
                await self._ledger.lapse(sale, list(called.values()))
            except Refusal as refusal:
                # They have left all the same; leaving again tells the ledger again.
                views = [refusal if position in called else view for position, view in enumerate(views)]
        return Answers(views, standing)

    async def enter(self, sale: str, buyers: Sequence[bytes]) -> list[queue_pb2.Admission | Refusal]:
        """An admission for each buyer whose turn runs, a refusal for the others. Raises NO_LINE."""
        answers = await self.read(sale, buyers)
        return [
            self._admission(sale, buyer, view, answers.standing)
            for buyer, view in zip(buyers, answers.views, strict=True)
        ]

    def _admission(
        self, sale: str, buyer: bytes, view: View, standing: Standing
    ) -> queue_pb2.Admission | Refusal:
        if isinstance(view, Refusal):
            return view
        refusal = entry_refusal(sale, view, standing)
        if refusal is not None:
            return refusal
        assert view.turn is not None and view.place is not None
        buyer_id = to_text(buyer)
        claims = queue_pb2.AdmissionClaims(
            sale=sale,
            buyer=buyer_id,
            place=view.place,
            allowance=view.turn.left,
            turn_ends_at_ms=view.turn.ends_ms,
            joined_at_ms=view.entry.joined_ms,
            called_at_ms=view.turn.called_ms,
            id=short_hash(sale, buyer_id, str(view.place)),
        )
        answer = queue_pb2.Admission(
            token=admission.mint(claims, self._admission_keys), allowance=view.turn.left, place=view.place
        )
        answer.turn_ends_at.FromMilliseconds(view.turn.ends_ms)
        return answer

    async def _views(
        self, sale: str, buyers: Sequence[bytes], entries: Sequence[Entry | None], standing: Standing
    ) -> list[View]:
        """Everyone's view; the ledger is asked only for those who were called."""
        places = [None if entry is None else self.place(sale, entry, standing) for entry in entries]
        asked = {
            position: (to_text(buyers[position]), place)
            for position, (entry, place) in enumerate(zip(entries, places, strict=True))
            if entry is not None and not entry.left and place is not None and place < standing.serving
        }
        turns = await self.turns(sale, asked) if asked else {}
        views: list[View] = []
        for position, (entry, place) in enumerate(zip(entries, places, strict=True)):
            turn = turns.get(position)
            if entry is None:
                views.append(Refusal("NOT_IN_LINE", sale=sale))
            elif isinstance(turn, Refusal):
                views.append(turn)
            else:
                views.append(rules.view(entry, place, standing, turn))
        return views

    async def turns(self, sale: str, asked: Mapping[int, tuple[str, int]]) -> Mapping[int, Turn | Refusal]:
        """The turns of called (buyer, place); where the ledger does not answer, only these are refused."""
        try:
            found: Sequence[Turn | Refusal] = await self._ledger.look(sale, list(asked.values()))
        except Refusal as refusal:
            found = [refusal] * len(asked)
        return dict(zip(asked, found, strict=True))

    def place(self, sale: str, entry: Entry, standing: Standing) -> int | None:
        """An entry's place; None before the draw."""
        return rules.place_of(entry, standing, self.permutation(sale, standing))

    def called(self, sale: str, standing: Standing, start: int, most: int) -> list[int]:
        """The indexes of at most so many who were called, from a place on, in the order of places."""
        cohort, permutation = standing.cohort or 0, self.permutation(sale, standing)
        end = min(standing.serving, start + most)
        return [rules.index_at(place, cohort, permutation) for place in range(start, end)]

    def permutation(self, sale: str, standing: Standing) -> Permutation | None:
        """The sale's permutation once drawn; its tables are kept."""
        if not standing.drawn or not standing.cohort:
            return None
        known = self._drawn.get(sale)
        if known is None or known[0] != standing.key:
            known = (standing.key, Permutation(standing.key, standing.cohort))
            self._drawn[sale] = known
        return known[1]

    def forget(self, sale: str) -> None:
        """Lets go of what is kept for an archived sale."""
        self._drawn.pop(sale, None)


def entry_refusal(sale: str, view: PlaceView, standing: Standing) -> Refusal | None:
    """Why a buyer cannot enter now; None while the turn runs."""
    if standing.phase not in (Phase.OPEN, Phase.PAUSED):
        at_ms = standing.lobby_opens_ms if standing.phase is Phase.SCHEDULED else standing.opens_ms
        return wrong_phase(standing.phase, "OPEN or PAUSED", at_ms, standing.now_ms)
    if view.state is PlaceState.LEFT:
        return Refusal("NOT_IN_LINE", sale=sale)
    if view.place is None:
        return Refusal("DRAW_PENDING", sale=sale)
    if view.state is PlaceState.WAITING:
        low_s = view.estimate[0] if view.estimate is not None else 2.0
        retry_s = min(max(float(low_s), RETRY_S[0]), RETRY_S[1])
        return Refusal("NOT_CALLED_YET", retry_after_s=retry_s, place=view.place, serving=standing.serving)
    if view.state is PlaceState.CALLED:
        return None
    if view.turn is None or not view.turn.ends_ms:
        return Refusal("TURN_EXPIRED")
    return Refusal("TURN_EXPIRED", ended_at=iso(view.turn.ends_ms))


def iso(ms: int) -> str:
    """A moment as RFC 3339 text."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
