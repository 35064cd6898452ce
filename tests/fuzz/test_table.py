"""The table of bad input: every method, every field of its request, each with what it is refused with.

What is bad about a field follows from its kind. A method or a field that has no row fails a test.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from local.stack import Stack
from tests.fuzz.contract import FieldPath, Method, methods, written
from tests.fuzz.judge import wrong_with
from tests.fuzz.requests import RIGHT
from tests.fuzz.scene import ARCHIVED, CLOSED, LONG_AGO_ID, OPEN, Scene, prepare
from tests.fuzz.shots import COMBINING, EMOJI, NUL, RTL, Edit, Shot
from tests.fuzz.state import State, difference
from tests.fuzz.wire import Answer, Wire

HUGE = "x" * 70_000
LOW, HIGH, LOWEST, HIGHEST = -(2**31), 2**31 - 1, -(2**63), 2**63 - 1
NOT_WORDS = (
    " ",
    ".",
    "a.b",
    "a.>",
    ">",
    "*",
    "a b",
    "{a}",
    "{" + OPEN + "}",
    "a\nb",
    NUL,
    RTL,
    COMBINING,
    EMOJI,
)
FINE = "OK"


@dataclass(frozen=True)
class Kind:
    """What a field of this kind is refused for."""

    word: str
    values: Sequence[Any]


def invalid(*values: Any) -> Kind:
    return Kind("INVALID_FIELD", values)


def undefined(*values: Any) -> Kind:
    return Kind("DEFINITION_INVALID", values)


ANY = Kind(FINE, ())
"""Every value of its type is right: a truth, or a message of fields that have rows of their own."""
LABELS = (*NOT_WORDS, "UPPER", "-a", "a-", "ａ", "a" * 64, HUGE)
LABEL, LABEL_OR_NONE = invalid("", *LABELS), invalid(*LABELS)
HOLD_IDS = (*NOT_WORDS, "short", "UPPER-CASE", "a" * 65, HUGE)
HOLD_ID, HOLD_ID_OR_NONE = invalid("", *HOLD_IDS), invalid(*HOLD_IDS)
KEY = invalid("", *NOT_WORDS, "short", "a" * 65, HUGE, "ａaaaaaaaa")
ID = invalid("", *NOT_WORDS, "short", LONG_AGO_ID.upper(), LONG_AGO_ID + "a", "1" * 26, HUGE)
ADMISSION = Kind("ADMISSION_INVALID", (*NOT_WORDS, "nonsense", "a.b.c", ".", HUGE))
SUBJECT = invalid("", "a\nb", NUL, RTL, "\u2028", "\ufeff", "é" * 129, HUGE)
SUBJECTS = Kind("INVALID_FIELD", [[each] for each in SUBJECT.values])
CODE = invalid("a" * 257, HUGE, NUL, RTL)
CHALLENGE = invalid("a" * 2049, HUGE, NUL, RTL)
NO_CODES = (
    [],
    [""],
    ["abc"],
    ["a-b-c"],
    ["a" * 65],
    [EMOJI],
    [NUL + "abcd"],
    ["good1", HUGE],
    ["abcd"] * 1001,
)
QUANTITY = Kind("INVALID_QUANTITY", (0, -1, 101, LOW, HIGH))
NUMBER = invalid(-1, 2**53, LOWEST, HIGHEST)
MOMENT = invalid(-1, 253402300800000, 2**53 - 1, LOWEST, HIGHEST)
SECONDS = undefined(253402300800, -62135596801, LOWEST, HIGHEST)
NANOS = undefined(-1, 1_000_000_000, LOW, HIGH)


def many(*counts: int) -> Kind:
    return invalid(*([None] * count for count in counts))


def many_texts(count: int) -> Kind:
    return Kind("INVALID_FIELD", [*SUBJECTS.values, [f"s-{number}" for number in range(count)]])


def between(low: int, high: int) -> Kind:
    """A duration, in seconds."""
    return undefined(low - 1, high + 1, -1, LOWEST, HIGHEST)


TEXT_200 = undefined("a" * 201, HUGE)

# By message and field; a method's own row, where it differs, by method and path.
ROWS: Mapping[str, Kind] = {
    "PlaceOrderRequest.idempotency_key": KEY,
    "PlaceOrderRequest.items": many(0, 11),
    "PlaceOrderRequest.hold_id": HOLD_ID_OR_NONE,
    "PlaceOrderRequest.admission": ADMISSION,
    "HoldItem.section": LABEL,
    "HoldItem.ticket_type": LABEL_OR_NONE,
    "HoldItem.quantity": QUANTITY,
    "HoldItem.seats": invalid(["A1"], ["A1", "A1"], [""], [NUL], [HUGE], ["A1"] * 101),
    "HoldItem.together": ANY,
    # The section is standing.
    "HoldItem.use": invalid(1, 2, 3, -1, LOW, HIGH),
    "BlockRequest.block_id": HOLD_ID,
    "BlockRequest.items": many(0, 11),
    "BlockItem.section": LABEL,
    "BlockItem.quantity": Kind("INVALID_QUANTITY", (0, -1, 1001, LOW, HIGH)),
    "BlockItem.seats": invalid(["A1"], [""], [NUL], [HUGE], ["A1"] * 1001),
    "UnblockRequest.block_id": HOLD_ID,
    "ListSeatsRequest.section": LABEL,
    "ListSeatsRequest.first_unit": invalid(-1, LOW),
    "ListSeatsRequest.page_size": invalid(-1, 5001, LOW, HIGH),
    "GetOrderRequest.order_id": ID,
    "CancelOrderRequest.order_id": ID,
    "ListOrdersRequest.page_size": invalid(-1, 101, LOW, HIGH),
    "ListOrdersRequest.page_token": invalid(*NOT_WORDS, "zzzz", "MTox", HUGE),
    "PlaceOrdersRequest.items": many(0, 501),
    "PlaceOrderItem.subject": SUBJECT,
    "PlaceOrderItem.idempotency_key": KEY,
    "PlaceOrderItem.items": many(0, 11),
    "PlaceOrderItem.hold_id": HOLD_ID_OR_NONE,
    "PlaceOrderItem.admission": ADMISSION,
    "HoldRequest.hold_id": HOLD_ID,
    "HoldRequest.items": many(0, 11),
    "HoldRequest.admission": ADMISSION,
    "ReleaseRequest.hold_id": HOLD_ID,
    "GetHoldRequest.hold_id": HOLD_ID,
    "ApplyRequest.commands": many(1, 1001),
    "ApplyStreamRequest.commands": many(1, 1001),
    "Command.call": ANY,
    "Command.claim": invalid({}),
    "Command.hold": invalid({}),
    "Command.pin": invalid({}),
    "Command.release": invalid({}),
    "Command.commit": invalid({}),
    "Command.return": invalid({}),
    "Command.lapse": invalid({}),
    "Command.look": invalid({}),
    "Command.reacquire": invalid({}),
    "Command.block": invalid({}),
    "Command.unblock": invalid({}),
    "ReacquireCommand.units": many(0, 1001),
    "HeldUnit.section": LABEL,
    "HeldUnit.unit": invalid(-1, LOW),
    "HeldUnit.ticket_type": LABEL,
    "HeldUnit.price": NUMBER,
    "HeldUnit.seat": ANY,
    "CallCommand.from": NUMBER,
    "CallCommand.to": NUMBER,
    "CallCommand.callees": many(1, 1001),
    "Callee.place": NUMBER,
    "Callee.buyer": ID,
    "Callee.want": invalid(-1, 101, LOW, HIGH),
    "Callee.joined_at_ms": MOMENT,
    "ClaimCommand.order_id": ID,
    "ClaimCommand.buyer": ID,
    "ClaimCommand.items": many(0, 11),
    "ClaimCommand.hold_id": HOLD_ID_OR_NONE,
    "ClaimCommand.place": NUMBER,
    "HoldCommand.hold_id": HOLD_ID,
    "HoldCommand.buyer": ID,
    "HoldCommand.items": many(0, 11),
    "HoldCommand.order_id": invalid(LONG_AGO_ID, "short", EMOJI),
    "HoldCommand.place": NUMBER,
    "PinCommand.hold_id": HOLD_ID,
    "PinCommand.buyer": ID,
    "PinCommand.order_id": ID,
    "PinCommand.until_ms": invalid(0, *MOMENT.values),
    "ReleaseCommand.hold_id": HOLD_ID,
    "ReleaseCommand.buyer": ID,
    "ReleaseCommand.order_id": invalid(*ID.values[1:]),
    "CommitCommand.hold_id": HOLD_ID,
    "CommitCommand.buyer": ID,
    "CommitCommand.order_id": ID,
    "ReturnCommand.hold_id": HOLD_ID,
    "ReturnCommand.buyer": ID,
    "ReturnCommand.order_id": ID,
    "ReturnCommand.units": many(1, 1001),
    "UnitRef.section": LABEL,
    "UnitRef.unit": invalid(-1, LOW),
    "LapseCommand.buyer": ID,
    "LapseCommand.place": NUMBER,
    "LookCommand.buyer": ID,
    "LookCommand.place": NUMBER,
    "ReacquireCommand.hold_id": HOLD_ID,
    "ReacquireCommand.buyer": ID,
    "ReacquireCommand.order_id": ID,
    "BlockCommand.block_id": HOLD_ID,
    "BlockCommand.items": many(0, 11),
    "UnblockCommand.block_id": HOLD_ID,
    # It may be on its way: Load waits for it, and says so when the time is over.
    "LoadRequest.revision": Kind("DEADLINE", (2**63, 2**64 - 1)),
    "SubscribeManyRequest.add": many_texts(1001),
    "SubscribeManyRequest.drop": many_texts(1001),
    "JoinRequest.access_code": CODE,
    "JoinRequest.challenge": CHALLENGE,
    "JoinRequest.turn_news": ANY,
    "JoinManyRequest.items": many(0, 1001),
    "JoinItem.subject": SUBJECT,
    "JoinItem.access_code": CODE,
    "JoinItem.challenge": CHALLENGE,
    "JoinItem.turn_news": ANY,
    "GetPlacesRequest.subjects": Kind("INVALID_FIELD", [[], *many_texts(5001).values]),
    "WatchSaleRequest.calls_from": invalid(-1, LOWEST),
    "EnterManyRequest.subjects": Kind("INVALID_FIELD", [[], *many_texts(1001).values]),
    "ListSalesRequest.page_size": invalid(-1, 501, LOW, HIGH),
    "ListSalesRequest.page_token": LABEL_OR_NONE,
    "ListSalesRequest.include_archived": ANY,
    "PauseRequest.paused": ANY,
    "PutAccessCodesRequest.codes": invalid(*NO_CODES),
    "PutAccessCodesRequest.uses": invalid(-1, 1_000_001, LOW, HIGH),
    "DefineRequest.sale": undefined("", *LABELS),
    "DefineRequest.spec": undefined({}),
    "DefineRequest.revision": Kind("REVISION_CONFLICT", (1, 2**63, 2**64 - 1)),
    "DefineRequest.dry_run": ANY,
    "SaleSpec.title": undefined("", *TEXT_200.values),
    "SaleSpec.currency": undefined("", *NOT_WORDS, "brl", "BRLX", "B1L", "ＢＲＬ", HUGE),
    "SaleSpec.sections": undefined([], *([None] * count for count in (1, 2, 501, 100_000))),
    "SaleSpec.seating_plan": undefined({}),
    "SaleSpec.window": undefined({}),
    "SaleSpec.line": ANY,
    "SaleSpec.limits": ANY,
    "SaleSpec.holds": ANY,
    "SaleSpec.payment": ANY,
    "SaleSpec.orders": ANY,
    "SaleSpec.paused": ANY,
    "SaleSpec.delivery": ANY,
    "SaleSpec.refunds": ANY,
    "SaleSpec.rehearsal": ANY,
    "Section.id": undefined("", "gratis", *LABELS),
    "Section.title": TEXT_200,
    "Section.capacity": undefined(0, -1, 1_000_001, LOW, HIGH),
    "Section.ticket_types": undefined(*([None] * count for count in (0, 1, 2, 21, 100_000))),
    "Section.kind": undefined(2, 3, -1, LOW, HIGH),
    # The section is standing.
    "Section.seats": undefined({}),
    "SectionSeats.categories": undefined([], [""], ["Gold"], [NUL], ["a" * 101], [HUGE], ["Gold"] * 501),
    "SectionSeats.focus": undefined(1, 2, 3, -1, LOW, HIGH),
    "SectionSeats.accessible": undefined([""], ["A1"], ["a" * 101], [HUGE], ["A1"] * 2001),
    "SectionSeats.companion": undefined([""], ["A1"], ["a" * 101], [HUGE], ["A1"] * 2001),
    "TicketType.id": undefined("", *LABELS),
    "TicketType.title": TEXT_200,
    "TicketType.price": undefined(-1, 1_000_000_001, LOWEST, HIGHEST),
    "TicketType.quota": undefined(-1, 201, 1_000_001, LOW, HIGH),
    "SeatingPlan.digest": undefined("", "a" * 63, "g" * 64, "a" * 64, HUGE),
    # No section is seated.
    "SeatingPlan.release_at": undefined({}),
    "PushPlanRequest.document": Kind("PLAN_INVALID", (b"", b"{}", b"[", b"\x1f\x8b", b"\xff" * 70_000)),
    "PushPlanRequest.dry_run": ANY,
    "Window.lobby_opens_at": ANY,
    "Window.opens_at": undefined({}),
    "Window.closes_at": undefined({}),
    "Timestamp.seconds": SECONDS,
    "Timestamp.nanos": NANOS,
    "Duration.nanos": NANOS,
    "Line.kind": undefined(3, -1, LOW, HIGH),
    "Line.turn_duration": undefined({}),
    "Line.rate": undefined(-1.0, 1_000_001.0, float("nan"), float("inf"), float("-inf")),
    "Line.concurrency": undefined(-1, 10_000_001, LOW, HIGH),
    "Line.access_code_required": ANY,
    "Line.challenge_required": ANY,
    "Line.beacon": undefined(
        "drand", "drand:" + "a" * 63, "drand:" + "A" * 64, "drand:" + "a" * 64, NUL, HUGE
    ),
    "Limits.per_buyer": undefined(-1, 101, LOW, HIGH),
    "Limits.holds_per_turn": undefined(-1, 1001, LOW, HIGH),
    "Holds.duration": undefined({}),
    "Payment.window": undefined({}),
    "Payment.grace": undefined({}),
    "Payment.provider": undefined(*LABELS),
    "Orders.queue_max": undefined({}),
    "Orders.rate": undefined(-1.0, 1_000_001.0, float("nan"), float("inf"), float("-inf")),
    "Delivery.mail": ANY,
    "Delivery.webhook_url": undefined("x", "ftp://x", "http://", "http://a b", "https://" + HUGE),
    "Refunds.allowed": ANY,
    "Refunds.until": undefined({}),
}
OWN_ROWS: Mapping[str, Kind] = {
    "SaleService.GetSale sale": Kind("SALE_NOT_FOUND", ("", *LABELS)),
    "SaleService.PutAccessCodes sale": Kind("SALE_NOT_FOUND", ("", *LABELS)),
    "SaleService.Pause sale": Kind("SALE_NOT_FOUND", ("", *LABELS)),
    "SaleService.Archive sale": Kind("SALE_NOT_FOUND", ("", *LABELS)),
    "SaleService.Define spec.line.turn_duration.seconds": between(1, 86_400),
    "SaleService.Define spec.holds.duration.seconds": between(5, 86_400),
    "SaleService.Define spec.payment.window.seconds": between(5, 3 * 86_400),
    "SaleService.Define spec.payment.grace.seconds": between(1, 3600),
    "SaleService.Define spec.orders.queue_max.seconds": between(1, 86_400),
}


def kind_of(method: Method, path: FieldPath) -> Kind | None:
    """The row of a field; every other `sale` is a label."""
    field = path[-1]
    row = OWN_ROWS.get(f"{method.name} {written(path)}") or ROWS.get(
        f"{field.containing_type.name}.{field.name}"
    )
    return LABEL if row is None and written(path) == "sale" else row


FIELDS = [
    pytest.param(method, path, id=f"{method.name}-{written(path)}")
    for method in methods().values()
    for path in method.paths
]


def test_every_method_and_every_field_has_a_row() -> None:
    assert set(RIGHT) == set(methods())
    missing = {
        f"{path[-1].containing_type.name}.{path[-1].name}"
        for method in methods().values()
        for path in method.paths
        if kind_of(method, path) is None
    }
    assert not missing
    known = {
        f"{path[-1].containing_type.name}.{path[-1].name}"
        for each in methods().values()
        for path in each.paths
    }
    assert set(ROWS) <= known, "a row of a field that is no more"


@dataclass
class Bench:
    """What a row is tried on."""

    scene: Scene
    wire: Wire
    state: State

    async def call(self, shot: Shot) -> Answer:
        method = methods()[shot.method]
        return await self.wire.call(method, shot.requests(self.scene), self.scene.callers[shot.caller])

    async def words(self, shots: Sequence[Shot]) -> list[str]:
        """What each is refused with, OK where it is not; fails if anything changed or an answer is odd."""
        before = await self.state.settled()
        answers = await asyncio.gather(*map(self.call, shots))
        after = await self.state.settled()
        problems = [wrong_with(shot, answer) for shot, answer in zip(shots, answers, strict=True)]
        assert not any(problems), [
            f"{shot} {each}" for shot, each in zip(shots, problems, strict=True) if each
        ]
        assert not difference(before, after)
        return [_word(answer) for answer in answers]


def _word(answer: Answer) -> str:
    """The refusal of the call, or of the first item of a batch."""
    if not answer.fine or not answer.responses:
        return answer.word
    response: Any = answer.responses[0]
    if getattr(response, "refusal", ""):
        return str(response.refusal)
    for result in getattr(response, "results", ()):
        return getattr(result, "refusal", "") or getattr(result, "word", "") or FINE
    return FINE


@pytest.fixture(scope="module")
async def bench(fuzz_stack: Stack) -> AsyncIterator[Bench]:
    scene = await prepare(fuzz_stack.running)
    async with Wire(fuzz_stack.running.targets) as wire, State(fuzz_stack.running) as state:
        yield Bench(scene, wire, state)


@pytest.mark.parametrize(("method", "path"), FIELDS)
async def test_a_bad_field_is_refused_by_name_and_changes_nothing(
    bench: Bench, method: Method, path: FieldPath
) -> None:
    kind = kind_of(method, path)
    assert kind is not None
    command = path[1].name if path[0].name == "commands" and len(path) > 1 else ""
    shots = [
        Shot(method.name, RIGHT[method.name].caller, (Edit(path, value),), kind=command)
        for value in kind.values
    ]
    words = await bench.words(shots)
    assert {repr(shot.edits[0]): word for shot, word in zip(shots, words, strict=True)} == {
        repr(shot.edits[0]): kind.word for shot in shots
    }


# ---- whatever the fields say ----

METHODS = [pytest.param(method, id=method.name) for method in methods().values()]
NO_TOKEN = {
    "nobody": "TOKEN_INVALID",
    "basic": "TOKEN_INVALID",
    "garbage": "TOKEN_INVALID",
    "forged": "TOKEN_INVALID",
    "expired": "TOKEN_EXPIRED",
}
ROLES = {"alice": "buyer", "shop": "bff", "organiser": "organiser", "staff": "staff", "service": "service"}


@pytest.mark.parametrize("method", METHODS)
async def test_who_may_not_call_is_told_so(bench: Bench, method: Method) -> None:
    right = RIGHT[method.name]
    if not right.needs:
        assert await bench.words([Shot(method.name, who) for who in NO_TOKEN]) == [FINE] * len(NO_TOKEN)
        return
    expected = dict(NO_TOKEN)
    for who, role in ROLES.items():
        if role not in right.needs:
            expected[who] = "ROLE_REQUIRED"
    if right.needs == {"buyer", "bff"}:
        # It is about one buyer, and a BFF says which.
        expected |= {"shop": "NOT_YOUR_BUYER", "alice as bob": "NOT_YOUR_BUYER", "roleless": "ROLE_REQUIRED"}
        expected |= {"shop for nobody": "INVALID_FIELD", "unheard-of": "ROLE_REQUIRED"}
    words = await bench.words([Shot(method.name, who) for who in expected])
    assert dict(zip(expected, words, strict=True)) == expected


@pytest.mark.parametrize("method", METHODS)
async def test_wrong_bytes_are_refused(bench: Bench, method: Method) -> None:
    caller = RIGHT[method.name].caller
    flaws = {"garbage": "INVALID_FIELD", "cut": "INVALID_FIELD", "too large": "MESSAGE_TOO_LARGE"}
    words = await bench.words([Shot(method.name, caller, flaw=flaw) for flaw in flaws])
    assert dict(zip(flaws, words, strict=True)) == flaws


SALES_METHODS = [
    pytest.param(method, id=method.name)
    for method in methods().values()
    if any(written(path) == "sale" for path in method.paths) and method.name != "SaleService.Define"
]


@pytest.mark.parametrize("method", SALES_METHODS)
async def test_a_sale_that_is_not_there_is_not_found(bench: Bench, method: Method) -> None:
    caller = RIGHT[method.name].caller
    (path,) = (path for path in method.paths if written(path) == "sale")
    gone = Edit(path, "no-such-sale")
    # A field that this version does not know changes nothing about that.
    shots = [Shot(method.name, caller, (gone,)), Shot(method.name, caller, (gone,), flaw="unknown field")]
    assert await bench.words(shots) == ["SALE_NOT_FOUND"] * 2


@pytest.mark.parametrize(
    "method", [pytest.param(each, id=each.name) for each in methods().values() if each.streams_in]
)
async def test_a_stream_without_a_message_ends_and_changes_nothing(bench: Bench, method: Method) -> None:
    if method.name == "NotifierService.SubscribeMany":
        # It goes on: what is told of may be added at any time.
        assert await bench.words([Shot(method.name, "shop", times=0)]) == [FINE]
    else:
        assert await bench.words([Shot(method.name, RIGHT[method.name].caller, times=0)]) == [FINE]


@pytest.mark.parametrize(("name", "word"), [(ARCHIVED, "SALE_ARCHIVED"), (CLOSED, "WRONG_PHASE")])
async def test_a_sale_that_is_over_takes_no_hold(bench: Bench, name: str, word: str) -> None:
    hold = methods()["InventoryService.Hold"]
    (path,) = (path for path in hold.paths if written(path) == "sale")
    (admission,) = (path for path in hold.paths if written(path) == "admission")
    shot = Shot(hold.name, "alice", (Edit(path, name), Edit(admission, "")))
    assert await bench.words([shot]) == [word]
