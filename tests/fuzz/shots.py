"""Hypothesis strategies for calls, built from the contract: right requests with a few things made wrong.

A text that begins with `@` stands for a value that only the running stack knows, a real order's id say; see
`tests.fuzz.scene`. So an example reads, and is found again, the same on every stack.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.fuzz.contract import FieldPath, Method, methods, put, written
from tests.fuzz.requests import RIGHT, command
from tests.fuzz.scene import FREE, FULL, LEDGER, LONG_AGO_ID, NEW, OPEN, SALES, SPARE, Scene

# What an organiser or a service changes for good is tried where nobody else is disturbed.
OWN_GROUND = {
    "SaleService.Define": (SPARE, *NEW),
    "SaleService.Pause": (SPARE, *NEW),
    "SaleService.Archive": (SPARE, *NEW),
    "InventoryService.Block": (SPARE, *NEW),
    "InventoryService.Unblock": (SPARE, *NEW),
    "LedgerService.Apply": (LEDGER,),
    "LedgerService.ApplyStream": (LEDGER,),
    "LedgerService.Drop": (LEDGER,),
    "LedgerService.Load": (LEDGER,),
}
PEOPLE = (
    *("alice", "bob", "newcomer", "shop for customer-1", "shop", "organiser", "staff"),
    *("nobody", "alice as bob", "shop for nobody", "shop for a space", "service", "roleless", "unheard-of"),
    *("expired", "forged", "garbage", "basic", "traced"),
)

NUL, RTL, COMBINING, EMOJI = "a\x00b", "a\u202eb\u200f", "e\u0301\u0327" * 3, "🎫🏟️"
NASTY = (
    *("", " ", ".", "..", "*", ">", "a.b", "a.>", "a b", "{}", "{a}", "{" + OPEN + "}", "a\nb", "a\r\nb"),
    *(NUL, RTL, COMBINING, EMOJI, "ａ", "A", "é", "-a", "a-", "a" * 63, "a" * 64, "a" * 257, "x" * 70_000),
    *("$JS.API.>", "%s%n", "' or 1=1 --", "../../etc/passwd", "<script>", "\ufeff", "\u2028", "١٢٣"),
)
NEAR: dict[str, Sequence[str]] = {
    "sale": (*SALES, "no-such-sale"),
    "hold_id": ("alice-held", "alice-gone", "bob-held", "a-new-hold", "a-ledgers-hold", "never-made"),
    "block_id": ("a-new-block", "a-ledgers-block", "never-made"),
    "idempotency_key": ("alice-waiting", "bob-waiting", "a-new-click", "another-click"),
    "order_id": ("@alice.order.waiting", "@alice.order.confirmed", "@bob.order.waiting", LONG_AGO_ID),
    "admission": (
        *(f"@alice.admission.{OPEN}", f"@bob.admission.{OPEN}", f"@alice.admission.{FULL}"),
        "@shop.admission",
    ),
    "buyer": ("@alice.id", "@bob.id", LONG_AGO_ID),
    "section": ("floor", "gratis", "attic"),
    "ticket_type": ("full", "half"),
    "subject": ("customer-1", "customer-2", "customer-3"),
    "subjects": ("customer-1", "customer-2", "customer-3"),
    "add": ("customer-1", "customer-2", "customer-3"),
    "drop": ("customer-1", "customer-2"),
    "page_token": (FREE, "zzzz", "MTox", "MTphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5eg=="),
    "id": ("floor", "full", "half", "gratis"),
    "currency": ("BRL", "EUR"),
    "provider": ("sandbox", "nobody"),
}
INTS = (0, 1, 2, 4, 5, -1, 99, 100, 101, 1000, 2**31 - 1, -(2**31))
# With the ends of what a Timestamp takes, in seconds and in milliseconds, and of what a double counts.
LONGS = (
    *(*INTS, 2**53 - 1, 2**53, 2**63 - 1, -(2**63), 253402300799, 253402300800, 253402300799999),
    *(253402300800000, -62135596800, -62135596801),
)
DOUBLES = (0.0, -0.0, 1.0, -1.0, 0.5, 1e308, float("inf"), float("-inf"), float("nan"))
COUNTS = (0, 1, 2, 11, 501, 1001, 5001)
TOO_LARGE = 5 * 1024 * 1024
UNKNOWN_FIELD = b"\xfa\xff\x7f\x03abc"
FLAWS = ("", "", "", "", "", "unknown field", "cut", "garbage", "empty")


@dataclass(frozen=True)
class Edit:
    """One field of the right request put wrong."""

    path: FieldPath
    value: Any

    def __repr__(self) -> str:
        shown = repr(self.value)
        return f"{written(self.path)}={shown if len(shown) < 120 else shown[:100] + f'… ({len(shown)})'}"


@dataclass(frozen=True)
class Shot:
    """One call; as an example shows it."""

    method: str
    caller: str
    edits: tuple[Edit, ...] = ()
    flaw: str = ""
    """What is wrong with its bytes."""
    times: int = 1
    """How many messages a stream of requests has."""
    kind: str = ""
    """Of the ledger's command, where the method takes commands."""

    def requests(self, scene: Scene) -> list[bytes]:
        """The messages as they are sent."""
        message = RIGHT[self.method].make(scene)
        if self.kind:
            message.ClearField("commands")
            message.commands.append(command(scene, self.kind))
        for edit in self.edits:
            _apply(message, edit, scene)
        return [_flawed(message.SerializeToString(), self.flaw)] * self.times


