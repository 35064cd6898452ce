"""What the hostile try, on the whole system: each refused by name, and nothing has changed."""

import asyncio
import base64
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.queue.v1 import queue_pb2 as queue
from google.protobuf.message import Message
from redis.asyncio import Redis

from local.client import Buyer, Connection, Targets, answered, bearer, item, streamed
from services.kit import admission as admissions
from services.kit.admission import AdmissionClaims
from services.kit.errors import Refusal
from services.kit.keys import KeyRing, SymmetricKey, load_ring
from tests.e2e.cheating import AWAITING, CONFIRMED, ONE, nothing_changes, word_of

JOINS = 10_000
JOINS_IN_A_BATCH = 1000
UNARY_JOINS = 400
TIMES = 20
"""What a turn may take units, where the sale does not say otherwise."""


# ---- somebody else's ----


async def test_somebody_elses_admission_is_refused(house: Any) -> None:
    name = await house.sale()
    owner, thief = house.buyer(name), house.buyer(name)
    stolen = (await house.admitted(owner)).token
    own = (await house.admitted(thief)).token
    async with nothing_changes(house, name):
        assert await word_of(thief.hold("my-hold-1", ONE, stolen)) == "ADMISSION_FOREIGN"
        assert await word_of(thief.order("click-one", ONE, admission=stolen)) == "ADMISSION_FOREIGN"
    assert await word_of(thief.hold("my-hold-1", ONE, own)) == "FINE"


async def test_somebody_elses_hold_is_not_found(house: Any) -> None:
    name = await house.sale(line=False)
    owner, thief = house.buyer(name), house.buyer(name)
    await owner.hold("owners-hold", ONE)
    async with nothing_changes(house, name, refused_orders=1):
        assert await word_of(thief.release("owners-hold")) == "HOLD_NOT_FOUND"
        assert await word_of(thief.order("click-one", hold_id="owners-hold")) == "HOLD_NOT_FOUND"
    # The same name for a hold of one's own is one's own.
    await thief.hold("owners-hold", ONE)
    await thief.release("owners-hold")
    placed = await owner.order("click-one", hold_id="owners-hold")
    assert placed.state == checkout.ORDER_STATE_ACCEPTED


async def test_somebody_elses_order_is_not_found_and_not_told(house: Any) -> None:
    name = await house.sale(line=False)
    owner, thief = house.buyer(name), house.buyer(name)
    placed = await owner.order("click-one", ONE)
    asked = await house.told(owner, placed.order_id, AWAITING)
    async with nothing_changes(house, name):
        assert await word_of(thief.get_order(placed.order_id)) == "ORDER_NOT_FOUND"
        assert await word_of(thief.cancel(placed.order_id)) == "ORDER_NOT_FOUND"
        assert not (await listed(thief)).orders
    heard = asyncio.create_task(first_update(thief))
    await house.pay(asked)
    await house.told(owner, placed.order_id, CONFIRMED)
    own = await thief.order("click-one", ONE)
    assert (await heard).order_id == own.order_id, "the first that the other hears of is their own"


async def listed(buyer: Buyer) -> checkout.ListOrdersResponse:
    request = checkout.ListOrdersRequest(sale=buyer.sale)
    return await answered(buyer.at.orders.ListOrders(request, metadata=buyer.metadata))


async def first_update(buyer: Buyer) -> checkout.Order:
    async with asyncio.timeout(30):
        async for message in buyer.subscribe():
            if message.HasField("update"):
                return message.update.order
    raise AssertionError("the stream ended before it told")


# ---- forged and late ----


def opened(token: str) -> tuple[str, AdmissionClaims, bytes]:
    """Key id, claims and MAC of an admission."""
    key_id, _, sealed = token.partition(".")
    data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    return key_id, AdmissionClaims.FromString(data[:-16]), data[-16:]


def sealed(key_id: str, body: bytes) -> str:
    return f"{key_id}.{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}"


