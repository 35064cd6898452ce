"""Messages that are published at once share batches, and each is judged by its own fence."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from local.servers.nats import Nats
from services.kit import metrics
from services.kit.publisher import MAX_BYTES, MAX_MESSAGES, Publisher
from services.kit.settings import SettingError
from services.kit.streams import (
    WrongSequence,
    connect_nats,
    declare,
    last_message,
    publish_fenced,
    read_all,
)

STREAM = "INTAKE"
Outcome = int | BaseException


def subjects(sale_id: str, count: int) -> list[str]:
    return [f"catraca.intake.{sale_id}.buyer.{place}" for place in range(count)]


async def publish_all(publisher: Publisher, names: Sequence[str], fences: Sequence[int]) -> list[Outcome]:
    """Publish each subject's own name, all at once; what became of each."""
    calls = (
        publisher.publish(name, name.encode(), fence, {"place": str(place)})
        for place, (name, fence) in enumerate(zip(names, fences, strict=True))
    )
    return await asyncio.gather(*calls, return_exceptions=True)


def batches() -> float:
    """How many batches were published by this process."""
    return metrics.REGISTRY.get_sample_value("catraca_batch_items_count", {"batcher": "publish_intake"}) or 0


async def stored(js: JetStreamContext, sale_id: str) -> dict[int, tuple[str, bytes]]:
    """Subject and data by stream sequence."""
    return {
        message.seq: (message.subject, message.data)
        async for message in read_all(js, STREAM, f"catraca.intake.{sale_id}.>")
    }


async def test_what_comes_at_once_shares_batches_and_keeps_its_own_sequence(
    js: JetStreamContext, sale_id: str
) -> None:
    names = subjects(sale_id, 3 * MAX_MESSAGES)
    before = batches()
    sequences = await publish_all(Publisher(js, STREAM), names, [0] * len(names))
    # The first may go alone, and what came behind it waits for one sync of the disk, not for one each.
    assert batches() - before <= 4
    assert await stored(js, sale_id) == {
        sequence: (name, name.encode()) for sequence, name in zip(sequences, names, strict=True)
    }


async def test_headers_and_fences_of_a_batch_are_each_message_s_own(
    js: JetStreamContext, sale_id: str
) -> None:
    names = subjects(sale_id, 40)
    fences = [
        await publish_fenced(js, name, b"before", 0) if place % 2 else 0 for place, name in enumerate(names)
    ]
    outcomes = await publish_all(Publisher(js, STREAM), names, fences)
    assert all(isinstance(outcome, int) for outcome in outcomes)
    for place, name in enumerate(names):
        message = await last_message(js, STREAM, name, from_leader=True)
        assert message is not None
        assert (message.seq, message.data, message.headers["place"]) == (
            outcomes[place],
            name.encode(),
            str(place),
        )


@pytest.mark.parametrize("late", [[0], [7], [199], [0, 1, 2], [50, 120], range(0, 200, 3), range(200)])
async def test_only_whose_fence_is_wrong_is_refused(
    js: JetStreamContext, sale_id: str, late: Sequence[int]
) -> None:
    names = subjects(sale_id, 200)
    for place in late:
        await js._nc.publish(names[place], b"earlier")
    await js._nc.flush()
    outcomes = await publish_all(Publisher(js, STREAM), names, [0] * len(names))
    refused = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, WrongSequence)]
    assert refused == list(late)
    found = await stored(js, sale_id)
    assert len(found) == len(names)
    for place, outcome in enumerate(outcomes):
        if place not in late:
            assert isinstance(outcome, int)
            assert found[outcome] == (names[place], names[place].encode())


async def test_of_one_subject_published_twice_at_once_the_first_is_stored(
    js: JetStreamContext, sale_id: str
) -> None:
    names = subjects(sale_id, 10)
    outcomes = await publish_all(Publisher(js, STREAM), [*names, *names, *names], [0] * 30)
    assert [isinstance(outcome, int) for outcome in outcomes] == [True] * 10 + [False] * 20
    assert all(isinstance(outcome, WrongSequence) for outcome in outcomes[10:])
    assert len(await stored(js, sale_id)) == 10


