"""Bad input, one row each: a named reason with the right status, never INTERNAL, and nothing has changed."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale
from redis.asyncio import Redis

from local.client import Buyer, answered, bearer, item, streamed
from services.kit.errors import STATUS, Refusal

GONE = "no-such-sale"
MALFORMED = "Not a label!"
HUGE = "x" * 5_000_000
CLOSES_IN_S = 1.0
SOMEWHERE = "abcdefghijklmnopqrstuvwxyz"
"""A well-formed order id that no order has."""


@dataclass
class Scene:
    """Sales in every phase, and buyers at every step, that the rows try their luck with."""

    house: Any
    open: str
    lobby: str
    scheduled: str
    closed: str
    lineless: str
    admitted: Buyer
    """Within the turn in `open`, with `admission`."""
    admission: str
    waiting: Buyer
    """Stands in `open`, not called: there is nothing left to promise."""
    in_lobby: Buyer
    stranger: Buyer
    """Has no place in `open`."""
    elsewhere: str
    """An admission of `admitted`'s own, to another sale."""

    @property
    def sales(self) -> list[str]:
        """All of them."""
        return [self.open, self.lobby, self.scheduled, self.closed, self.lineless]

    def as_buyer(self, name: str) -> Buyer:
        """Somebody new at this sale."""
        return self.house.buyer(name)

    def token(self, **claims: Any) -> str:
        """A token made as asked."""
        return self.house.minter.mint("somebody", **claims)


@pytest.fixture(scope="module")
async def scene(house: Any) -> Scene:
    # Three are left to promise, one less than the limit.
    open_sale, other_sale = await house.sale(capacity=3), await house.sale(capacity=3)
    closes_at = time.time() + CLOSES_IN_S
    closed = await house.sale(opens_in_s=-1, closes_in_s=CLOSES_IN_S, line=False)
    admitted = house.buyer(open_sale, "admitted-one")
    admission = (await house.admitted(admitted)).token
    waiting = house.buyer(open_sale)
    await waiting.join()
    lobby = await house.sale(opens_in_s=3000)
    in_lobby = house.buyer(lobby)
    await in_lobby.join()
    elsewhere = (await house.admitted(house.buyer(other_sale, "admitted-one"))).token
    scheduled = await house.sale(lobby_in_s=1000, opens_in_s=3000)
    lineless = await house.sale(line=False)
    await asyncio.sleep(max(closes_at + 0.1 - time.time(), 0))
    scene = Scene(
        house=house,
        open=open_sale,
        lobby=lobby,
        scheduled=scheduled,
        closed=closed,
        lineless=lineless,
        admitted=admitted,
        admission=admission,
        waiting=waiting,
        in_lobby=in_lobby,
        stranger=house.buyer(open_sale),
        elsewhere=elsewhere,
    )
    changes = await state_of(scene)
    assert all(changes[name] > (0, 0) for name in (open_sale, lobby)), "what is compared is there"
    return scene


Act = Callable[[Scene], Awaitable[Any]]


def row(name: str, word: str, act: Act) -> Any:
    """One line of the table."""
    return pytest.param(word, act, id=f"{name}-{word}")


def with_token(s: Scene, token: str, subject: str = "") -> Buyer:
    return Buyer(s.house.at, s.open, token, subject=subject)


async def first_of(stream: AsyncIterator[Any]) -> Any:
    async for message in stream:
        return message
    return None


def forged(token: str) -> str:
    """The same with one character changed in the middle of its last part."""
    middle = (token.rfind(".") + len(token)) // 2
    return token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]


async def bff(s: Scene) -> Any:
    """A BFF asks for a place and does not say whose."""
    token = s.token(roles=["bff"], namespace="shop")
    return await Buyer(s.house.at, s.open, token).place()


async def join_many(s: Scene, token: str) -> Any:
    call = s.house.at.queue.JoinMany(metadata=bearer(token))
    await answered(call.write(queue.JoinManyRequest(sale=s.open, items=[queue.JoinItem(subject="one")])))
    return await first_of(streamed(call))


