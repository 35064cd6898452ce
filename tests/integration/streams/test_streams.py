"""Streams are declared once by many, written behind a fence, read whole and by the last of each subject."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from local.servers.nats import Nats
from services.kit import streams
from services.kit.streams import (
    Follower,
    WrongSequence,
    cloud_headers,
    connect_nats,
    declare,
    last_message,
    last_per_subject,
    prepare,
    publish_fenced,
    read_all,
    stream_of,
)


async def store(nc: Client, js: JetStreamContext, subjects: list[str]) -> None:
    """One message per subject, its place in the list as its data."""
    stream = stream_of(subjects[0])
    before = (await js.stream_info(stream)).state.messages
    for place, subject in enumerate(subjects):
        await nc.publish(subject, str(place).encode())
    while (await js.stream_info(stream)).state.messages < before + len(subjects):
        await asyncio.sleep(0.01)


async def test_many_declare_at_once(nc: Client, js: JetStreamContext) -> None:
    await asyncio.gather(*(declare(nc.jetstream()) for _ in range(5)))
    names = {info.config.name for info in await js.streams_info()}
    assert {stream.name for stream in streams.STREAMS} <= names


async def test_a_stream_that_differs_is_brought_to_what_the_table_says(js: JetStreamContext) -> None:
    config = (await js.stream_info("DEAD")).config
    await js.update_stream(config.evolve(description="Something else", max_msg_size=1000))
    await asyncio.gather(declare(js), declare(js))
    config = (await js.stream_info("DEAD")).config
    assert (config.description, config.max_msg_size) == (
        "Messages that could not be worked through, for a person",
        streams.MAX_MESSAGE_BYTES,
    )


async def test_buckets_are_key_value_buckets_for_other_clients_too(
    js: JetStreamContext, sale_id: str
) -> None:
    bucket = await js.key_value("sales")
    revision = await publish_fenced(js, streams.kv_subject("sales", sale_id), b"a", 0)
    entry = await bucket.get(sale_id)
    assert (entry.value, entry.revision) == (b"a", revision)
    assert await bucket.update(sale_id, b"b", last=revision) > revision


async def test_the_fence_lets_only_the_next_one_in(js: JetStreamContext, sale_id: str) -> None:
    subject = f"catraca.inventory.{sale_id}.units"
    first = await publish_fenced(js, subject, b"1", 0)
    with pytest.raises(WrongSequence):
        await publish_fenced(js, subject, b"1 again", 0)
    second = await publish_fenced(js, subject, b"2", first)
    with pytest.raises(WrongSequence):
        await publish_fenced(js, subject, b"late", first)
    assert [message.seq async for message in read_all(js, "INVENTORY", subject)] == [first, second]


async def test_of_many_at_once_the_fence_lets_one_in(js: JetStreamContext, sale_id: str) -> None:
    subject = f"catraca.queue.{sale_id}.line"
    attempts = [publish_fenced(js, subject, str(i).encode(), 0) for i in range(20)]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, WrongSequence) for outcome in outcomes) == 19


@pytest.mark.parametrize("from_leader", [False, True])
async def test_the_last_message_of_a_subject(js: JetStreamContext, sale_id: str, from_leader: bool) -> None:
    subject = f"catraca.inventory.{sale_id}.units"
    assert await last_message(js, "INVENTORY", subject, from_leader=from_leader) is None
    first = await publish_fenced(js, subject, b"old", 0)
    headers = cloud_headers(
        "t", "catraca/inventory", sale_id, "1", 1_700_000_000_123, traceparent="00-a-b-01"
    )
    seq = await publish_fenced(js, subject, b"", first, headers)
    last = await last_message(js, "INVENTORY", subject, from_leader=from_leader)
    assert last is not None
    assert (last.subject, last.seq, last.data) == (subject, seq, b"")
    assert last.at_ms > 1_700_000_000_000
    assert last.headers["ce-time"] == "2023-11-14T22:13:20.123Z"
    assert last.headers["ce-specversion"] == "1.0"
    assert last.headers["traceparent"] == "00-a-b-01"


async def test_all_of_a_subject_is_read_to_its_end(nc: Client, js: JetStreamContext, sale_id: str) -> None:
    mine = f"catraca.intake.{sale_id}.a.k"
    await store(nc, js, [mine if i % 2 else f"catraca.intake.{sale_id}-b.a.k" for i in range(4400)])
    read = [int(message.data) async for message in read_all(js, "INTAKE", mine)]
    assert read == list(range(1, 4400, 2))


async def test_reading_all_stops_where_the_stream_ended_when_it_began(
    nc: Client, js: JetStreamContext, sale_id: str
) -> None:
    subject = f"catraca.intake.{sale_id}.a.k"
    await store(nc, js, [subject] * 10)
    read = []
    async for message in read_all(js, "INTAKE", subject):
        read.append(message.seq)
        await js.publish(subject, b"later")
    assert len(read) == 10


async def test_reading_nothing_and_reading_what_was_purged(
    nc: Client, js: JetStreamContext, sale_id: str
) -> None:
    subject = f"catraca.intake.{sale_id}.>"
    assert [message async for message in read_all(js, "INTAKE", subject)] == []
    await store(nc, js, [f"catraca.intake.{sale_id}.{i}.k" for i in range(1100)])
    reading = read_all(js, "INTAKE", subject)
    await anext(reading)
    await js.purge_stream("INTAKE", subject=subject)
    assert len([message async for message in reading]) < 1100


async def test_the_last_of_each_subject(nc: Client, js: JetStreamContext, sale_id: str) -> None:
    orders = [f"catraca.checkout.{sale_id}.order.{buyer}.{order}" for buyer in "abc" for order in "xy"]
    await store(nc, js, orders + orders[::-1])
    wanted = [f"catraca.checkout.{sale_id}.order.{buyer}.>" for buyer in "ab"]
    last = await last_per_subject(nc, "CHECKOUT", [*wanted, wanted[0]])
    assert [(message.subject, message.data) for message in last] == [
        (orders[3], b"8"),
        (orders[2], b"9"),
        (orders[1], b"10"),
        (orders[0], b"11"),
    ]
    assert await last_per_subject(nc, "CHECKOUT", [f"catraca.checkout.{sale_id}.order.nobody.>"]) == []
    assert await last_per_subject(nc, "CHECKOUT", []) == []


async def test_the_last_of_more_subjects_than_one_answer_holds(
    nc: Client, js: JetStreamContext, sale_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    subjects = [f"catraca.checkout.{sale_id}.order.b{i}.o" for i in range(1500)]
    await store(nc, js, [*subjects, *subjects[:700]])
    expected = [(subjects[i], str(i)) for i in range(700, 1500)] + [
        (subjects[i], str(1500 + i)) for i in range(700)
    ]

    async def read(wanted: list[str]) -> list[tuple[str, str]]:
        last = await last_per_subject(nc, "CHECKOUT", wanted)
        return [(message.subject, message.data.decode()) for message in last]

    # One filter per buyer; one wildcard, which the server refuses as too many; then small pages.
    assert await read([f"catraca.checkout.{sale_id}.order.b{i}.>" for i in range(1500)]) == expected
    assert await read([f"catraca.checkout.{sale_id}.order.>"]) == expected
    assert await read([f"catraca.checkout.{sale_id}.order.>", *subjects[:3]]) == expected
    monkeypatch.setattr("services.kit.messages.PAGE_MESSAGES", 37)
    assert await read([f"catraca.checkout.{sale_id}.order.b{i}.>" for i in range(1500)]) == expected


async def received(follower: Follower, count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += [message.data.decode() for message in await asyncio.wait_for(follower.next_batch(), 10)]
    return found


@pytest.fixture
async def follower(js: JetStreamContext, sale_id: str) -> AsyncIterator[Follower]:
    await js.publish(f"catraca.intake.{sale_id}.old.k", b"old")
    async with Follower(js, "INTAKE", [f"catraca.intake.{sale_id}.>"]) as follower:
        yield follower


async def test_a_follower_hears_what_is_new(
    nc: Client, js: JetStreamContext, sale_id: str, follower: Follower
) -> None:
    await store(nc, js, [f"catraca.intake.{sale_id}.b{i}.k" for i in range(1000)])
    assert await received(follower, 1000) == [str(i) for i in range(1000)]


async def test_a_follower_goes_on_when_its_consumer_is_lost(
    nc: Client, js: JetStreamContext, sale_id: str, follower: Follower
) -> None:
    await store(nc, js, [f"catraca.intake.{sale_id}.a.k"] * 3)
    assert await received(follower, 3) == ["0", "1", "2"]
    assert follower._consumer
    await js.delete_consumer("INTAKE", follower._consumer)
    await store(nc, js, [f"catraca.intake.{sale_id}.a.k"] * 4)
    assert await received(follower, 4) == ["0", "1", "2", "3"]


async def test_a_follower_begins_with_the_last_of_each_subject(
    nc: Client, js: JetStreamContext, sale_id: str
) -> None:
    await store(nc, js, [f"catraca.intake.{sale_id}.{name}.k" for name in "abab"])
    subjects = [f"catraca.intake.{sale_id}.>"]
    async with Follower(js, "INTAKE", subjects, start="last_per_subject") as follower:
        assert follower.pending_at_start == 2
        assert await received(follower, 2) == ["2", "3"]
        await store(nc, js, [f"catraca.intake.{sale_id}.a.k"])
        assert await received(follower, 1) == ["0"]


async def test_a_service_that_may_make_no_stream_waits_for_its_own(tmp_path: Path) -> None:
    server = Nats(tmp_path)
    await asyncio.to_thread(server.launch)
    clients = []
    try:
        for url, name in ((server.url, "owner"), (server.url_for("notifier"), "notifier")):
            clients.append(await connect_nats(SimpleNamespace(nats_url=url), name))
        owner, notifier = (client.jetstream() for client in clients)
        prepared = SimpleNamespace(stores_prepared=True, stream_replicas=1)
        waiting = asyncio.create_task(prepare(notifier, prepared, "notifier"))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        await declare(owner)
        async with asyncio.timeout(20):
            await waiting
    finally:
        for client in clients:
            await client.close()
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize(
    ("subject", "stream"),
    [
        ("catraca.inventory.a.units", "INVENTORY"),
        ("catraca.queue.a.line", "QUEUE"),
        ("catraca.intake.a.b.c", "INTAKE"),
        ("catraca.checkout.a.order.b.c", "CHECKOUT"),
        ("catraca.dead.worker", "DEAD"),
    ],
)
def test_the_stream_of_a_subject(subject: str, stream: str) -> None:
    assert stream_of(subject) == stream


def test_no_stream_keeps_a_foreign_subject() -> None:
    with pytest.raises(ValueError, match="no stream keeps"):
        stream_of("other.inventory.a.units")
