"""Nothing is missed and nothing repeated, whatever races, breaks or comes back."""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
from nats.js.api import ConsumerInfo

if TYPE_CHECKING:
    from tests.integration.notifier.conftest import Checkout, Client, Notifiers, Told

SEED = 20_241_117


def everything(checkout: "Checkout", told: "Told", subjects: list[str]) -> Callable[[], bool]:
    """Whether a stream was told the last state of every order of its buyers."""
    return lambda: all(told.versions[subject] == checkout.last[subject] for subject in subjects)


async def keep_deciding(checkout: "Checkout", sale: str, subjects: list[str], times: int, seed: int) -> None:
    """Order after order goes on, for buyers in no particular order."""
    chance = random.Random(seed)
    for number in range(times):
        subject = chance.choice(subjects)
        await checkout.decide(sale, subject, f"{subject}-{chance.randrange(3)}")
        if number % 20 == 0:
            await asyncio.sleep(chance.random() * 0.01)


async def come_and_go(
    client: "Client", sale: str, subjects: list[str], seed: int, running: asyncio.Task[None]
) -> list[tuple["Told", list[str]]]:
    """Streams are opened in the middle of it all; some are given up again."""
    chance = random.Random(seed)
    kept: list[tuple[Told, list[str]]] = []
    while not running.done():
        subject = chance.choice(subjects)
        told = client.subscribe(sale, subject)
        if chance.random() < 0.3:
            kept.append((told, [subject]))
        some = chance.sample(subjects, 20)
        many, told_many = client.subscribe_many()
        await many.send(sale, add=some[:10])
        await many.send(sale, add=some[10:], drop=some[:5])
        if chance.random() < 0.3:
            kept.append((told_many, some[5:]))
        await asyncio.sleep(chance.random() * 0.05)
    return kept


async def test_streams_opened_amid_a_rush_miss_nothing(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    replicas = await asyncio.gather(*(notifiers.start() for _ in range(2)))
    subjects = [f"buyer{number}" for number in range(60)]
    deciding = asyncio.create_task(keep_deciding(checkout, sale_id, subjects, 1500, SEED))

    opened = await asyncio.gather(
        *(
            come_and_go(notifiers.client(replica), sale_id, subjects, SEED + number, deciding)
            for number, replica in enumerate(replicas)
        )
    )
    await deciding

    streams = [stream for kept in opened for stream in kept]
    assert len(streams) > 20
    for told, own in streams:
        await told.until(everything(checkout, told, own))


async def test_a_client_that_does_not_read_gets_the_last_states_when_it_does(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    replica = await notifiers.start(max_pending_per_stream=3, max_updates_per_message=2)
    subjects = [f"buyer{number}" for number in range(10)]
    reading = notifiers.client(replica)
    call = reading.stub.SubscribeMany(metadata=reading.headers("bff", "bff"))
    await call.write(_request(sale_id, subjects))
    first = await call.read()
    while first.caught_up < len(subjects):
        first = await call.read()

    rounds = 60
    for _ in range(rounds):
        await asyncio.gather(
            *(checkout.decide(sale_id, subject, subject, padding=50_000) for subject in subjects)
        )
    versions: dict[str, list[int]] = {subject: [] for subject in subjects}
    async with asyncio.timeout(30):
        while any(not told or told[-1] < rounds - 1 for told in versions.values()):
            for update in (await call.read()).updates:
                versions[update.subject].append(update.order.version)
    call.cancel()

    assert all(told == sorted(set(told)) for told in versions.values())
    assert sum(map(len, versions.values())) < rounds * len(subjects) / 2, "a slow client skips what is old"
    assert replica.usage().memory < 400 * 1024 * 1024


async def test_a_killed_and_restarted_nats_costs_no_stream_anything(
    fragile: "Notifiers", checkout_of: Callable[["Notifiers"], Awaitable["Checkout"]], sale_id: str
) -> None:
    checkout = await checkout_of(fragile)
    await checkout.define(sale_id)
    client = fragile.client(await fragile.start())
    subjects = [f"buyer{number}" for number in range(30)]
    many, told = client.subscribe_many()
    await many.send(sale_id, add=subjects)
    one = client.subscribe(sale_id, subjects[0])
    deciding = asyncio.create_task(keep_deciding(checkout, sale_id, subjects, 1200, SEED))

    for _ in range(2):
        await asyncio.sleep(0.7)
        fragile.nats_server.kill9()
        late, told_late = client.subscribe_many()
        await late.send(sale_id, add=subjects[:5])
        await asyncio.sleep(0.3)
        fragile.nats_server.start()
        await asyncio.to_thread(fragile.nats_server.wait_ready)
    await deciding

    await told.until(everything(checkout, told, subjects))
    await one.until(everything(checkout, one, subjects[:1]))
    await told_late.until(everything(checkout, told_late, subjects[:5]))


async def test_a_lost_consumer_is_replaced_and_streams_read_again(
    fragile: "Notifiers", checkout_of: Callable[["Notifiers"], Awaitable["Checkout"]], sale_id: str
) -> None:
    checkout = await checkout_of(fragile)
    await checkout.define(sale_id)
    told = fragile.client(await fragile.start()).subscribe(sale_id, "ana")
    await checkout.decide(sale_id, "ana", "order")
    await told.until(everything(checkout, told, ["ana"]))

    for consumer in await checkout.js.consumers_info("CHECKOUT"):
        assert isinstance(consumer, ConsumerInfo)
        await checkout.js.delete_consumer("CHECKOUT", consumer.name)
    await checkout.decide(sale_id, "ana", "order")
    await checkout.decide(sale_id, "ana", "another")

    await told.until(everything(checkout, told, ["ana"]))


@pytest.mark.parametrize("others", [0, 20], ids=["behind what was seen", "beyond what was seen"])
async def test_a_server_that_lost_the_end_of_its_stream_is_followed_from_where_it_is(
    fragile: "Notifiers",
    checkout_of: Callable[["Notifiers"], Awaitable["Checkout"]],
    sale_id: str,
    others: int,
) -> None:
    checkout = await checkout_of(fragile)
    await checkout.define(sale_id)
    client = fragile.client(await fragile.start())
    server = fragile.nats_server
    ana, bruno = client.subscribe(sale_id, "ana"), client.subscribe(sale_id, "bruno")
    await checkout.decide(sale_id, "ana", "order")
    await ana.until(everything(checkout, ana, ["ana"]))
    server.kill9()
    shutil.copytree(server.data, server.folder / "older")
    server.start()
    await asyncio.to_thread(server.wait_ready)
    for _ in range(10):
        await checkout.decide(sale_id, "ana", "order")
    await ana.until(everything(checkout, ana, ["ana"]))

    server.kill9()
    shutil.rmtree(server.data)
    shutil.copytree(server.folder / "older", server.data)
    server.start()
    await asyncio.to_thread(server.wait_ready)
    # New messages now stand where others stood that were seen, and were published while nobody followed.
    await checkout.decide(sale_id, "bruno", "first")
    await checkout.decide(sale_id, "ana", "order")
    for _ in range(others):
        await checkout.decide(sale_id, "carla", "other")

    await bruno.until(everything(checkout, bruno, ["bruno"]))
    await ana.until(everything(checkout, ana, ["ana"]))
    await checkout.decide(sale_id, "bruno", "second")
    await bruno.until(everything(checkout, bruno, ["bruno"]))


def _request(sale: str, subjects: list[str]) -> object:
    from catraca.notifier.v1 import notifier_pb2

    return notifier_pb2.SubscribeManyRequest(sale=sale, add=subjects)
