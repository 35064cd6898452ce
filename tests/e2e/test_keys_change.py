"""Every key is rotated in the middle of a sale: nobody loses a place, an admission, an order or a ticket."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.keys.v1.keys_pb2 import PublicKey
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sales

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, Connection, Targets, answered, bearer, item, streamed
from local.key_rings import SIGNING
from local.stack import Stack
from services.checkout.tickets import verify_ticket
from services.kit.errors import Refusal
from services.kit.keys import load_ring
from services.kit.signing import load_signing_ring, verifies
from tests.e2e.conftest import House

PATIENCE_S = 30.0
PURPOSES = ("admission", "ticket", "receipt", "buyer-hash")
SOON = ("--after", "4")
T = TypeVar("T")


@pytest.fixture
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A stack of its own, whose keys nobody else changes, with two processes that make admissions."""
    async with (
        Stack(tmp_path_factory.mktemp("keys"), replicas={"queue": 2}) as stack,
        Connection(Targets(**stack.running.targets)) as connection,
    ):
        yield House(stack, connection)


async def keys(house: House, *arguments: str) -> tuple[int, str]:
    """`catraca keys …` as an operator types it: its status, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.cli", "keys", *arguments, "--data", str(house.stack.data)),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def retire_when_settled(house: House, *key: str) -> tuple[int, str]:
    """Asks again while replicas that have not read the file yet may still use the key."""
    return await until(
        lambda: keys(house, "retire", *key), lambda answer: "may still be in use" not in answer[1]
    )


async def rotated(house: House) -> None:
    """Every purpose, and the issuer's."""
    commands = [("rotate", purpose, *SOON) for purpose in PURPOSES] + [("rotate", "issuer")]
    for status, said in await asyncio.gather(*(keys(house, *command) for command in commands)):
        assert status == 0, said
    async with asyncio.timeout(PATIENCE_S):
        while not all(newest_is_active(house, purpose) for purpose in PURPOSES):
            await asyncio.sleep(0.1)


def newest_is_active(house: House, purpose: str) -> bool:
    """Whether new things are made with the newest key by now."""
    path = Path(house.running.keys[purpose.replace("-", "_")])
    if purpose in SIGNING:
        signing = load_signing_ring(path, purpose)
        return signing.signing == signing.keys[0]
    ring = load_ring(path, purpose)
    return ring.newest == ring.keys[0]


async def until(attempt: Callable[[], Awaitable[T]], enough: Callable[[T], bool]) -> T:
    """Ask until the answer is what was waited for."""
    async with asyncio.timeout(PATIENCE_S):
        while not enough(answer := await attempt()):
            await asyncio.sleep(0.1)
    return answer


def ids(house: House, purpose: str) -> list[str]:
    return [key.id for key in load_ring(Path(house.running.keys[purpose]), "x").keys]


async def ticket_keys(house: House) -> dict[str, PublicKey]:
    answer = await house.at.orders.GetTicketKeys(checkout.GetTicketKeysRequest())
    return {key.key_id: key for key in answer.keys}


async def receipt_keys(house: House) -> dict[str, PublicKey]:
    answer = await house.at.queue.GetReceiptKeys(queue.GetReceiptKeysRequest())
    return {key.key_id: key for key in answer.keys}


async def receipt(buyer: Buyer) -> queue.Receipt:
    request = queue.JoinRequest(sale=buyer.sale)
    return (await answered(buyer.at.queue.Join(request, metadata=buyer.metadata))).receipt


async def bought(house: House, buyer: Buyer, key: str, admission: str = "") -> checkout.Order:
    """One unit, all the way."""
    order = await buyer.order(key, [item("floor", 1)], admission=admission)
    asked = await house.told(buyer, order.order_id, checkout.ORDER_STATE_AWAITING_PAYMENT)
    await house.pay(asked)
    return await house.told(buyer, order.order_id, checkout.ORDER_STATE_CONFIRMED)


async def listed(buyer: Buyer) -> list[str]:
    request = checkout.ListOrdersRequest(sale=buyer.sale)
    answer = await answered(buyer.at.orders.ListOrders(request, metadata=buyer.metadata))
    return [order.order_id for order in answer.orders]


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(Refusal) as caught:
        await call
    return caught.value.word


