"""A replica of the stream that lacks what was seen already is not believed."""

from typing import TYPE_CHECKING

import pytest

from services.notifier.rules import buyer_key
from services.notifier.store import LiveNews, Snapshots, Unavailable

if TYPE_CHECKING:
    from tests.integration.notifier.conftest import Checkout, Notifiers


async def test_last_states_without_the_witness_are_not_believed(checkout: "Checkout", sale_id: str) -> None:
    await checkout.decide(sale_id, "ana", "order")
    key, nobody = buyer_key(sale_id, checkout.buyer("ana")), buyer_key(sale_id, checkout.buyer("nobody"))
    store = Snapshots(checkout.nc)
    last = await checkout.js.get_last_msg("CHECKOUT", f"catraca.checkout.{sale_id}.order.>")
    assert last.subject is not None
    assert last.seq is not None

    assert [state.version for state in await store.read([key], (last.subject, last.seq))] == [0]
    assert [state.key for state in await store.read([nobody], (last.subject, last.seq))] == [key]
    for unseen in ((last.subject, last.seq + 1), ("catraca.checkout.never.order.a.b", 1)):
        with pytest.raises(Unavailable):
            await store.read([nobody], unseen)


async def test_the_witness_is_the_last_message_seen_and_asked_for_again_when_it_is_gone(
    checkout: "Checkout", sale_id: str
) -> None:
    starts: list[str] = []
    await checkout.decide(sale_id, "ana", "before")
    async with LiveNews(checkout.nc, lambda: starts.append("")) as news:
        before = await news.witness()
        await checkout.decide(sale_id, "ana", "after")
        states = await news.next_states()
        after = await news.witness()

        assert starts == [""]
        assert [state.order_id for state in states] == ["after"]
        assert before is not None
        assert before[0].endswith(".before")
        assert after is not None
        assert after[0].endswith(".after")
        await checkout.js.purge_stream("CHECKOUT", subject=after[0])
        assert await news.witness() == after
        news.forget_witness()
        assert await news.witness() == before


async def test_a_purged_sale_stops_no_snapshot(
    notifiers: "Notifiers", checkout: "Checkout", sale_id: str
) -> None:
    client = notifiers.client(await notifiers.start(read_retry_s=0.05))
    first = client.subscribe(sale_id, "ana")
    await checkout.decide(sale_id, "ana", "order")
    await first.until(lambda: first.updates == 1)
    await checkout.js.purge_stream("CHECKOUT", subject=f"catraca.checkout.{sale_id}.>")

    late = client.subscribe(sale_id, "ana")

    await late.until(lambda: late.caught_up == 1)
    assert late.updates == 0