async def define(s: Scene, token: str, spec: sale.SaleSpec, name: str = "some-sale") -> Any:
    request = sale.DefineRequest(sale=name, spec=spec)
    return await answered(s.house.at.sales.Define(request, metadata=bearer(token)))


def organiser(s: Scene) -> str:
    return s.token(roles=["organiser"])


async def ledger(s: Scene, token: str) -> Any:
    request = inventory.GetLedgerRequest(sale=s.open)
    return await answered(s.house.at.ledger.GetLedger(request, metadata=bearer(token)))


async def hold(s: Scene, *items: inventory.HoldItem, hold_id: str = "my-hold-1", admission: str = "") -> Any:
    return await s.admitted.hold(hold_id, items, admission or s.admission)


async def order(
    s: Scene, *items: inventory.HoldItem, key: str = "", hold_id: str = "", admission: str = ""
) -> Any:
    """Under a key of its own: a refused order's key answers the same refusal for ever."""
    key = key or f"key-{secrets.token_hex(8)}"
    return await s.admitted.order(key, items, hold_id=hold_id, admission=admission or s.admission)


async def foreign_hold(s: Scene) -> Any:
    return await s.waiting.hold("my-hold-1", [ONE], s.admission)


async def foreign_order(s: Scene) -> Any:
    return await s.waiting.order("click-two", [ONE], admission=s.admission)


ONE, FOUR, FIVE = (item("floor", count) for count in (1, 4, 5))

TOKENS = [
    row("none", "TOKEN_INVALID", lambda s: with_token(s, "").join()),
    row("nonsense", "TOKEN_INVALID", lambda s: with_token(s, "nonsense").join()),
    row("forged", "TOKEN_INVALID", lambda s: with_token(s, forged(s.token())).join()),
    row("expired", "TOKEN_EXPIRED", lambda s: with_token(s, s.token(ttl_s=-60)).join()),
    row("hold", "TOKEN_INVALID", lambda s: with_token(s, "").hold("my-hold-1", [ONE])),
    row("order", "TOKEN_EXPIRED", lambda s: with_token(s, s.token(ttl_s=-60)).order("click-one", [ONE])),
    row("subscribe", "TOKEN_INVALID", lambda s: first_of(with_token(s, "").subscribe())),
    row("bff-names-nobody", "NOT_YOUR_BUYER", bff),
    row(
        "buyer-names-another",
        "NOT_YOUR_BUYER",
        lambda s: with_token(s, s.token(), subject="x").place(),
    ),
    row("buyer-joins-many", "ROLE_REQUIRED", lambda s: join_many(s, s.token())),
    row("buyer-defines", "ROLE_REQUIRED", lambda s: define(s, s.token(), sale.SaleSpec())),
    row("buyer-reads-ledger", "ROLE_REQUIRED", lambda s: ledger(s, s.token())),
]