def _flawed(data: bytes, flaw: str) -> bytes:
    match flaw:
        case "unknown field":
            return data + UNKNOWN_FIELD
        case "cut":
            return data[: len(data) // 2] + b"\xff"
        case "garbage":
            return b"\xff\x00\xc0\xaf" * 5
        case "empty":
            return b""
        case "too large":
            return data + UNKNOWN_FIELD * (TOO_LARGE // len(UNKNOWN_FIELD))
    return data


def _apply(message: Message, edit: Edit, scene: Scene) -> None:
    value = edit.value
    if isinstance(value, str):
        value = scene.real(value)
    elif isinstance(value, list):
        value = [scene.real(each) if isinstance(each, str) else each for each in value]
    # A number that its field cannot hold never leaves the caller.
    with contextlib.suppress(ValueError, TypeError):
        put(message, edit.path, value)


def _texts(name: str) -> st.SearchStrategy[str]:
    near = NEAR.get(name, ())
    wild = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))
    return st.one_of(st.sampled_from(near), st.sampled_from(near), wild) if near else wild


def _scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=64)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return _texts(field.name)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([*field.enum_type.values_by_number, -1, 99, 2**31 - 1, -(2**31)])
    if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32):
        return st.one_of(st.sampled_from(INTS), st.integers(-(2**31), 2**31 - 1))
    if kind == FieldDescriptor.CPPTYPE_INT64:
        return st.one_of(st.sampled_from(LONGS), st.integers(-(2**63), 2**63 - 1))
    if kind == FieldDescriptor.CPPTYPE_UINT64:
        return st.sampled_from((0, 1, 2, 2**53, 2**63, 2**64 - 1))
    return st.one_of(st.sampled_from(DOUBLES), st.floats())


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return st.sampled_from(COUNTS).map(lambda count: [None] * count) if field.is_repeated else st.just({})
    if not field.is_repeated:
        return _scalars(field)
    few = st.lists(_scalars(field), max_size=3)
    short = _scalars(field).filter(lambda value: len(str(value)) < 300)
    many = st.tuples(short, st.sampled_from(COUNTS)).map(lambda pair: [pair[0]] * pair[1])
    return st.one_of(few, few, many)


def _edits(method: Method) -> st.SearchStrategy[Edit]:
    def of(path: FieldPath) -> st.SearchStrategy[Edit]:
        own = OWN_GROUND.get(method.name)
        if own and written(path) == "sale":
            texts = st.one_of(st.sampled_from(own), st.sampled_from(NASTY), st.just("no-such-sale"))
            return st.builds(Edit, st.just(path), texts)
        return st.builds(Edit, st.just(path), _values(path[-1]))

    each = {written(path): of(path) for path in method.paths}
    return st.sampled_from(sorted(each)).flatmap(each.__getitem__)


def _kinds(method: Method) -> st.SearchStrategy[str]:
    taken = method.descriptor.input_type.fields_by_name.get("commands")
    if taken is None:
        return st.just("")
    return st.sampled_from([field.name for field in taken.message_type.fields])


def _shots_at(method: Method) -> st.SearchStrategy[Shot]:
    right = st.just(RIGHT[method.name].caller)
    return st.builds(
        Shot,
        st.just(method.name),
        st.one_of(right, right, st.sampled_from(PEOPLE)),
        st.lists(_edits(method), max_size=3).map(tuple) if method.paths else st.just(()),
        st.sampled_from(FLAWS),
        # A unary method gets its one message: gRPC itself fails a call with another number.
        st.sampled_from((1, 1, 1, 0, 2)) if method.streams_in else st.just(1),
        _kinds(method),
    )


def shots() -> st.SearchStrategy[Shot]:
    """A call of any method by anyone."""
    every = {name: _shots_at(method) for name, method in methods().items()}
    return st.sampled_from(sorted(every)).flatmap(every.__getitem__)
