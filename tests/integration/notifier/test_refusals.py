"""Every limit and every wrong request is refused by name, and a stopping replica says so."""

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from catraca.notifier.v1 import notifier_pb2

from local.issuer.tokens import Minter
from services.kit.errors import Refusal, refusal_of

if TYPE_CHECKING:
    from tests.integration.notifier.conftest import Checkout, Client, Notifiers, Told


async def refusal(told: "Told") -> Refusal:
    """What a stream was refused with."""
    refused = refusal_of(await told.ended())
    assert refused is not None, repr(told.error)
    return refused


async def test_wrong_sales_and_strangers_are_refused_by_name(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start())

    for sale in ("", "Not A Label", "sale.>", "x" * 64):
        refused = await refusal(client.subscribe(sale, "ana"))
        assert (refused.word, refused.metadata["field"]) == ("INVALID_FIELD", "sale")
    assert (await refusal(client.subscribe("never-defined", "ana"))).word == "SALE_NOT_FOUND"
    await expect(client, sale_id, client.headers("ana", "staff"), "ROLE_REQUIRED")
    await expect(client, sale_id, (), "TOKEN_INVALID")
    late = client.minter.mint("ana", ttl_s=-10)
    await expect(client, sale_id, (("authorization", f"Bearer {late}"),), "TOKEN_EXPIRED")
    forged = Minter(notifiers.folder / "other.pem", client.minter.issuer).mint("ana")
    await expect(client, sale_id, (("authorization", f"Bearer {forged}"),), "TOKEN_INVALID")


async def test_only_a_bff_may_be_told_of_many_and_only_of_sound_subjects(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start(max_buyers_per_message=3, max_buyers_per_stream=5))

    call = client.stub.SubscribeMany(metadata=client.headers("ana", "buyer"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    refused = refusal_of(caught.value)
    assert refused is not None
    assert (refused.word, refused.metadata["needs"]) == ("ROLE_REQUIRED", "bff")

    for add, drop, word, named in (
        (["1", "2", "3", "4"], [], "INVALID_FIELD", {"field": "add"}),
        ([], ["1", "2", "3", "4"], "INVALID_FIELD", {"field": "drop"}),
        ([""], [], "INVALID_FIELD", {"field": "subject"}),
        (["x" * 300], [], "INVALID_FIELD", {"field": "subject"}),
    ):
        many, told = client.subscribe_many()
        await many.send(sale_id, add, drop)
        refused = await refusal(told)
        assert refused.word == word
        assert refused.metadata.items() >= named.items()

    many, told = client.subscribe_many()
    await many.send(sale_id, ["1", "2", "3"])
    await many.send(sale_id, ["4", "5"], ["1"])
    await told.until(lambda: told.caught_up == 5)
    await many.send(sale_id, ["6", "7"])
    refused = await refusal(told)
    assert refused.word == "OVERLOADED"
    assert refused.metadata == {"limit": "buyers_per_stream", "at_most": "5"}


async def test_streams_and_orders_beyond_the_limit_are_refused(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start(max_streams=1, max_orders_per_stream=2))
    one = client.subscribe(sale_id, "ana")
    await one.until(lambda: one.caught_up == 1)

    refused = await refusal(client.subscribe(sale_id, "bruno"))
    assert (refused.word, refused.metadata["limit"]) == ("OVERLOADED", "streams")
    assert refused.retry_after_s is not None
    for number in range(3):
        await checkout.decide(sale_id, "ana", f"order{number}")
    refused = await refusal(one)
    assert (refused.word, refused.metadata["limit"]) == ("OVERLOADED", "orders_per_stream")
    assert one.updates == 2

    again = client.subscribe(sale_id, "bruno")
    await again.until(lambda: again.caught_up == 1)


async def test_a_stopping_replica_ends_its_streams_at_once_with_a_hint(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    replica = await notifiers.start(drain_s=30)
    client = notifiers.client(replica)
    told = client.subscribe(sale_id, "ana")
    _, told_many = client.subscribe_many()
    await told.until(lambda: told.caught_up == 1)

    async with asyncio.timeout(10):
        await asyncio.to_thread(replica.stop)

    for stream in (told, told_many):
        refused = await refusal(stream)
        assert refused.word == "UNAVAILABLE"
        assert refused.retry_after_s is not None


async def expect(client: "Client", sale: str, headers: tuple[tuple[str, str], ...], word: str) -> None:
    call = client.stub.Subscribe(notifier_pb2.SubscribeRequest(sale=sale), metadata=headers)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    refused = refusal_of(caught.value)
    assert refused is not None
    assert refused.word == word
