"""What a store is filled with again, from its own changes, is what it had."""

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import msgpack
from catraca.checkout.v1.checkout_pb2 import OrderUnits
from catraca.inventory.v1 import inventory_pb2 as pb

from services.inventory import events
from services.inventory.filling import parts_of
from services.inventory.replay import Replay
from services.inventory.store import key_of
from tests.integration.inventory.book import Book, buyer, seated, section
from tests.integration.inventory.rows import MINUTE_MS

SECTIONS = [
    seated("hall", "oooooo", "oooooo", accessible=("A1", "A6"), companion=("A2", "A5")),
    section("floor", 8),
]


async def played(book: Book) -> None:
    """Seats and standing places in every state: held, claimed, sold, returned, expired and blocked."""
    await book.call("ana", "bia", "caio", "davi", want=3)
    await book.sit("ana", "hold-0001", "hall", "A3 A4", place=0)
    await book.sit("ana", "hold-0002", "hall", "A1", place=0, use="ACCESSIBLE")
    await book.do(
        "claim",
        buyer=buyer("bia"),
        order_id=buyer("claimed"),
        items=[
            book.seat_item("hall", 1, use="ACCESSIBLE"),
            {"section": "floor", "quantity": 1},
            book.seat_item("hall", 1, use="COMPANION"),
        ],
        place=1,
    )
    await book.do(
        "claim",
        buyer=buyer("caio"),
        order_id=buyer("sold"),
        items=[book.seat_item("hall", "B1 B2"), {"section": "floor", "quantity": 1}],
        place=2,
    )
    await book.hold("caio", "hold-0001", order="sold")
    await book.of_order("commit", "caio", "hold-0001", "sold")
    returned = [{"section": "hall", "unit": book.unit("hall", "B2")}]
    await book.of_order("return", "caio", "hold-0001", "sold", units=returned)
    await book.sit("davi", "hold-0001", "hall", "B5 B6", place=3)
    await book.of_order("release", "davi", "hold-0001", None)
    await book.do("block", block_id="block-0001", items=[book.seat_item("hall", "B3 B4")])
    await book.do(
        "block",
        block_id="block-0002",
        items=[{"section": "floor", "quantity": 2}, book.seat_item("hall", "A2")],
    )
    await book.do("block", block_id="block-0003", items=[book.seat_item("hall", "B6")])
    await book.do("unblock", block_id="block-0003")


async def kept(book: Book) -> dict[str, Any]:
    """All that the store says of units, those chosen next included."""
    records = await book.redis.hgetall(key_of(book.sale, "sections"))
    buyers = await book.redis.hgetall(key_of(book.sale, "buyers"))
    blocks = await book.redis.hgetall(key_of(book.sale, "blocks"))
    counted = {who: list(msgpack.Unpacker(BytesIO(packed)))[:3] for who, packed in buyers.items()}
    return {
        "sections": {name: msgpack.unpackb(packed) for name, packed in records.items()},
        "states": {name: await book.unit_states(name) for name in ("hall", "floor")},
        "summary": await book.summary("hall"),
        "layout": await book.redis.get(key_of(book.sale, "layout:hall")),
        "blocks": {id: list(msgpack.Unpacker(BytesIO(packed))) for id, packed in blocks.items()},
        "buyers": {who: counts for who, counts in counted.items() if any(counts)},
        "due": await book.redis.zrange(key_of(book.sale, "due"), 0, -1, withscores=True),
        "counts": await book.counts(),
        "unpromised": (await book.ledger())["unpromised"],
    }


async def refilled(book: Book, *, runs: int = 1) -> None:
    """Filled again from what was published, and an order that is repeated."""
    house, replay = book.house_of(book.content), Replay()
    for change in await book.outbox():
        replay.apply(events.change_of(change))
    order = OrderUnits(
        order_id=buyer("claimed"),
        buyer=buyer("bia"),
        items=[
            # As it was placed: the script is asked for companions last.
            pb.HoldItem(section="hall", quantity=1, use=pb.SEAT_USE_COMPANION),
            pb.HoldItem(section="hall", quantity=1, use=pb.SEAT_USE_ACCESSIBLE),
            pb.HoldItem(section="floor", quantity=1),
        ],
    )
    await book.refill_with(parts_of(replay, {order.order_id: order}, house, 1), runs=runs)


async def test_a_sale_with_seats(book_of: Callable[..., Awaitable[Book]]) -> None:
    book = await book_of(sections=SECTIONS)
    await played(book)
    before = await kept(book)
    assert {*before["states"]["hall"]} == {0, 1, 2, 3}

    await refilled(book)

    assert await kept(book) == before
    # The claim's repeat is known, and its seats are those that were kept.
    items = [
        book.seat_item("hall", 1, use="ACCESSIBLE"),
        {"section": "floor", "quantity": 1},
        book.seat_item("hall", 1, use="COMPANION"),
    ]
    again = await book.do("claim", buyer=buyer("bia"), order_id=buyer("claimed"), items=items, place=1)
    assert again["word"] == "CLAIMED"
    result = await book.hold("bia", "hold-0001", order="claimed")
    seats = [unit["unit"] for unit in result["hold"]["units"] if unit["section"] == "hall"]
    assert all(before["states"]["hall"][unit] == 1 for unit in seats) and len(seats) == 2


async def test_parts_whose_answers_are_lost_are_filled_in_once(
    book_of: Callable[..., Awaitable[Book]],
) -> None:
    """The last one too: by then the sale is sold again."""
    book = await book_of(sections=SECTIONS)
    await played(book)
    before, ledger = await kept(book), await book.ledger()

    await refilled(book, runs=2)

    assert await kept(book) == before
    assert await book.redis.lrange(key_of(book.sale, "returned:floor"), 0, -1) == []
    assert await book.ledger() == ledger | {"epoch": 2}


async def test_it_goes_on_as_it_would_have(book_of: Callable[..., Awaitable[Book]]) -> None:
    """Everything that ends after it was filled in gives back just what it had."""
    book = await book_of(sections=SECTIONS)
    await played(book)
    await refilled(book)

    wanted = [book.seat_item("hall", "B3 B4")]
    assert (await book.do("block", block_id="block-0001", items=wanted))["word"] == "BLOCKED"
    other = [book.seat_item("hall", "B5")]
    assert (await book.do("block", block_id="block-0001", items=other))["word"] == "IDEMPOTENCY_KEY_REUSED"
    for block in ("block-0001", "block-0002"):
        assert (await book.do("unblock", block_id=block))["word"] == "UNBLOCKED"
    returned = await book.of_order("return", "caio", "hold-0001", "sold", units=[])
    assert returned["word"] == "RETURNED"
    await book.at(20 * MINUTE_MS)

    counts = await book.counts()
    assert (counts["free"], counts["held"], counts["sold"], counts["blocked"]) == (20, 0, 0, 0)
    assert set(await book.unit_states("hall")) == set(await book.unit_states("floor")) == {0}
    layout = book.house_of(book.content).layouts["hall"]
    assert await book.summary("hall") == layout.runs
    (hall,) = [
        msgpack.unpackb(packed)
        for name, packed in (await book.redis.hgetall(key_of(book.sale, "sections"))).items()
        if name == b"hall"
    ]
    assert (hall["accessible"], hall["companion"], hall["way"], hall["claimed"]) == (2, 2, 0, 0)
