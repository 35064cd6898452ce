"""Definitions are followed from the bucket; epochs let one replica at a time rebuild a store."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from catraca.sale.v1.sale_pb2 import SALE_PHASE_ARCHIVED, Sale, SaleSpec
from nats.js import JetStreamContext

from services.kit.definitions import Definition, Definitions
from services.kit.epochs import Epochs
from services.kit.errors import Refusal
from services.kit.streams import kv_subject, publish_fenced


async def put(
    js: JetStreamContext, sale: str, title: str, revision: int = 0, *, archived: bool = False
) -> int:
    value = Sale(sale=sale, spec=SaleSpec(title=title))
    if archived:
        value.phase = SALE_PHASE_ARCHIVED
    return await publish_fenced(js, kv_subject("sales", sale), value.SerializeToString(), revision)


@pytest.fixture
async def definitions(js: JetStreamContext) -> AsyncIterator[Definitions]:
    followed = Definitions(js)
    await followed.start()
    yield followed
    await followed.close()


def refused(word: str) -> "pytest.RaisesExc[Refusal]":
    return pytest.raises(Refusal, match=word)


async def test_what_stands_is_known_after_the_start(js: JetStreamContext, sale_id: str) -> None:
    first = await put(js, sale_id, "old")
    second = await put(js, sale_id, "new", first)
    definitions = Definitions(js)
    told: list[Definition] = []
    definitions.on_change(told.append)
    await definitions.start()
    definition = definitions.get(sale_id)
    assert (definition.sale.spec.title, definition.revision, definition.sale.revision) == (
        "new",
        second,
        second,
    )
    assert sale_id in definitions.standing()
    assert [each for each in told if each.sale.sale == sale_id] == [definition]
    await definitions.close()


async def test_a_sale_is_found_before_the_news_of_it_came(js: JetStreamContext, sale_id: str) -> None:
    deaf = Definitions(js)
    with refused("SALE_NOT_FOUND"):
        await deaf.found(sale_id)
    revision = await put(js, sale_id, "new")
    assert (await deaf.found(sale_id)).revision == revision
    await put(js, sale_id, "over", revision, archived=True)
    await deaf.latest(sale_id)
    with refused("SALE_ARCHIVED"):
        await deaf.found(sale_id)


async def test_changes_are_followed_and_told_in_order(
    js: JetStreamContext, definitions: Definitions, sale_id: str
) -> None:
    told: list[str] = []

    async def slowly(definition: Definition) -> None:
        await asyncio.sleep(0.001)
        if definition.sale.sale == sale_id:
            told.append(definition.sale.spec.title)

    def broken(definition: Definition) -> None:
        raise RuntimeError("this one cannot take it")

    definitions.on_change(broken)
    definitions.on_change(slowly)
    revision = 0
    for title in "abc":
        revision = await put(js, sale_id, title, revision)
        assert (await asyncio.wait_for(definitions.at_least(sale_id, revision), 30)).sale.spec.title == title
    async with asyncio.timeout(30):
        while len(told) < 3:
            await asyncio.sleep(0.01)
    assert told == ["a", "b", "c"]


async def test_a_revision_to_come_is_waited_for(
    js: JetStreamContext, definitions: Definitions, sale_id: str
) -> None:
    first = await put(js, sale_id, "a")
    waiting = asyncio.create_task(definitions.at_least(sale_id, first + 1))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await put(js, sale_id, "b", first)
    assert (await asyncio.wait_for(waiting, 30)).sale.spec.title == "b"


async def test_the_latest_is_read_from_the_bucket(js: JetStreamContext, sale_id: str) -> None:
    definitions = Definitions(js)
    with refused("SALE_NOT_FOUND"):
        definitions.get(sale_id)
    await put(js, sale_id, "a")
    assert (await definitions.latest(sale_id)).sale.spec.title == "a"
    assert definitions.get(sale_id).sale.spec.title == "a"


@pytest.mark.parametrize("name", ["nobody", "*", ">", "a b", "a.b", ""])
async def test_a_sale_nobody_defined(
    js: JetStreamContext, definitions: Definitions, sale_id: str, name: str
) -> None:
    await put(js, sale_id, "somebody's")
    with refused("SALE_NOT_FOUND"):
        await definitions.latest(name)
    with refused("SALE_NOT_FOUND"):
        definitions.get(name)


async def test_an_archived_sale_is_known_and_not_active(
    js: JetStreamContext, definitions: Definitions, sale_id: str
) -> None:
    first = await put(js, sale_id, "a")
    await definitions.at_least(sale_id, first)
    assert definitions.active(sale_id).revision == first
    second = await put(js, sale_id, "a", first, archived=True)
    await definitions.at_least(sale_id, second)
    assert definitions.get(sale_id).archived
    assert definitions.get(sale_id).revision == definitions.get(sale_id).sale.revision == second
    assert definitions.get(sale_id).sale.spec.title == "a"
    with refused("SALE_ARCHIVED"):
        definitions.active(sale_id)
    assert sale_id in definitions.archived()
    assert sale_id not in definitions.standing()


async def test_a_value_that_is_no_sale_keeps_nothing_else_out(
    js: JetStreamContext, definitions: Definitions, sale_id: str
) -> None:
    await publish_fenced(js, kv_subject("sales", f"{sale_id}-x"), b"\xff\xff\xff", 0)
    other = Sale(sale="another").SerializeToString()
    await publish_fenced(js, kv_subject("sales", f"{sale_id}-y"), other, 0)
    revision = await put(js, sale_id, "a")
    await asyncio.wait_for(definitions.at_least(sale_id, revision), 30)
    for name in (f"{sale_id}-x", f"{sale_id}-y"):
        with refused("SALE_NOT_FOUND"):
            await definitions.latest(name)


async def test_following_survives_a_lost_consumer(
    js: JetStreamContext, definitions: Definitions, sale_id: str
) -> None:
    first = await put(js, sale_id, "a")
    await definitions.at_least(sale_id, first)
    for consumer in await js.consumers_info("KV_sales"):
        await js.delete_consumer("KV_sales", consumer.name)
    second = await put(js, sale_id, "b", first)
    async with asyncio.timeout(10):
        while definitions.get(sale_id).revision < second:
            await asyncio.sleep(0.01)


# ---- epochs ----


async def test_a_sale_has_no_epoch_before_its_first(js: JetStreamContext, sale_id: str) -> None:
    epochs = Epochs(js)
    assert await epochs.current("inventory", sale_id) is None
    first = await epochs.create("inventory", sale_id)
    assert first is not None
    assert (first.number, first.loaded) == (1, False)
    current = await epochs.current("inventory", sale_id)
    assert current is not None
    assert (current.number, current.loaded, current.revision) == (1, False, first.revision)
    assert await epochs.current("queue", sale_id) is None


async def test_of_many_replicas_one_gets_the_next_epoch(js: JetStreamContext, sale_id: str) -> None:
    epochs = Epochs(js)
    first = await epochs.create("inventory", sale_id)
    assert first is not None
    loaded = await epochs.mark_loaded("inventory", sale_id, first)
    assert loaded is not None
    assert (loaded.number, loaded.loaded) == (1, True)
    outcomes = await asyncio.gather(*(epochs.create("inventory", sale_id, loaded) for _ in range(8)))
    winners = [outcome for outcome in outcomes if outcome is not None]
    assert [(winner.number, winner.loaded) for winner in winners] == [(2, False)]


async def test_who_was_overtaken_marks_nothing_loaded(js: JetStreamContext, sale_id: str) -> None:
    epochs = Epochs(js)
    slow = await epochs.create("inventory", sale_id)
    fast = await epochs.create("inventory", sale_id)
    assert slow is not None
    assert fast is not None
    assert await epochs.mark_loaded("inventory", sale_id, slow) is None
    assert await epochs.mark_loaded("inventory", sale_id, fast) is not None
    current = await epochs.current("inventory", sale_id)
    assert current is not None
    assert (current.number, current.loaded) == (2, True)


async def test_the_first_epoch_is_made_only_once(js: JetStreamContext, sale_id: str) -> None:
    epochs = Epochs(js)
    outcomes = await asyncio.gather(*(epochs.first("queue", sale_id) for _ in range(8)))
    assert sum(outcome is not None for outcome in outcomes) == 1
