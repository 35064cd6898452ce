"""What leads to each word of DEFINE and CALL."""

from tests.integration.inventory.book import Book, Result, buyer, section
from tests.integration.inventory.rows import MINUTE_MS, row


@row("define", "DEFINED")
async def more_capacity(book: Book) -> Result:
    result = await book.define(book.content | {"sections": [section("floor", 7), section("balcony", 4)]})
    assert (await book.counts())["free"] == 11
    return result


@row("define", "DEFINED")
async def a_new_section(book: Book) -> Result:
    result = await book.define(book.content | {"sections": [*book.content["sections"], section("stage", 2)]})
    assert (await book.sections())["stage"]["free"] == 2
    return result


@row("define", "UNCHANGED")
async def the_same_revision(book: Book) -> Result:
    book.revision = 0
    result = await book.define(book.content | {"limit": 1})
    await book.call("ana")
    assert (await book.look("ana", 0))["promise"]["allowance"] == 4
    return result


@row("define", "DEFINITION_FIXED")
async def less_capacity(book: Book) -> Result:
    result = await book.define(book.content | {"sections": [section("floor", 6), section("balcony", 3)]})
    assert result["detail"] == {"path": "sections.balcony.capacity", "capacity": 4}
    assert (await book.counts())["capacity"] == 10
    return result


@row("define", "DEFINITION_FIXED")
async def a_section_less(book: Book) -> Result:
    return await book.define(book.content | {"sections": [section("floor", 6)]})


@row("call", "CALLED")
async def in_order_while_stock_lasts(book: Book) -> Result:
    result = await book.call("ana", "bia", "carla", "davi")
    assert (result["granted"], result["ledger"]["watermark"], result["ledger"]["turns"]) == (3, 3, 3)
    assert [
        (await book.look(name, place))["word"] for place, name in enumerate(("ana", "bia", "carla", "davi"))
    ] == [
        "PROMISED",
        "PROMISED",
        "PROMISED",
        "NOT_CALLED",
    ]
    last = (await book.look("carla", 2))["promise"]
    assert (last["allowance"], last["left"], last["turn_ends_at_ms"] - book.start) == (2, 2, 300_000)
    return result


@row("call", "CALLED", concurrency=2)
async def as_many_as_may_shop_at_once(book: Book) -> Result:
    result = await book.call("ana", "bia", "carla", want=1)
    assert (result["granted"], result["ledger"]["watermark"]) == (2, 2)
    return result


@row("call", "CALLED", limit=2)
async def passing_over_who_has_the_limit(book: Book) -> Result:
    await book.call("ana", start=0)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    result = await book.call("ana", "bia")
    assert (result["granted"], result["ledger"]["watermark"]) == (1, 3)
    assert (await book.look("ana", 1))["word"] == "FINISHED"
    called = [change for change in await book.outbox() if change["act"] == "CALLED"]
    assert [(each["place"], each["quantity"], each["watermark"]) for each in called] == [
        (0, 2, 1),
        (1, 0, 2),
        (2, 2, 3),
    ]
    return result


@row("call", "CALLED")
async def again_after_an_older_turn_lapsed(book: Book) -> Result:
    await book.call("ana", want=1)
    result = await book.call("ana", want=2)
    assert (await book.acts()) == ["CALLED", "LAPSED", "CALLED"]
    assert (result["ledger"]["turns"], result["ledger"]["counts"]["promised"]) == (1, 2)
    return result


@row("call", "CALLED")
async def over_places_that_nobody_holds(book: Book) -> Result:
    result = await book.do("call", **{"from": 0, "to": 3, "callees": []})
    assert result["ledger"]["watermark"] == 3
    (change,) = (await book.outbox())[1:]
    assert (change["act"], change["quantity"], change["watermark"]) == ("CALLED", 0, 3)
    return result


@row("call", "CALLED")
async def with_nothing_left(book: Book) -> Result:
    await book.call("ana", "bia", "carla")
    before = await book.ledger()
    result = await book.call("davi")
    assert (result["granted"], result["ledger"]) == (0, before)
    return result


@row("call", "CALLED", closes_ms=10 * MINUTE_MS)
async def for_turns_that_end_with_the_sale(book: Book) -> Result:
    await book.at(9 * MINUTE_MS)
    result = await book.call("ana")
    assert (await book.look("ana", 0))["promise"]["turn_ends_at_ms"] == book.start + 10 * MINUTE_MS
    return result


@row("call", "CALLED", sections=[section("floor", 6, full=1, half=1)])
async def no_more_than_the_quotas_leave(book: Book) -> Result:
    result = await book.call("ana")
    assert (await book.look("ana", 0))["promise"]["allowance"] == 2
    return result


@row("call", "NOT_WATERMARK")
async def twice(book: Book) -> Result:
    await book.call("ana")
    result = await book.call("bia", start=0)
    assert result["ledger"]["watermark"] == 1
    assert (await book.look("bia", 0))["word"] == "NOT_CALLED"
    return result


@row("call", "PAUSED", paused=True)
async def while_paused(book: Book) -> Result:
    return await book.call("ana")


@row("call", "WRONG_PHASE", opens_ms=1000)
async def call_before_opening(book: Book) -> Result:
    result = await book.call("ana")
    opens_at = book.start + 1000
    assert result["detail"] == {
        "phase": "LOBBY",
        "needs": "OPEN",
        "opens_at": opens_at,
        "retry_after_ms": 1000,
    }
    return result


@row("call", "NO_LINE", line=False)
async def call_without_a_line(book: Book) -> Result:
    return await book.call("ana")


@row("call", "INVALID_FIELD")
async def out_of_order(book: Book) -> Result:
    callees = [
        {"buyer": buyer(name), "place": place, "joined_at_ms": 1} for name, place in (("ana", 1), ("bia", 0))
    ]
    return await book.do("call", **{"from": 0, "to": 2, "callees": callees})


@row("call", "INVALID_FIELD")
async def beyond_its_end(book: Book) -> Result:
    callees = [{"buyer": buyer("ana"), "place": 2, "joined_at_ms": 1}]
    return await book.do("call", **{"from": 0, "to": 2, "callees": callees})