async def test_two_publishers_race_and_each_subject_is_stored_once(
    js: JetStreamContext, sale_id: str
) -> None:
    names = subjects(sale_id, 300)
    orders = [random.Random(seed).sample(names, len(names)) for seed in range(3)]
    groups = await asyncio.gather(
        *(publish_all(Publisher(js, STREAM), order, [0] * len(order)) for order in orders)
    )
    winners: dict[str, list[int]] = {name: [] for name in names}
    for order, outcomes in zip(orders, groups, strict=True):
        for name, outcome in zip(order, outcomes, strict=True):
            if isinstance(outcome, int):
                winners[name].append(outcome)
            else:
                assert isinstance(outcome, WrongSequence)
    assert {name: len(sequences) for name, sequences in winners.items()} == dict.fromkeys(names, 1)
    assert await stored(js, sale_id) == {
        sequences[0]: (name, name.encode()) for name, sequences in winners.items()
    }


async def test_large_messages_are_parted_and_too_large_ones_refused_alone(
    js: JetStreamContext, sale_id: str
) -> None:
    names = subjects(sale_id, 9)
    publisher = Publisher(js, STREAM)
    sizes = [MAX_BYTES // 2] * 8 + [64 * MAX_BYTES]
    outcomes = await asyncio.gather(
        *(publisher.publish(name, bytes(size), 0) for name, size in zip(names, sizes, strict=True)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, int) for outcome in outcomes] == [True] * 8 + [False]
    assert {name: len(data) for name, data in (await stored(js, sale_id)).values()} == dict(
        zip(names[:8], sizes[:8], strict=True)
    )


async def test_a_caller_that_gives_up_disturbs_nobody(js: JetStreamContext, sale_id: str) -> None:
    names = subjects(sale_id, 100)
    publisher = Publisher(js, STREAM)
    calls = [asyncio.create_task(publisher.publish(name, b"", 0)) for name in names]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    found = {name for name, _ in (await stored(js, sale_id)).values()}
    for place, (name, outcome) in enumerate(zip(names, outcomes, strict=True)):
        if place % 3:
            assert isinstance(outcome, int)
            assert name in found
        else:
            assert isinstance(outcome, asyncio.CancelledError)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[tuple[Nats, Client]]:
    """A NATS that may be killed, and a connection to it."""
    server = Nats(tmp_path)
    await server.up()
    client = await connect_nats(SimpleNamespace(nats_url=server.url))
    yield server, client
    await client.close()
    server.stop()


async def test_a_server_that_is_killed_leaves_open_what_a_repeat_settles(own: Any, sale_id: str) -> None:
    server, client = own
    js = client.jetstream(timeout=30)
    await declare(js)
    names = subjects(sale_id, 2000)
    # Whoever is never answered need not wait for long.
    hasty, publisher = (Publisher(each, STREAM) for each in (client.jetstream(timeout=0.2), js))
    storing = asyncio.create_task(publish_all(hasty, names, [0] * len(names)))
    while not (await js.stream_info(STREAM)).state.messages:
        await asyncio.sleep(0.001)
    server.kill9()
    outcomes = await storing
    await server.up()
    await client.flush()
    answered = {name: each for name, each in zip(names, outcomes, strict=True) if isinstance(each, int)}
    assert len(answered) < len(names)
    again = await publish_all(publisher, names, [0] * len(names))
    found = {name: sequence for sequence, (name, _) in (await stored(js, sale_id)).items()}
    assert set(found) == set(names)
    # Nothing that was answered is lost or stored twice; what was not is there once, by either attempt.
    assert {name: found[name] for name in answered} == answered
    for name, outcome in zip(names, again, strict=True):
        assert outcome == found[name] if isinstance(outcome, int) else isinstance(outcome, WrongSequence)


async def test_a_server_too_old_for_batches_is_refused(nc: Client) -> None:
    js = nc.jetstream()
    nc._current_server.server_version = "2.11.9"  # type: ignore[union-attr]
    with pytest.raises(SettingError, match=r"CATRACA_NATS_URL is a NATS server 2\.11\.9; expected"):
        await declare(js)