def signer(order: checkout.Order, published: dict[str, PublicKey], sale: str) -> str:
    """Who signed the order's ticket, which is checked."""
    public = {each.key_id: each.ed25519_public_key for each in published.values()}
    (ticket,) = order.tickets
    return verify_ticket(ticket.code, public, sale=sale).key_id


async def sound(house: House, sale: str) -> None:
    verdict = await until(
        lambda: audit(Sources.of(house.running), sale, settled=False), lambda verdict: verdict.ok
    )
    assert verdict.ok


async def test_all_keys_are_rotated_in_the_middle_of_a_sale(house: House) -> None:
    name = await house.sale(limit=3, turn_s=600)
    ana, bia = house.buyer(name, "ana"), house.buyer(name, "bia")
    proof = await receipt(ana)
    await house.called(ana)
    admission = (await ana.enter()).token
    first = await bought(house, ana, "click-one", admission)
    place = await bia.join()
    before = await ticket_keys(house)

    await rotated(house)
    old_admission, old_buyers = ids(house, "admission")[-1], ids(house, "buyer_hash")[-1]
    assert admission.startswith(f"{old_admission}.")

    # New things carry the new keys' ids, from every replica, without a restart.
    new_admission = ids(house, "admission")[0]
    for target in house.stack.parts["queue"].addresses:
        async with Connection(Targets(**{**house.running.targets, "queue": target})) as at_one:
            again = Buyer(at_one, name, house.minter.mint("ana"))
            made = await until(again.enter, lambda made: made.token.startswith(f"{new_admission}."))
            for number, token in enumerate((made.token, admission)):
                held = f"hold-{target.replace('.', '-').replace(':', '-')}-{number}"
                await ana.hold(held, [item("floor", 1)], token)
                await ana.release(held)

    # The same person, with the same place, the same orders and the same limit.
    assert (await bia.place()).index == place.index == (await bia.join()).index
    assert await listed(ana) == [first.order_id]
    second = await bought(house, ana, "click-two", admission)
    third = await bought(house, ana, "click-three", (await ana.enter()).token)
    assert {first.buyer} == {second.buyer, third.buyer}
    # With the limit spent the turn is over, also for the old admission.
    assert await refused(ana.order("click-four", [item("floor", 1)], admission=admission)) == "TURN_EXPIRED"
    assert (await house.ledger(name)).counts.sold == 3
    assert (await ana.order("click-two", [item("floor", 1)], admission=admission)).order_id == second.order_id

    # A sale that is defined now is bound to the new key; the old one keeps its own, also when it changes.
    fresh = await house.sale(line=False)
    new_buyers = ids(house, "buyer_hash")[0]
    assert (await house.organiser.sale(fresh)).buyer_key_id == new_buyers != old_buyers
    for paused in (True, False):
        assert (await house.organiser.pause(name, paused)).buyer_key_id == old_buyers
    in_fresh = house.buyer(fresh, "ana")
    fourth = await bought(house, in_fresh, "click-one")
    assert fourth.buyer != first.buyer
    assert await listed(in_fresh) == [fourth.order_id]
    assert set(await listed(ana)) > {first.order_id, second.order_id, third.order_id}, "and the refused one"

    # Tickets and receipts of both keys verify with what is published.
    published = await ticket_keys(house)
    old_ticket = signer(first, before, name)
    assert signer(first, published, name) == old_ticket != signer(fourth, published, fresh)
    assert published[old_ticket].HasField("signed_until")
    later = await receipt(house.buyer(name, "carla"))
    proofs = await receipt_keys(house)
    assert later.key_id != proof.key_id
    for each in (proof, later):
        assert verifies(proofs[each.key_id].ed25519_public_key, each.signature, each.body)
    await retired(house, ana, admission, first, proof)
    await sound(house, name)
    await sound(house, fresh)


