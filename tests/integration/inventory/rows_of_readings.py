"""What leads to each word of LAPSE, and of the commands that read, sweep and drop."""

from tests.integration.inventory.book import Book, Result, buyer, section
from tests.integration.inventory.rows import MINUTE_MS, called, row
from tests.integration.inventory.rows_of_orders import held, sold, that_finishes_the_turn

# ---- lapse, look ----


@row("lapse", "LAPSED")
async def leaving_what_is_held(book: Book) -> Result:
    await held(book)
    await book.claim("ana", "second", ("floor", 1), place=0)
    result = await book.do("lapse", buyer=buyer("ana"), place=0)
    ledger = await book.ledger()
    assert (ledger["turns"], ledger["claims"], ledger["counts"]["held"]) == (2, 1, 3)
    assert (await book.outbox())[-1]["quantity"] == 1
    return result


@row("lapse", "LAPSED")
async def of_another_place(book: Book) -> Result:
    await called(book)
    result = await book.do("lapse", buyer=buyer("ana"), place=1)
    assert (await book.look("ana", 0))["word"] == "PROMISED"
    return result


@row("look", "PROMISED")
async def while_the_turn_runs(book: Book) -> Result:
    await held(book)
    result = await book.look("ana", 0)
    assert (result["promise"]["left"], result["detail"]) == (2, {"has": 2})
    return result


@row("look", "LAPSED")
async def when_the_turn_is_over(book: Book) -> Result:
    await called(book)
    await book.at(300_000)
    return await book.look("ana", 0)


@row("look", "LAPSED")
async def at_an_older_place(book: Book) -> Result:
    await book.call("ana", want=1)
    await book.call("ana", want=1)
    return await book.look("ana", 0)


@row("look", "FINISHED")
async def when_all_is_bought(book: Book) -> Result:
    await that_finishes_the_turn(book)
    return await book.look("ana", 0)


@row("look", "NOT_CALLED")
async def before_the_call(book: Book) -> Result:
    return await book.look("ana", 0)


# ---- show, ledger, expire, drop ----


@row("show", "SHOWN")
async def ones_own(book: Book) -> Result:
    await held(book)
    result = await book.do("show", buyer=buyer("ana"), hold_id="hold-0001")
    assert (result["hold"]["state"], result["hold"]["order_id"]) == ("HELD", buyer("order"))
    return result


@row("show", "HOLD_NOT_FOUND")
async def somebody_elses(book: Book) -> Result:
    await held(book)
    return await book.do("show", buyer=buyer("carla"), hold_id="hold-0001")


@row("ledger", "LEDGER")
async def its_numbers(book: Book) -> Result:
    await held(book)
    await book.claim("carla", "another", ("balcony", 2), place=2)
    result = await book.do("ledger")
    assert result["ledger"]["counts"] == {
        "capacity": 10,
        "free": 5,
        "held": 3,
        "sold": 0,
        "blocked": 0,
        "promised": 5,
    }
    assert [each["free"] for each in result["sections"]] == [4, 1]
    return result


@row("expire", "EXPIRED")
async def all_that_is_due(book: Book) -> Result:
    await held(book)
    await book.at(120_000)
    result = await book.do("expire")
    assert (await book.acts())[-2:] == ["EXPIRED", "EXPIRED"]
    return result


async def settled(book: Book) -> int:
    """Everything has come to its end, and the sale is closed; answers the last change's sequence."""
    await sold(book)
    await book.at(120 * MINUTE_MS)
    sequence: int = (await book.ledger())["sequence"]
    return sequence


@row("drop", "DROPPED")
async def of_a_settled_sale(book: Book) -> Result:
    result = await book.do("drop", published=await settled(book))
    assert await book.redis.exists(*book.keys) == 0
    return result


@row("drop", "DROPPABLE")
async def of_a_settled_sale_when_only_asked(book: Book) -> Result:
    sequence = await settled(book)
    result = await book.do("drop", published=sequence, ask=True)
    assert (await book.ledger())["sequence"] == sequence
    return result


@row("drop", "WRONG_PHASE")
async def before_closing(book: Book) -> Result:
    result = await book.do("drop", published=1)
    assert result["detail"] == {"phase": "OPEN", "needs": "CLOSED"}
    return result


@row("drop", "SALE_NOT_SETTLED", sections=[section("floor", 10)])
async def while_a_unit_is_held(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    await book.hold("ana", buyer("order"), order="order")
    await book.of_order("pin", "ana", buyer("order"), "order", until_ms=book.start + 200 * MINUTE_MS)
    await book.at(120 * MINUTE_MS)
    result = await book.do("drop", published=(await book.ledger())["sequence"])
    assert (await book.counts())["held"] == 1
    return result


@row("drop", "UNAVAILABLE")
async def before_all_is_published(book: Book) -> Result:
    sequence = await settled(book)
    result = await book.do("drop", published=sequence - 1)
    assert (await book.ledger())["sequence"] == sequence
    return result
