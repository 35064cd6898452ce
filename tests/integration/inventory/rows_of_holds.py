"""What leads to each word of HOLD."""

from tests.integration.inventory.book import Book, Result, buyer, section
from tests.integration.inventory.rows import called, row


@row("hold", "HELD")
async def from_a_promise(book: Book) -> Result:
    await called(book)
    result = await book.hold("ana", "hold-0001", ("floor", 1), ("balcony", 1, "half"), place=0)
    hold = result["hold"]
    assert hold["expires_at_ms"] - book.start == 120_000
    assert [(unit["section"], unit["ticket_type"], unit["price"]) for unit in hold["units"]] == [
        ("floor", "full", 1000),
        ("balcony", "half", 500),
    ]
    assert (await book.look("ana", 0))["promise"]["left"] == 2
    return result


@row("hold", "HELD", paused=False)
async def hold_while_paused(book: Book) -> Result:
    await called(book)
    await book.define(book.content | {"paused": True})
    return await book.hold("ana", "hold-0001", ("floor", 1), place=0)


@row("hold", "REHEARSAL", rehearsal=True)
async def a_hold_in_a_rehearsal(book: Book) -> Result:
    await called(book)
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert (await book.counts())["held"] == 0
    return result


@row("hold", "REHEARSAL", rehearsal=True, line=False)
async def a_hold_in_a_rehearsal_without_a_line(book: Book) -> Result:
    return await book.hold("ana", "hold-0001", ("floor", 1))


@row("hold", "HELD")
async def hold_again(book: Book) -> Result:
    await called(book)
    first = await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    result = await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    assert result["hold"] == first["hold"]
    assert (await book.counts())["held"] == 2
    return result


@row("hold", "HELD")
async def for_an_order_after_the_turn(book: Book) -> Result:
    await called(book)
    await book.at(299_999)
    await book.claim("ana", "order", ("floor", 4), place=0)
    await book.at(300_001)
    result = await book.hold("ana", buyer("order"), order="order")
    ledger = await book.ledger()
    assert (ledger["claims"], ledger["counts"]["held"], len(result["hold"]["units"])) == (0, 4, 4)
    return result


@row("hold", "HELD")
async def for_an_order_again(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 4), place=0)
    await book.hold("ana", buyer("order"), order="order")
    result = await book.hold("ana", buyer("order"), order="order")
    assert (await book.counts())["held"] == 4
    return result


@row("hold", "HELD")
async def for_an_order_that_has_it(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.claim("ana", "order", hold_id="hold-0001")
    return await book.hold("ana", "hold-0001", order="order")


@row("hold", "HELD")
async def of_units_that_came_back(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 4), place=0)
    await book.hold("bia", "hold-0001", ("floor", 2), place=1)
    await book.of_order("release", "ana", "hold-0001", None)
    result = await book.hold("ana", "hold-0002", ("floor", 3), place=0)
    assert {unit["unit"] for unit in result["hold"]["units"]} < {0, 1, 2, 3}
    assert sorted(await book.unit_states("floor")) == [0, 1, 1, 1, 1, 1]
    return result


@row("hold", "QUEUE_TIMEOUT")
async def for_an_order_that_waited_too_long(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 4), place=0)
    await book.at(60_000)
    result = await book.hold("ana", buyer("order"), order="order")
    assert result["detail"] == {"expired_at": book.start + 60_000}
    assert (await book.look("ana", 0))["promise"]["left"] == 4
    return result


