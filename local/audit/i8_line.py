"""I8: before opening, order is the published draw; after it, arrival. Nobody who waits is passed over."""

from catraca.events.v1 import events_pb2 as pb
from catraca.events.v1.events_pb2 import InventoryChange
from catraca.queue.v1.queue_pb2 import Draw

from local import draw_verifier
from local.audit.facts import Facts, QueueStore, known_changes
from local.audit.findings import Finding
from local.audit.line import LineReplay
from local.draw_files import draw_file
from services.kit.buyers import to_text
from services.queue.draw import BUYER_BYTES

# Queue and ledger may take their time from two Redis servers, whose clocks differ a little.
CLOCK_SLACK_MS = 1000
RECORD_BYTES = 22


def check(facts: Facts, line: LineReplay) -> Finding:
    """The draw made again, every call against the places it gives, and the line in Redis."""
    finding = Finding("I8", "The order is the published draw, then arrival; nobody is passed over")
    finding.violations += line.wrong
    finding.looked_at = {
        "joined": line.count,
        "in the draw": line.cohort or 0,
        "called": sum(c.act == pb.INVENTORY_ACT_CALLED and bool(c.buyer) for c in facts.inventory),
    }
    if not facts.has_line:
        if finding.looked_at["called"] or line.count:
            finding.wrong("the sale has no line, but buyers joined or were called")
        return finding
    key = _check_draw(facts, line, finding)
    _check_opening(facts, line, finding)
    order = Order(key, line.cohort or 0)
    _Calls(facts, line, order, finding).check()
    _check_anew(facts, line, order, finding)
    if facts.queue_store is not None:
        _check_store(facts.queue_store, line, key, finding)
    return finding


class Order:
    """Who stands where: as the draw was made again within the cohort, in order of arrival behind it."""

    def __init__(self, key: bytes, cohort: int) -> None:
        """Without a key nothing was drawn, and places are taken for indexes."""
        places = draw_verifier.Places(key, cohort) if key and cohort else None
        self._places = [places.of(index) for index in range(cohort)] if places else []
        self._indexes = [0] * len(self._places)
        for index, place in enumerate(self._places):
            self._indexes[place] = index

    def place_of(self, index: int) -> int:
        """The place of an index."""
        return self._places[index] if index < len(self._places) else index

    def index_at(self, place: int) -> int:
        """The index of a place."""
        return self._indexes[place] if place < len(self._indexes) else place


def _check_draw(facts: Facts, line: LineReplay, finding: Finding) -> bytes:
    """Makes the draw again, by the verifier that everyone has; its key, empty where nothing was drawn."""
    commitments = {definition.draw_commitment for definition in facts.definitions.values()} - {""}
    commitments |= line.commitments
    if len(commitments) > 1:
        finding.wrong(f"the commitment was changed: {', '.join(sorted(commitments))}")
    drawn = line.drawn
    if drawn is None or line.cohort is None:
        return b""
    published = Draw(
        commitment=min(commitments, default=""),
        cohort=line.cohort,
        root=drawn.root,
        seed=drawn.seed,
        beacon=drawn.beacon,
        beacon_source=facts.definition.spec.line.beacon,
        beacon_round=drawn.beacon_round,
    )
    published.root_at.FromMilliseconds(drawn.at_ms if line.rooted is None else line.rooted.at_ms)
    file = draw_file(facts.sale, published, [])
    for check in draw_verifier.check_draw(file):
        if not check.holds:
            finding.wrong(f"the draw: this is not so: {check.says}")
    if facts.draw is None:
        finding.wrong("the draw's salt is lost: its root cannot be checked")
    else:
        salt = facts.draw.salt
        salted = [draw_verifier.salted_id(salt, line.buyer_at(index)) for index in range(line.cohort)]
        if draw_verifier.root_of(salted).hex() != drawn.root:
            finding.wrong("the published root is not the tree's over everyone who had joined")
    seed, root, beacon = (bytes.fromhex(text) for text in (drawn.seed, drawn.root, drawn.beacon))
    return draw_verifier.draw_key(seed, root, beacon)


def _check_opening(facts: Facts, line: LineReplay, finding: Finding) -> None:
    opens_ms = facts.definition.spec.window.opens_at.ToMilliseconds()
    if line.cohort is not None and line.frozen_at < opens_ms:
        finding.wrong(f"the cohort was frozen {opens_ms - line.frozen_at} ms before opening")


