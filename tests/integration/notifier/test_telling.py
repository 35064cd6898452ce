"""A stream tells the last state of every order first, then every newer one, each once."""

import asyncio
import time
from typing import TYPE_CHECKING

from catraca.notifier.v1 import notifier_pb2
from catraca.queue.v1 import queue_pb2

if TYPE_CHECKING:
    from tests.integration.notifier.conftest import Checkout, Notifiers

NEAR, COME = queue_pb2.TURN_WORD_NEAR, queue_pb2.TURN_WORD_COME


async def test_last_states_come_first_and_then_what_is_new(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    replica = await notifiers.start()
    for order in ("first", "first", "second"):
        await checkout.decide(sale_id, "ana", order)
    await checkout.decide(sale_id, "bruno", "other")

    told = notifiers.client(replica).subscribe(sale_id, "ana")
    await told.until(lambda: told.caught_up == 1)

    assert told.versions["ana"] == {"first": 1, "second": 0}
    assert told.updates == 2
    await checkout.decide(sale_id, "ana", "second")
    await checkout.decide(sale_id, "ana", "third")
    await told.until(lambda: told.updates == 4)
    assert told.versions["ana"] == {"first": 1, "second": 1, "third": 0}


async def test_a_lost_hold_is_told_to_its_buyer_at_once_and_to_who_comes_later(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start())
    many, all_of_them = client.subscribe_many()
    await many.send(sale_id, add=["ana", "bruno"])
    one = client.subscribe(sale_id, "ana")
    await one.until(lambda: one.caught_up == 1)
    await all_of_them.until(lambda: all_of_them.caught_up == 2)

    await checkout.lose(sale_id, "ana", "hold-0001")
    await checkout.decide(sale_id, "ana", "order")
    await one.until(lambda: bool(one.lost) and one.updates == 1)
    await all_of_them.until(lambda: bool(all_of_them.lost))
    later, other = client.subscribe(sale_id, "ana"), client.subscribe(sale_id, "bruno")
    await later.until(lambda: later.caught_up == 1)
    await other.until(lambda: other.caught_up == 1)

    assert one.lost == all_of_them.lost == later.lost == [("ana", "hold-0001", 2)]
    assert (later.updates, other.lost) == (1, [])


async def test_a_turn_is_told_when_it_is_near_and_when_it_has_come(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    await checkout.define(sale_id)
    other = f"{sale_id}-b"
    await checkout.define(other)
    client = notifiers.client(await notifiers.start())
    alone = client.subscribe(sale_id, "ana")
    many, told = client.subscribe_many()
    await many.send(sale_id, add=["ana", "bia"])
    # The same place of another sale is another turn.
    await many.send(other, add=["bia"])
    await alone.until(lambda: alone.caught_up == 1)
    await told.until(lambda: told.caught_up == 3)

    await checkout.turn(sale_id, "ana", "near")
    await alone.until(lambda: len(alone.turns) == 1)
    await checkout.turn(sale_id, "ana", "come")
    await alone.until(lambda: len(alone.turns) == 2)
    await checkout.turn(sale_id, "bia", "near", place=8)
    await checkout.turn(other, "bia", "near", place=8)
    await told.until(lambda: len(told.turns) >= 4)

    near, come = alone.turns
    assert (near.word, near.place, near.ahead) == (NEAR, 7, 5)
    assert (near.estimate.low_s, near.estimate.high_s) == (3, 9)
    assert not near.HasField("turn_ends_at")
    assert (come.word, come.place, come.allowance) == (COME, 7, 2)
    assert come.turn_ends_at.ToMilliseconds() > time.time() * 1000
    assert sorted((turn.subject, turn.word) for turn in told.turns) == [
        ("ana", NEAR),
        ("ana", COME),
        ("bia", NEAR),
        ("bia", NEAR),
    ]


async def test_who_comes_late_is_told_of_turns_what_still_holds(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    await checkout.define(sale_id)
    for subject, ends_in_s in (("ana", 60), ("bia", -1)):
        await checkout.turn(sale_id, subject, "near")
        await checkout.turn(sale_id, subject, "come", ends_in_s=ends_in_s)
    await checkout.turn(sale_id, "caio", "near")
    client = notifiers.client(await notifiers.start())
    many, told = client.subscribe_many()

    await many.send(sale_id, add=["ana", "bia", "caio"])
    await told.until(lambda: told.caught_up == 3)

    assert {(turn.subject, turn.word) for turn in told.turns} == {("ana", COME), ("caio", NEAR)}
    assert len(told.turns) == 2


async def test_without_orders_a_buyer_is_caught_up_at_once(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    told = notifiers.client(await notifiers.start()).subscribe(sale_id, "ana")

    await told.until(lambda: told.caught_up == 1)

    assert told.updates == 0


async def test_a_stream_with_nothing_to_say_says_so(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start(heartbeat_s=0.1))
    one = client.subscribe(sale_id, "ana")
    many, all_of_them = client.subscribe_many()
    await many.send(sale_id, add=["ana"])

    await one.until(lambda: one.heartbeats > 1)
    await all_of_them.until(lambda: all_of_them.heartbeats > 1)


async def test_a_bff_adds_and_drops_buyers_while_its_stream_runs(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    many, told = notifiers.client(await notifiers.start()).subscribe_many()
    buyers = [f"buyer{number}" for number in range(30)]
    for buyer in buyers[:20]:
        await checkout.decide(sale_id, buyer, f"{buyer}-order")
    await many.send(sale_id, add=buyers[:10])
    await many.send(sale_id, add=buyers[10:])
    await told.until(lambda: told.caught_up == 30)
    assert told.updates == 20

    await many.send(sale_id, drop=buyers[:10], add=["one-more"])
    await told.until(lambda: told.caught_up == 31)
    for buyer in buyers:
        await checkout.decide(sale_id, buyer, f"{buyer}-order")
    await told.until(lambda: told.updates == 40)

    last = {buyer: checkout.last[buyer] for buyer in buyers[10:]}
    assert {buyer: told.versions[buyer] for buyer in buyers[10:]} == last
    assert all(told.versions[buyer] == {f"{buyer}-order": 0} for buyer in buyers[:10])


async def test_every_replica_tells(notifiers: "Notifiers", checkout: "Checkout", sale_id: str) -> None:
    replicas = await asyncio.gather(*(notifiers.start() for _ in range(2)))
    streams = [notifiers.client(replica).subscribe(sale_id, "ana") for replica in replicas]
    streams += [notifiers.client(replicas[0]).subscribe(sale_id, "ana")]
    for told in streams:
        await told.until(lambda told=told: told.caught_up == 1)

    await checkout.decide(sale_id, "ana", "order")

    for told in streams:
        await told.until(lambda told=told: told.versions["ana"] == {"order": 0})


async def test_a_buyer_with_more_orders_than_one_read_answers_hears_of_all(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    for start in range(0, 1500, 250):
        await asyncio.gather(
            *(checkout.decide(sale_id, "ana", f"order{number}") for number in range(start, start + 250))
        )

    told = notifiers.client(await notifiers.start()).subscribe(sale_id, "ana")
    await told.until(lambda: told.caught_up == 1)

    assert told.updates == 1500


async def test_a_message_that_is_no_order_disturbs_nobody(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    subject = f"catraca.checkout.{sale_id}.order.{checkout.buyer('ana')}"
    await checkout.js.publish(f"{subject}.unversioned", b"")
    await checkout.js.publish(f"{subject}.broken", b"\xff", headers={"Catraca-Version": "0"})
    await checkout.decide(sale_id, "ana", "order")

    told = notifiers.client(await notifiers.start()).subscribe(sale_id, "ana")
    await told.until(lambda: told.caught_up == 1)
    await checkout.js.publish(f"{subject}.broken", b"\xff", headers={"Catraca-Version": "1"})
    await checkout.decide(sale_id, "ana", "order")
    await told.until(lambda: told.versions["ana"] == {"order": 1})


async def test_a_crowd_that_subscribes_at_once_is_told(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start())
    crowd = [f"buyer-{number}" for number in range(100)]
    for subject in crowd:
        await checkout.decide(sale_id, subject, "order")
    headers = [(*client.headers("bff", "bff"), ("catraca-buyer", subject)) for subject in crowd]
    request = notifier_pb2.SubscribeRequest(sale=sale_id)

    streams = [client.stub.Subscribe(request, metadata=headers[number % 100]) for number in range(2000)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(stream.read() for stream in streams))
    for stream in streams:
        stream.cancel()

    assert all(answer.update.order.order_id == "order" and answer.caught_up for answer in answers)


async def test_a_bff_subscribes_for_one_buyer_it_names(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start())
    await checkout.decide(sale_id, "ana", "order")
    headers = (*client.headers("bff", "bff"), ("catraca-buyer", "ana"))

    call = client.stub.Subscribe(notifier_pb2.SubscribeRequest(sale=sale_id), metadata=headers)
    answer = await call.read()
    call.cancel()

    assert answer.update.order.order_id == "order"