def forgeries(house: Any, token: str) -> dict[str, str]:
    """Admissions nobody gave, each wrong in its own way."""
    key_id, claims, mac = opened(token)
    rich = AdmissionClaims()
    rich.CopyFrom(claims)
    rich.allowance, rich.turn_ends_at_ms = 100, claims.turn_ends_at_ms + 3_600_000
    (buyers_key,) = load_ring(Path(house.running.keys["buyer_hash"]), "buyer_hash_key_file").keys
    guessed = KeyRing((SymmetricKey(key_id, secrets.token_bytes(32)),))
    of_another_purpose = KeyRing((SymmetricKey(key_id, buyers_key.secret),))
    body = claims.SerializeToString()
    return {
        "more": sealed(key_id, rich.SerializeToString() + mac),
        "guessed key": admissions.mint(rich, guessed),
        "key of another purpose": admissions.mint(rich, of_another_purpose),
        "unknown key": token.replace(key_id, "k9", 1),
        "no mac": sealed(key_id, body),
        "half a mac": sealed(key_id, body + mac[:8]),
        "zero mac": sealed(key_id, body + bytes(16)),
        "another bit": sealed(key_id, body + bytes([mac[0] ^ 1]) + mac[1:]),
        "padded": token + "=",
        "a JWT": house.minter.mint("somebody"),
    }


async def test_a_forged_admission_is_refused(house: Any) -> None:
    name = await house.sale()
    buyer = house.buyer(name)
    token = (await house.admitted(buyer)).token
    async with nothing_changes(house, name):
        for how, forged in forgeries(house, token).items():
            assert await word_of(buyer.hold("my-hold-1", ONE, forged)) == "ADMISSION_INVALID", how
            order = buyer.order("click-one", ONE, admission=forged)
            assert await word_of(order) == "ADMISSION_INVALID", how
    assert await word_of(buyer.hold("my-hold-1", ONE, token)) == "FINE"


async def let_turns_end(house: Any, sale: str) -> None:
    """Sets the ledger's clock on by a minute and a bit: no turn of these sales is longer."""
    redis = Redis.from_url(house.running.redis_url)
    try:
        await redis.hset(f"i:{{{sale}}}:meta", "now", round((time.time() + 61) * 1000))
    finally:
        await redis.aclose()


async def test_an_expired_turn_is_over(house: Any) -> None:
    name = await house.sale(capacity=4)
    late = house.buyer(name)
    token = (await house.admitted(late)).token
    await let_turns_end(house, name)
    next_one = house.buyer(name)
    await next_one.join()
    await house.called(next_one)
    async with nothing_changes(house, name, refused_orders=1):
        assert await word_of(late.hold("my-hold-1", ONE, token)) == "TURN_EXPIRED"
        assert await word_of(late.order("click-one", ONE, admission=token)) == "TURN_EXPIRED"
        assert await word_of(late.enter()) == "TURN_EXPIRED"


async def test_an_old_admission_is_worth_nothing_in_a_new_turn(house: Any) -> None:
    name = await house.sale(capacity=8)
    buyer = house.buyer(name)
    old = (await house.admitted(buyer)).token
    await let_turns_end(house, name)
    async with asyncio.timeout(30):
        while (await buyer.place()).state != queue.PLACE_STATE_LAPSED:
            await asyncio.sleep(0.1)
    new = (await house.admitted(buyer)).token
    assert await word_of(buyer.hold("my-hold-1", ONE, old)) == "TURN_EXPIRED"
    assert await word_of(buyer.hold("my-hold-1", ONE, new)) == "FINE"


# ---- more than one may have ----


@asynccontextmanager
async def devices(house: Any, sale: str, subject: str, count: int) -> AsyncIterator[list[Buyer]]:
    """One person at many devices: a connection and a token for each."""
    connections = [Connection(Targets(**house.running.targets)) for _ in range(count)]
    try:
        yield [
            Buyer(each, sale, house.minter.mint(subject, ttl_s=600 + n)) for n, each in enumerate(connections)
        ]
    finally:
        for each in connections:
            await each.close()


async def grab(buyer: Buyer, number: int, admission: str = "") -> str:
    """Take one unit, by an order or by a hold."""
    if number % 2:
        return await word_of(buyer.order(f"click-{number:04}", ONE, admission=admission))
    return await word_of(buyer.hold(f"hold-{number:04}", ONE, admission))


