"""Cheats with what is somebody else's, forged, late or used up: refused, counted, and nothing has changed."""

import asyncio
import base64
import secrets
import time
from pathlib import Path
from typing import Any

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from redis.asyncio import Redis

from local.client import Buyer, answered, item
from services.kit import admission as admissions
from services.kit.admission import AdmissionClaims
from services.kit.keys import KeyRing, SymmetricKey, load_ring
from tests.e2e.cheating import AWAITING, CONFIRMED, ONE, cheating, word_of

# ---- somebody else's ----


async def test_somebody_elses_admission_is_refused(house: Any) -> None:
    name = await house.sale()
    owner, thief = house.buyer(name), house.buyer(name)
    stolen = (await house.admitted(owner)).token
    own = (await house.admitted(thief)).token
    async with cheating(house, name) as tries:
        await tries.refused("ADMISSION_FOREIGN", thief.hold("my-hold-1", ONE, stolen))
        await tries.refused("ADMISSION_FOREIGN", thief.order("click-one", ONE, admission=stolen))
    assert await word_of(thief.hold("my-hold-1", ONE, own)) == "FINE"


async def test_an_admission_to_another_sale_is_refused(house: Any) -> None:
    name, other = await house.sale(), await house.sale()
    here, there = house.buyer(name, "the-same-person"), house.buyer(other, "the-same-person")
    await house.admitted(here)
    foreign = (await house.admitted(there)).token
    async with cheating(house, name) as tries:
        await tries.refused("ADMISSION_FOREIGN", here.hold("my-hold-1", ONE, foreign))
        await tries.refused("ADMISSION_FOREIGN", here.order("click-one", ONE, admission=foreign))


async def test_nobody_enters_before_their_turn(house: Any) -> None:
    name = await house.sale(capacity=1, limit=1)
    await house.admitted(house.buyer(name))
    eager, stranger = house.buyer(name), house.buyer(name)
    await eager.join()
    async with cheating(house, name) as tries:
        await tries.refused("NOT_CALLED_YET", eager.enter())
        await tries.refused("NOT_IN_LINE", stranger.enter())
        await tries.refused("ADMISSION_REQUIRED", eager.hold("my-hold-1", ONE))
        await tries.refused("ADMISSION_REQUIRED", eager.order("click-one", ONE))


async def test_somebody_elses_hold_is_not_found(house: Any) -> None:
    name = await house.sale(line=False)
    owner, thief = house.buyer(name), house.buyer(name)
    await owner.hold("owners-hold", ONE)
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("HOLD_NOT_FOUND", thief.release("owners-hold"))
        await tries.refused("HOLD_NOT_FOUND", thief.order("click-one", hold_id="owners-hold"))
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
    async with cheating(house, name) as tries:
        await tries.refused("ORDER_NOT_FOUND", thief.get_order(placed.order_id))
        await tries.refused("ORDER_NOT_FOUND", thief.cancel(placed.order_id))
        assert not (await listed(thief)).orders
    heard = asyncio.create_task(first_update(thief))
    await house.pay(asked)
    await house.told(owner, placed.order_id, CONFIRMED)
    own = await thief.order("click-one", ONE)
    assert (await heard).order_id == own.order_id, "the first that the other hears of is their own"


async def test_a_ticket_is_given_back_by_nobody_who_paid_nothing(house: Any) -> None:
    name = await house.sale(line=False)
    owner, thief = house.buyer(name), house.buyer(name)
    placed = await owner.order("click-one", ONE)
    await house.pay(await house.told(owner, placed.order_id, AWAITING))
    bought = await house.told(owner, placed.order_id, CONFIRMED)
    async with cheating(house, name) as tries:
        await tries.refused("ORDER_NOT_FOUND", thief.cancel(placed.order_id))
        # Nor are units got back, and sold again, while their ticket is good.
        await tries.refused("ORDER_STATE", owner.cancel(placed.order_id))
        await tries.refused("HOLD_BOUND", owner.release(bought.hold_id))
    assert (await owner.get_order(placed.order_id)).tickets == bought.tickets


async def test_an_idempotency_key_is_worth_nothing_to_others(house: Any) -> None:
    name = await house.sale(line=False)
    owner, thief = house.buyer(name), house.buyer(name)
    placed = await owner.order("click-one", ONE)
    await house.told(owner, placed.order_id, AWAITING)
    async with cheating(house, name) as tries:
        # Under one's own key another order than before is refused, whatever else is good of it.
        await tries.refused("IDEMPOTENCY_KEY_REUSED", owner.order("click-one", [item("floor", 2)]))
        await tries.refused("IDEMPOTENCY_KEY_REUSED", owner.order("click-one", hold_id="some-hold"))
    own = await thief.order("click-one", ONE)
    assert own.order_id != placed.order_id
    assert (await house.told(thief, own.order_id, AWAITING)).payment.url != placed.payment.url
    assert (await owner.order("click-one", ONE)).order_id == placed.order_id


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
    async with cheating(house, name) as tries:
        for how, forged in forgeries(house, token).items():
            await tries.refused("ADMISSION_INVALID", buyer.hold("my-hold-1", ONE, forged), how)
            order = buyer.order("click-one", ONE, admission=forged)
            await tries.refused("ADMISSION_INVALID", order, how)
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
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("TURN_EXPIRED", late.hold("my-hold-1", ONE, token))
        await tries.refused("TURN_EXPIRED", late.order("click-one", ONE, admission=token))
        await tries.refused("TURN_EXPIRED", late.enter())


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


async def test_an_admission_ends_with_the_place_it_came_from(house: Any) -> None:
    name = await house.sale(capacity=8)
    buyer = house.buyer(name)
    token = (await house.admitted(buyer)).token
    await buyer.leave()
    async with cheating(house, name, refused_orders=1) as tries:
        await tries.refused("TURN_EXPIRED", buyer.hold("my-hold-1", ONE, token))
        await tries.refused("TURN_EXPIRED", buyer.order("click-one", ONE, admission=token))
        await tries.refused("NOT_IN_LINE", buyer.enter())


# ---- used up ----


async def test_a_spent_admission_buys_nothing_more(house: Any) -> None:
    name = await house.sale(limit=2, price=0)
    buyer = house.buyer(name)
    token = (await house.admitted(buyer)).token
    placed = await buyer.order("click-one", [item("floor", 2)], admission=token)
    await house.told(buyer, placed.order_id, CONFIRMED)
    async with cheating(house, name, refused_orders=1) as tries:
        for number in range(5):
            await tries.refused("TURN_EXPIRED", buyer.hold(f"more-{number:04}", ONE, token))
        await tries.refused("TURN_EXPIRED", buyer.order("click-two", ONE, admission=token))
    # What it bought is answered again, and bought once.
    again = await buyer.order("click-one", [item("floor", 2)], admission=token)
    assert again.order_id == placed.order_id
    assert (await house.ledger(name)).counts.sold == 2


async def test_a_hold_is_ordered_once(house: Any) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name)
    await buyer.hold("my-hold-1", [item("floor", 2)])
    placed = await buyer.order("click-one", hold_id="my-hold-1")
    await house.told(buyer, placed.order_id, AWAITING)
    async with cheating(house, name, refused_orders=5) as tries:
        for number in range(5):
            await tries.refused("HOLD_BOUND", buyer.order(f"again-{number:04}", hold_id="my-hold-1"))
        await tries.refused("HOLD_BOUND", buyer.release("my-hold-1"))
        await tries.refused("IDEMPOTENCY_KEY_REUSED", buyer.hold("my-hold-1", ONE))