@row("hold", "QUEUE_TIMEOUT")
async def for_an_order_whose_hold_waited_too_long(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.claim("ana", "order", hold_id="hold-0001")
    await book.at(120_000)
    return await book.hold("ana", "hold-0001", order="order")


@row("hold", "WRONG_PHASE", lobby_opens_ms=1000, opens_ms=2000)
async def hold_before_the_lobby(book: Book) -> Result:
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert (result["detail"]["phase"], result["detail"]["retry_after_ms"]) == ("SCHEDULED", 2000)
    return result


@row("hold", "TURN_EXPIRED")
async def hold_after_leaving(book: Book) -> Result:
    await called(book)
    await book.at(1000)
    await book.do("lapse", buyer=buyer("ana"), place=0)
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert result["detail"] == {"ended_at": book.start + 1000}
    return result


@row("hold", "ADMISSION_REQUIRED")
async def hold_without_a_place(book: Book) -> Result:
    await called(book)
    return await book.hold("ana", "hold-0001", ("floor", 1))


@row("hold", "ALLOWANCE_EXCEEDED")
async def hold_more_than_promised(book: Book) -> Result:
    await called(book)
    return await book.hold("carla", "hold-0001", ("floor", 3), place=2)


@row("hold", "LIMIT_REACHED", line=False)
async def hold_more_than_the_limit(book: Book) -> Result:
    await book.hold("ana", "hold-0001", ("floor", 2))
    await book.claim("ana", "order", ("floor", 1))
    result = await book.hold("ana", "hold-0002", ("floor", 2))
    assert result["detail"] == {"limit": 4, "has": 3}
    return result


@row("hold", "HOLD_LIMIT", holds_per_turn=2)
async def too_often_in_one_turn(book: Book) -> Result:
    await called(book)
    for number in (1, 2):
        await book.hold("ana", f"hold-000{number}", ("floor", 1), place=0)
        await book.of_order("release", "ana", f"hold-000{number}", None)
    await book.at(100_000)
    result = await book.hold("ana", "hold-0003", ("floor", 1), place=0)
    assert result["detail"] == {"retry_after_ms": 200_000}
    return result


@row("hold", "HOLD_LIMIT", line=False, holds_per_turn=1)
async def too_often_without_a_line(book: Book) -> Result:
    await book.hold("ana", "hold-0001", ("floor", 1))
    await book.of_order("release", "ana", "hold-0001", None)
    await book.at(20_000)
    result = await book.hold("ana", "hold-0002", ("floor", 1))
    assert result["detail"] == {"retry_after_ms": 100_000}
    await book.at(120_000)
    assert (await book.hold("ana", "hold-0002", ("floor", 1)))["word"] == "HELD"
    return result


@row("hold", "SECTION_SOLD_OUT")
async def hold_of_a_section_that_is_held(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("balcony", 4), place=0)
    result = await book.hold("bia", "hold-0001", ("balcony", 1), place=1)
    assert result["detail"] == {"section": "balcony", "left": 0, "left.floor": 6}
    return result


@row("hold", "SECTION_SOLD_OUT", sections=[section("floor", 6, half=1), section("balcony", 4)])
async def hold_beyond_a_quota(book: Book) -> Result:
    await called(book)
    result = await book.hold("ana", "hold-0001", ("floor", 1, "half"), ("floor", 1, "half"), place=0)
    assert result["detail"] == {"section": "floor", "left": 1, "left.balcony": 4}
    return result


@row("hold", "SOLD_OUT", line=False)
async def hold_when_all_is_sold(book: Book) -> Result:
    for name, wanted in (("ana", ("floor", 4)), ("bia", ("floor", 2)), ("carla", ("balcony", 4))):
        await book.claim(name, name, wanted)
        await book.hold(name, buyer(name), order=name)
        await book.of_order("commit", name, buyer(name), name)
    result = await book.hold("davi", "hold-0001", ("floor", 1))
    assert result["detail"] == {"left": 0}
    return result


@row("hold", "SECTION_NOT_FOUND", line=False)
async def hold_of_no_section(book: Book) -> Result:
    return await book.hold("ana", "hold-0001", ("cellar", 1))


@row("hold", "TICKET_TYPE_NOT_FOUND", line=False)
async def hold_of_no_type(book: Book) -> Result:
    return await book.hold("ana", "hold-0001", ("floor", 1, "vip"))


@row("hold", "HOLD_NOT_FOUND")
async def for_an_order_that_claimed_nothing(book: Book) -> Result:
    await called(book)
    return await book.hold("ana", buyer("order"), order="order")


@row("hold", "HOLD_NOT_FOUND")
async def for_somebody_elses_order(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    return await book.hold("bia", buyer("order"), order="order")


@row("hold", "HOLD_EXPIRED")
async def hold_that_expired(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.at(120_000)
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert result["hold"]["state"] == "EXPIRED"
    return result


@row("hold", "HOLD_RELEASED")
async def hold_that_was_released(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.of_order("release", "ana", "hold-0001", None)
    result = await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    assert result["hold"]["state"] == "RELEASED"
    return result


@row("hold", "HOLD_RELEASED")
async def for_an_order_that_was_cancelled(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    await book.of_order("release", "ana", buyer("order"), "order")
    return await book.hold("ana", buyer("order"), order="order")


@row("hold", "HOLD_BOUND")
async def for_an_order_that_was_refused(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.claim("ana", "one", hold_id="hold-0001")
    await book.claim("ana", "two", hold_id="hold-0001")
    # The claim's own refusal is repeated.
    return await book.hold("ana", buyer("two"), order="two")


@row("hold", "IDEMPOTENCY_KEY_REUSED")
async def hold_with_other_items(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    return await book.hold("ana", "hold-0001", ("floor", 2), place=0)


@row("hold", "IDEMPOTENCY_KEY_REUSED")
async def for_an_order_under_a_second_id(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    await book.hold("ana", buyer("order"), order="order")
    return await book.hold("ana", "hold-0002", order="order")


@row("hold", "ORDER_LIMIT")
async def the_order_was_refused_for_too_many_before(book: Book) -> Result:
    await called(book)
    book.refused_orders = 1
    await book.claim("ana", "in-vain", ("floor", 5), place=0)
    await book.claim("ana", "order", ("floor", 1), place=0)
    return await book.hold("ana", "hold-0001", order="order")