async def retired(
    house: House, ana: Buyer, admission: str, order: checkout.Order, proof: queue.Receipt
) -> None:
    """What is still needed is not let go of; what goes takes no ticket with it."""
    old_admission = admission.partition(".")[0]
    old_ticket = signer(order, await ticket_keys(house), ana.sale)
    status, said = await retire_when_settled(house, "buyer-hash", ids(house, "buyer_hash")[-1])
    assert status == 1 and ana.sale in said and "until they are archived" in said
    status, said = await retire_when_settled(house, "admission", old_admission)
    assert status == 1 and "is in use by admissions until" in said
    status, said = await retire_when_settled(house, "ticket", old_ticket)
    assert status == 0 and "public half only" in said
    assert signer(order, await ticket_keys(house), ana.sale) == old_ticket

    status, said = await retire_when_settled(house, "receipt", proof.key_id, "--withdraw")
    assert status == 0 and "revoked" in said
    assert (await receipt_keys(house))[proof.key_id].HasField("revoked_at")

    status, said = await keys(house, "retire", "admission", old_admission, "--withdraw")
    assert status == 0, said

    async def word() -> str:
        return await refused(ana.order("click-withdrawn", [item("floor", 1)], admission=admission))

    await until(word, lambda word: word == "ADMISSION_INVALID")
    for purpose in PURPOSES:
        file = Path(house.running.keys[purpose.replace("-", "_")])
        assert file.stat().st_mode & 0o077 == 0
    status, said = await keys(house, "list")
    assert status == 0
    assert all(f"\n{purpose}" in said for purpose in (*PURPOSES, "issuer"))
    assert "BEGIN" not in said and not any(
        key.secret.hex() in said for key in load_ring(Path(house.running.keys["buyer_hash"]), "x").keys
    )


async def test_one_stream_tells_of_sales_of_both_keys(house: House) -> None:
    old = await house.sale(line=False)
    status, said = await keys(house, "rotate", "buyer-hash", *SOON)
    assert status == 0, said
    new_key = ids(house, "buyer_hash")[0]

    async def bound_to() -> tuple[str, str]:
        name = await house.sale(line=False)
        return name, (await house.organiser.sale(name)).buyer_key_id

    new, _ = await until(bound_to, lambda found: found[1] == new_key)
    token = house.minter.mint("front", roles=["bff"], namespace="shop")
    orders = {}
    for sale in (old, new):
        buyer = Buyer(house.at, sale, token, subject="carla")
        orders[(await buyer.order("click-one", [item("floor", 1)])).order_id] = sale

    call = house.at.notifier.SubscribeMany(metadata=bearer(token))
    for sale in (old, new):
        await call.write(notifier.SubscribeManyRequest(sale=sale, add=["carla"]))
    told: dict[str, str] = {}
    async with asyncio.timeout(PATIENCE_S):
        async for message in streamed(call):
            news = [each.order for each in message.updates if each.subject == "carla"]
            told |= {order.order_id: order.sale for order in news}
            if told == orders:
                break
    call.cancel()
    assert told == orders


async def test_a_key_goes_after_its_last_sale_and_takes_no_order_with_it(house: House) -> None:
    name = await house.sale(line=False, closes_in_s=8.0)
    ana = house.buyer(name, "ana")
    order = await bought(house, ana, "click-one")
    bound = (await house.organiser.sale(name)).buyer_key_id
    status, said = await keys(house, "rotate", "buyer-hash", *SOON)
    assert status == 0, said

    async def archived() -> bool:
        request = sales.ArchiveRequest(sale=name)
        try:
            await answered(house.at.sales.Archive(request, metadata=house.organiser.metadata))
        except Refusal as refusal:
            assert refusal.word in ("WRONG_PHASE", "SALE_NOT_SETTLED"), refusal
            return False
        return True

    await until(archived, bool)
    assert await listed(ana) == [order.order_id]

    status, said = await retire_when_settled(house, "buyer-hash", bound)
    assert status == 0, said
    assert ids(house, "buyer_hash") == [key for key in ids(house, "buyer_hash") if key != bound]

    async def word() -> str:
        async with asyncio.timeout(PATIENCE_S):
            try:
                await anext(aiter(ana.subscribe()))
            except Refusal as refusal:
                return refusal.word
        return ""

    await until(word, lambda word: word == "SALE_ARCHIVED")
    assert await until(lambda: listed(ana), bool) == [order.order_id]
    assert (await ana.get_order(order.order_id)).tickets == order.tickets
    assert await listed(house.buyer(name, "bia")) == []
    assert await refused(house.buyer(name, "bia").get_order(order.order_id)) == "ORDER_NOT_FOUND"