@pytest.mark.parametrize("line", [True, False])
async def test_many_orders_tabs_and_devices_get_one_limit(house: Any, line: bool) -> None:
    name = await house.sale(capacity=50, limit=4, line=line)
    async with devices(house, name, "greedy", 5) as tabs:
        tokens = [""] * len(tabs)
        if line:
            await asyncio.gather(*(tab.join() for tab in tabs))
            await house.called(tabs[0])
            tokens = [each.token for each in await asyncio.gather(*(tab.enter() for tab in tabs))]
        words = await asyncio.gather(
            *(grab(tabs[n % len(tabs)], n, tokens[n % len(tabs)]) for n in range(40))
        )
        assert words.count("FINE") == 4
        assert set(words) <= {"FINE", "LIMIT_REACHED", "ALLOWANCE_EXCEEDED"}
        if line:
            # Nor does standing in line again help: there is nothing left of the limit to promise.
            await asyncio.gather(*(tab.join() for tab in tabs))
            assert await word_of(tabs[0].hold("one-more-hold", ONE, tokens[0])) != "FINE"
    counts = (await house.ledger(name)).counts
    assert counts.capacity - counts.free - counts.promised <= 4
    assert (await house.ledger(name)).turns <= 1


async def test_buying_again_does_not_start_the_limit_again(house: Any) -> None:
    name = await house.sale(line=False, limit=2, price=0)
    buyer = house.buyer(name)
    placed = await buyer.order("click-one", [item("floor", 2)])
    await house.told(buyer, placed.order_id, CONFIRMED)
    async with nothing_changes(house, name, refused_orders=1):
        assert await word_of(buyer.hold("my-hold-1", ONE)) == "LIMIT_REACHED"
        assert await word_of(buyer.order("click-two", ONE)) == "LIMIT_REACHED"


# ---- speaking for others ----


async def test_a_bff_speaks_for_its_own_namespace_only(house: Any) -> None:
    name = await house.sale()
    ana = house.buyer(name, "ana", namespace="public")
    admission = (await house.admitted(ana)).token
    await ana.hold("anas-hold", ONE, admission)
    placed = await ana.order("click-one", ONE, admission=admission)
    await house.told(ana, placed.order_id, AWAITING)
    bff = house.minter.mint("front", roles=["bff"], namespace="shop")
    posing = Buyer(house.at, name, bff, subject="ana")
    async with nothing_changes(house, name):
        assert await word_of(posing.place()) == "NOT_IN_LINE"
        assert await word_of(posing.leave()) == "NOT_IN_LINE"
        assert await word_of(posing.hold("my-hold-1", ONE, admission)) == "ADMISSION_FOREIGN"
        assert await word_of(posing.release("anas-hold")) == "HOLD_NOT_FOUND"
        assert await word_of(posing.get_order(placed.order_id)) == "ORDER_NOT_FOUND"
        assert await word_of(posing.cancel(placed.order_id)) == "ORDER_NOT_FOUND"
        for subject in ("public\0ana", "\0ana", "ana\n", ""):
            assert (await joined_for(house, name, bff, subject)).refusal == "INVALID_FIELD"
    # Whatever a subject looks like, it stays within the namespace of the BFF's token.
    for number, subject in enumerate(("ana", "public/ana", "public:ana"), 1):
        assert (await joined_for(house, name, bff, subject)).place.index == number


async def joined_for(house: Any, sale: str, token: str, subject: str) -> queue.PlaceResult:
    """What a BFF's batch says of one subject."""
    request = queue.JoinManyRequest(sale=sale, items=[queue.JoinItem(subject=subject)])
    call = house.at.queue.JoinMany(iter([request]), metadata=bearer(token))
    (answer,) = [each async for each in streamed(call)]
    return answer.results[0]


@pytest.mark.parametrize("role", ["buyer", "organiser", "staff", "bff", "service"])
async def test_a_role_is_good_for_its_own_methods_only(house: Any, role: str) -> None:
    name = await house.sale(line=False)
    token = house.minter.mint("somebody", roles=[role])
    lapse = inventory.Command(
        commit=inventory.CommitCommand(hold_id="h" * 8, buyer="a" * 26, order_id="b" * 26)
    )
    calls: dict[str, tuple[set[str], Callable[[], Awaitable[Any]]]] = {
        "hold": ({"buyer"}, lambda: Buyer(house.at, name, token).hold("my-hold-1", ONE)),
        "order": ({"buyer"}, lambda: Buyer(house.at, name, token).order("click-one", ONE)),
        "apply": (
            {"service"},
            lambda: sent(house.at.ledger.Apply, inventory.ApplyRequest(sale=name, commands=[lapse]), token),
        ),
        "drop": ({"service"}, lambda: sent(house.at.ledger.Drop, inventory.DropRequest(sale=name), token)),
    }
    async with nothing_changes(house, name):
        for what, (allowed, call) in calls.items():
            if role not in allowed:
                assert await word_of(call()) in ("ROLE_REQUIRED", "NOT_YOUR_BUYER"), what