class _Calls:
    """Every call against the places that draw and arrival give."""

    def __init__(self, facts: Facts, line: LineReplay, order: Order, finding: Finding) -> None:
        self._facts = facts
        self._line = line
        self._order = order
        self._finding = finding
        self._watermark = 0

    def check(self) -> None:
        store = self._facts.inventory_store
        for change in known_changes(self._facts.inventory, self._facts.inventory_outbox, store):
            if change.act == pb.INVENTORY_ACT_CALLED:
                self._check_call(change)
        if self._line.serving > self._watermark:
            self._finding.wrong(f"served up to {self._line.serving}, but called up to {self._watermark}")
        if store is not None and store.watermark != self._watermark:
            self._finding.wrong(
                f"the watermark is {store.watermark} in Redis, {self._watermark} by the events"
            )

    def _check_call(self, change: InventoryChange) -> None:
        called = change.place if change.buyer else None
        name = f"inventory change {change.sequence}"
        if self._line.drawn is None:
            self._finding.wrong(f"{name}: {change.buyer} was called before the draw")
        if change.watermark <= self._watermark or (called is not None and called < self._watermark):
            step = f"watermark {self._watermark} to {change.watermark}"
            self._finding.wrong(f"{name}: place {called} was called out of order, with {step}")
            return
        if called is not None and called >= change.watermark:
            self._finding.wrong(f"{name}: place {called} is not below its watermark {change.watermark}")
        for place in range(self._watermark, change.watermark):
            if place == called:
                self._check_called(change, name)
            else:
                self._check_skipped(place, change.at_ms, name)
        self._watermark = change.watermark

    def _check_called(self, change: InventoryChange, name: str) -> None:
        index = self._index_at(change.place)
        if index is None or to_text(self._line.buyer_at(index)) != change.buyer:
            self._finding.wrong(
                f"{name}: {change.buyer} was called at place {change.place}, which is not theirs"
            )

    def _check_skipped(self, place: int, at_ms: int, name: str) -> None:
        index = self._index_at(place)
        if index is None:
            self._finding.wrong(f"{name}: place {place} was passed over, but nobody ever had it")
            return
        gone_at = self._line.gone_at(index)
        if gone_at is None or gone_at > at_ms + CLOCK_SLACK_MS:
            buyer = to_text(self._line.buyer_at(index))
            self._finding.wrong(f"{name}: {buyer} was passed over at place {place} while waiting")

    def _index_at(self, place: int) -> int | None:
        if not 0 <= place < self._line.count:
            return None
        return self._order.index_at(place)


def _check_anew(facts: Facts, line: LineReplay, order: Order, finding: Finding) -> None:
    """Only who left, or whose turn had come, gave a place up for another one."""
    if not line.moved_at:
        return
    turn_over: dict[str, set[int]] = {}
    for change in facts.inventory:
        is_over = change.act == pb.INVENTORY_ACT_LAPSED or (
            change.act == pb.INVENTORY_ACT_CALLED and change.quantity == 0
        )
        if is_over and change.buyer:
            turn_over.setdefault(change.buyer, set()).add(change.place)
    for index in line.moved_at:
        buyer = to_text(line.buyer_at(index))
        place = order.place_of(index)
        if index not in line.left_at and place not in turn_over.get(buyer, ()):
            finding.wrong(f"{buyer} was given another place than {place}, without leaving or a turn")


def _check_store(store: QueueStore, line: LineReplay, key: bytes, finding: Finding) -> None:
    """The line in Redis is what its events made it."""
    for name, is_now, should in (
        ("count", store.count, line.count),
        ("cohort", store.cohort, line.cohort),
        ("serving", store.serving, line.serving),
        ("draw key", store.draw_key.hex(), key.hex()),
    ):
        if is_now != should:
            finding.wrong(f"the line's {name} is {is_now} in Redis, {should} by the events")
    expected = {
        buyer: -index - 1 if index in line.left_at else index for buyer, index in line.index_of.items()
    }
    if store.index != expected:
        for buyer in expected.keys() | store.index.keys():
            is_now, should = store.index.get(buyer), expected.get(buyer)
            if is_now != should:
                finding.wrong(f"{to_text(buyer)} stands at {is_now} in Redis, at {should} by the events")
    for index in range(line.count):
        at = index * RECORD_BYTES
        found = store.members[at : at + BUYER_BYTES]
        if found != line.members[index * BUYER_BYTES : (index + 1) * BUYER_BYTES]:
            finding.wrong(f"index {index} belongs to {found.hex() or 'nobody'} in Redis, not by the events")