SALES = [
    row("join-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).join()),
    row("place-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).place()),
    row("watch-unknown", "SALE_NOT_FOUND", lambda s: first_of(s.as_buyer(GONE).watch())),
    row("enter-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).enter()),
    row("leave-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).leave()),
    row("hold-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).hold("my-hold-1", [ONE])),
    row("release-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).release("my-hold-1")),
    row("availability-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).availability()),
    row("order-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).order("click-one", [ONE])),
    row("get-order-unknown", "SALE_NOT_FOUND", lambda s: s.as_buyer(GONE).get_order(SOMEWHERE)),
    row("join-malformed", "INVALID_FIELD", lambda s: s.as_buyer(MALFORMED).join()),
    row("watch-malformed", "INVALID_FIELD", lambda s: first_of(s.as_buyer(MALFORMED).watch())),
    row("hold-malformed", "INVALID_FIELD", lambda s: s.as_buyer(MALFORMED).hold("my-hold-1", [ONE])),
    row("order-malformed", "INVALID_FIELD", lambda s: s.as_buyer(MALFORMED).order("click-one", [ONE])),
    row("subscribe-malformed", "INVALID_FIELD", lambda s: first_of(s.as_buyer(MALFORMED).subscribe())),
    row("empty", "INVALID_FIELD", lambda s: s.as_buyer("").join()),
    row("define-nothing", "DEFINITION_INVALID", lambda s: define(s, organiser(s), sale.SaleSpec())),
    row(
        "define-malformed",
        "DEFINITION_INVALID",
        lambda s: define(s, organiser(s), sale.SaleSpec(), MALFORMED),
    ),
]

ITEMS = [
    row("hold-0", "INVALID_QUANTITY", lambda s: hold(s, item("floor", 0))),
    row("hold-negative", "INVALID_QUANTITY", lambda s: hold(s, item("floor", -1))),
    row("hold-101", "INVALID_QUANTITY", lambda s: hold(s, item("floor", 101))),
    row("hold-above-allowance", "ALLOWANCE_EXCEEDED", lambda s: hold(s, FOUR)),
    row(
        "hold-above-limit",
        "LIMIT_REACHED",
        lambda s: s.as_buyer(s.lineless).hold("my-hold-1", [FIVE]),
    ),
    row("hold-nothing", "INVALID_FIELD", hold),
    row("hold-eleven-items", "INVALID_FIELD", lambda s: hold(s, *[ONE] * 11)),
    row("hold-id-short", "INVALID_FIELD", lambda s: hold(s, ONE, hold_id="x")),
    row("hold-id-odd", "INVALID_FIELD", lambda s: hold(s, ONE, hold_id="UPPER / CASE")),
    row("hold-section", "SECTION_NOT_FOUND", lambda s: hold(s, item("attic", 1))),
    row("hold-type", "TICKET_TYPE_NOT_FOUND", lambda s: hold(s, item("floor", 1, "royal"))),
    row("release-none", "HOLD_NOT_FOUND", lambda s: s.admitted.release("never-made-1")),
    row("order-0", "INVALID_QUANTITY", lambda s: order(s, item("floor", 0))),
    row("order-negative", "INVALID_QUANTITY", lambda s: order(s, item("floor", -3))),
    row("order-101", "INVALID_QUANTITY", lambda s: order(s, item("floor", 101))),
    row("order-above-allowance", "ALLOWANCE_EXCEEDED", lambda s: order(s, FOUR)),
    row(
        "order-above-limit",
        "LIMIT_REACHED",
        lambda s: s.as_buyer(s.lineless).order("click-one", [FIVE]),
    ),
    row("order-nothing", "INVALID_FIELD", order),
    row("order-eleven-items", "INVALID_FIELD", lambda s: order(s, *[ONE] * 11)),
    row("order-key-short", "INVALID_FIELD", lambda s: order(s, ONE, key="x")),
    row("order-key-odd", "INVALID_FIELD", lambda s: order(s, ONE, key="a > key . with * signs")),
    row("order-section", "SECTION_NOT_FOUND", lambda s: order(s, item("attic", 1))),
    row("order-type", "TICKET_TYPE_NOT_FOUND", lambda s: order(s, item("floor", 1, "royal"))),
    row(
        "order-of-no-hold",
        "HOLD_NOT_FOUND",
        lambda s: order(s, hold_id="never-made-1"),
    ),
    row("get-order-malformed", "INVALID_FIELD", lambda s: s.admitted.get_order("no order!")),
    row("get-order-unknown", "ORDER_NOT_FOUND", lambda s: s.admitted.get_order(SOMEWHERE)),
    row("cancel-unknown", "ORDER_NOT_FOUND", lambda s: s.admitted.cancel(SOMEWHERE)),
]

ADMISSIONS = [
    row("hold-without", "ADMISSION_REQUIRED", lambda s: s.waiting.hold("my-hold-1", [ONE])),
    row("hold-nonsense", "ADMISSION_INVALID", lambda s: hold(s, ONE, admission="nonsense")),
    row("hold-forged", "ADMISSION_INVALID", lambda s: hold(s, ONE, admission=forged(s.admission))),
    row(
        "hold-of-another-buyer",
        "ADMISSION_FOREIGN",
        foreign_hold,
    ),
    row("hold-of-another-sale", "ADMISSION_FOREIGN", lambda s: hold(s, ONE, admission=s.elsewhere)),
    row("order-without", "ADMISSION_REQUIRED", lambda s: s.waiting.order("click-one", [ONE])),
    row("order-forged", "ADMISSION_INVALID", lambda s: order(s, ONE, admission=forged(s.admission))),
    row(
        "order-of-another-buyer",
        "ADMISSION_FOREIGN",
        foreign_order,
    ),
    row("order-of-another-sale", "ADMISSION_FOREIGN", lambda s: order(s, ONE, admission=s.elsewhere)),
]

PHASES = [
    row("join-scheduled", "WRONG_PHASE", lambda s: s.as_buyer(s.scheduled).join()),
    row("join-lineless", "NO_LINE", lambda s: s.as_buyer(s.lineless).join()),
    row("enter-lobby", "WRONG_PHASE", lambda s: s.in_lobby.enter()),
    row("enter-not-called", "NOT_CALLED_YET", lambda s: s.waiting.enter()),
    row("enter-no-place", "NOT_IN_LINE", lambda s: s.stranger.enter()),
    row("place-no-place", "NOT_IN_LINE", lambda s: s.stranger.place()),
    row("watch-no-place", "NOT_IN_LINE", lambda s: first_of(s.stranger.watch())),
    row("leave-no-place", "NOT_IN_LINE", lambda s: s.stranger.leave()),
    row("hold-lobby", "ADMISSION_REQUIRED", lambda s: s.in_lobby.hold("my-hold-1", [ONE])),
    row("hold-closed", "WRONG_PHASE", lambda s: s.as_buyer(s.closed).hold("my-hold-1", [ONE])),
    row("order-closed", "WRONG_PHASE", lambda s: s.as_buyer(s.closed).order("click-one", [ONE])),
    row("pause-closed", "WRONG_PHASE", lambda s: s.house.organiser.pause(s.closed, True)),
]

SIZES = [
    row("join", "MESSAGE_TOO_LARGE", lambda s: join_with_code(s, HUGE)),
    row("hold", "MESSAGE_TOO_LARGE", lambda s: hold(s, item(HUGE, 1))),
    row("order", "MESSAGE_TOO_LARGE", lambda s: order(s, item(HUGE, 1), key="a-big-click")),
    row("subscribe", "MESSAGE_TOO_LARGE", lambda s: first_of(s.as_buyer(HUGE).subscribe())),
]


async def join_with_code(s: Scene, code: str) -> Any:
    request = queue.JoinRequest(sale=s.open, access_code=code)
    return await answered(s.house.at.queue.Join(request, metadata=s.stranger.metadata))


@pytest.mark.parametrize(("word", "act"), [*TOKENS, *SALES, *ITEMS, *ADMISSIONS, *PHASES, *SIZES])
async def test_is_refused_by_name_and_changes_nothing(scene: Scene, word: str, act: Act) -> None:
    before = await state_of(scene)
    with pytest.raises(Refusal) as refused:
        await act(scene)
    assert refused.value.word == word, refused.value.message
    cause = refused.value.__cause__
    assert isinstance(cause, grpc.aio.AioRpcError)
    assert cause.code() is STATUS[word] and cause.code() is not grpc.StatusCode.INTERNAL
    assert await state_of(scene) == before


async def state_of(scene: Scene) -> dict[str, tuple[int, int]]:
    """How many changes the ledger and the line of each sale have seen."""
    redis = Redis.from_url(scene.house.running.redis_url)
    try:
        return {
            name: (
                (await scene.house.ledger(name)).sequence,
                int(await redis.hget(f"q:{{{name}}}:meta", "sequence") or 0),
            )
            for name in scene.sales
        }
    finally:
        await redis.aclose()