async def sent(method: Any, request: Message, token: str) -> Any:
    return await answered(method(request, metadata=bearer(token)))


# ---- keeping things from others, for ever ----


@pytest.mark.parametrize("line", [True, False])
@pytest.mark.parametrize("how", ["hold", "order"])
async def test_taking_and_giving_back_for_ever_is_bounded(house: Any, line: bool, how: str) -> None:
    name = await house.sale(capacity=2, limit=2, line=line)
    buyer = house.buyer(name)
    token = (await house.admitted(buyer)).token if line else ""
    for number in range(TIMES):
        assert await taken_and_given_back(house, buyer, how, number, token) == "FINE", number
    async with nothing_changes(house, name, refused_orders=1):
        assert await word_of(buyer.hold("once-more", ONE, token)) == "HOLD_LIMIT"
        assert await word_of(buyer.order("once-more", ONE, admission=token)) == "HOLD_LIMIT"
    other = house.buyer(name)
    if line:
        await buyer.leave()
        other_token = (await house.admitted(other)).token
        assert await word_of(other.hold("others-hold", ONE, other_token)) == "FINE"
    else:
        assert await word_of(other.hold("others-hold", ONE)) == "FINE"


async def taken_and_given_back(house: Any, buyer: Buyer, how: str, number: int, token: str) -> str:
    if how == "hold":
        word = await word_of(buyer.hold(f"again-{number:04}", ONE, token))
        await buyer.release(f"again-{number:04}")
        return word
    try:
        placed = await buyer.order(f"again-{number:04}", ONE, admission=token)
    except Refusal as refusal:
        return refusal.word
    await buyer.cancel(placed.order_id)
    free_again = house.ledger
    async with asyncio.timeout(30):
        while (await free_again(buyer.sale)).counts.held or (await free_again(buyer.sale)).claims:
            await asyncio.sleep(0.02)
    return "FINE"


async def test_leaving_and_joining_for_ever_takes_no_room(house: Any) -> None:
    name = await house.sale(capacity=2, limit=2)
    buyer = house.buyer(name)
    await house.admitted(house.buyer(name))
    joined = (await buyer.join()).place
    await buyer.leave()
    async with nothing_changes(house, name):
        for _ in range(20):
            assert await word_of(buyer.join()) == "JOIN_LIMIT"
    async with asyncio.timeout(30):
        while await word_of(buyer.join()) == "JOIN_LIMIT":
            await asyncio.sleep(0.1)
    assert (await buyer.place()).place == joined + 1, "at the end, once"


async def test_ten_thousand_joins_of_one_person_are_one_place(house: Any) -> None:
    name = await house.sale(opens_in_s=3000)
    bff = house.minter.mint("front", roles=["bff"], namespace="shop")
    first = await Buyer(house.at, name, bff, subject="eager").join()
    async with nothing_changes(house, name), devices_of_a_bff(house, name, bff) as tabs:
        batches = (JOINS - UNARY_JOINS) // JOINS_IN_A_BATCH + 1
        many = asyncio.gather(*(joined_often(tab) for tab in tabs for _ in range(batches // len(tabs) + 1)))
        places = await asyncio.gather(*(tabs[n % len(tabs)].join() for n in range(UNARY_JOINS)))
        indexes = {index for seen in await many for index in seen}
    assert indexes == {first.index} == {place.index for place in places}


@asynccontextmanager
async def devices_of_a_bff(house: Any, sale: str, token: str) -> AsyncIterator[Sequence[Buyer]]:
    connections = [Connection(Targets(**house.running.targets)) for _ in range(4)]
    try:
        yield [Buyer(each, sale, token, subject="eager") for each in connections]
    finally:
        for each in connections:
            await each.close()


async def joined_often(buyer: Buyer) -> set[int]:
    """The places that a thousand joins in one message give the same person."""
    items = [queue.JoinItem(subject="eager")] * JOINS_IN_A_BATCH
    call = buyer.at.queue.JoinMany(
        iter([queue.JoinManyRequest(sale=buyer.sale, items=items)]), metadata=buyer.metadata[:1]
    )
    (answer,) = [each async for each in streamed(call)]
    assert not any(result.refusal for result in answer.results)
    return {result.place.index for result in answer.results}
