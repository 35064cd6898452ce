"""What leads to each word of CLAIM."""

from tests.integration.inventory.book import Book, Result, buyer
from tests.integration.inventory.rows import MINUTE_MS, called, row


@row("claim", "CLAIMED")
async def of_a_promise(book: Book) -> Result:
    await called(book)
    result = await book.claim("ana", "order", ("floor", 2), ("balcony", 1, "half"), place=0)
    ledger = await book.ledger()
    assert (result["claim_until_ms"] - book.start, ledger["claims"]) == (60_000, 1)
    assert (ledger["counts"]["free"], ledger["counts"]["promised"]) == (7, 7)
    assert (await book.look("ana", 0))["promise"]["left"] == 1
    (change,) = [change for change in await book.outbox() if change["act"] == "CLAIMED"]
    assert (change["order_id"], change["quantity"], change["place"]) == (buyer("order"), 3, 0)
    assert change["items"][1] == {"section": "balcony", "ticket_type": "half", "quantity": 1}
    return result


@row("claim", "CLAIMED", line=False)
async def of_what_is_free(book: Book) -> Result:
    result = await book.claim("ana", "order", ("floor", 2))
    assert (await book.counts())["free"] == 8
    return result


@row("claim", "CLAIMED")
async def claim_again(book: Book) -> Result:
    await called(book)
    first = await book.claim("ana", "order", ("floor", 4), place=0)
    await book.at(400_000)
    result = await book.claim("ana", "order", ("floor", 4), place=0)
    # The turn and the claim are over: the first answer stands, and nothing is claimed again.
    assert result["claim_until_ms"] == first["claim_until_ms"]
    assert (await book.ledger())["claims"] == 0
    return result


@row("claim", "CLAIMED")
async def of_a_hold(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    await book.at(100_000)
    result = await book.claim("ana", "order", hold_id="hold-0001")
    assert result["hold"]["order_id"] == buyer("order")
    assert result["hold"]["expires_at_ms"] == result["claim_until_ms"] == book.start + 160_000
    assert (await book.acts())[-1] == "BOUND"
    return result


@row("claim", "CLAIMED")
async def of_a_hold_after_the_turn(book: Book) -> Result:
    await called(book)
    await book.at(299_999)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    await book.at(300_001)
    return await book.claim("ana", "order", hold_id="hold-0001")


@row("claim", "REHEARSAL", rehearsal=True)
async def an_order_in_a_rehearsal(book: Book) -> Result:
    await called(book)
    result = await book.claim("ana", "order", ("floor", 2), place=0)
    # The turn stays what it was: only the last step is missing.
    assert (await book.look("ana", 0))["promise"]["left"] == 4
    return result


@row("claim", "WRONG_PHASE", closes_ms=MINUTE_MS)
async def after_closing(book: Book) -> Result:
    await called(book)
    await book.at(MINUTE_MS)
    result = await book.claim("ana", "order", ("floor", 1), place=0)
    assert (result["detail"]["phase"], result["detail"].get("retry_after_ms")) == ("CLOSED", None)
    return result


@row("claim", "WRONG_PHASE", closes_ms=MINUTE_MS)
async def of_a_hold_after_closing(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.at(MINUTE_MS)
    return await book.claim("ana", "order", hold_id="hold-0001")


@row("claim", "TURN_EXPIRED")
async def claim_after_the_turn(book: Book) -> Result:
    await called(book)
    await book.at(300_000)
    result = await book.claim("ana", "order", ("floor", 1), place=0)
    assert result["detail"] == {"ended_at": book.start + 300_000}
    return result


@row("claim", "TURN_EXPIRED")
async def with_an_older_place(book: Book) -> Result:
    await book.call("ana", want=1)
    await book.call("ana", want=1)
    return await book.claim("ana", "order", ("floor", 1), place=0)


@row("claim", "ADMISSION_REQUIRED")
async def claim_without_a_place(book: Book) -> Result:
    await called(book)
    return await book.claim("ana", "order", ("floor", 1))


@row("claim", "NOT_CALLED_YET")
async def claim_whose_call_was_lost(book: Book) -> Result:
    result = await book.claim("ana", "order", ("floor", 1), place=0)
    # It is made again, and then the same order is judged as if it had not asked before.
    await book.call("ana")
    assert (await book.claim("ana", "order", ("floor", 1), place=0))["word"] == "CLAIMED"
    return result


@row("claim", "ALLOWANCE_EXCEEDED")
async def claim_more_than_promised(book: Book) -> Result:
    await called(book)
    result = await book.claim("carla", "order", ("floor", 3), place=2)
    assert result["detail"] == {"allowance": 2}
    return result


@row("claim", "LIMIT_REACHED")
async def claim_more_than_the_limit(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "one", ("floor", 2), place=0)
    result = await book.claim("ana", "two", ("floor", 3), place=0)
    assert result["detail"] == {"limit": 4, "has": 2}
    return result


@row("claim", "SECTION_SOLD_OUT")
async def claim_of_a_section_that_is_claimed(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "one", ("balcony", 3), place=0)
    result = await book.claim("bia", "two", ("balcony", 2), place=1)
    assert result["detail"] == {"section": "balcony", "left": 1, "left.floor": 6}
    # The refusal is the order's answer, also once there would be room.
    await book.of_order("release", "ana", "none-here", "one")
    again = await book.claim("bia", "two", ("balcony", 2), place=1)
    assert (again["word"], again["detail"]) == (result["word"], result["detail"])
    return result


@row("claim", "SOLD_OUT", line=False)
async def claim_more_than_is_left(book: Book) -> Result:
    for name in ("ana", "bia"):
        await book.claim(name, f"order of {name}", ("floor", 3), ("balcony", 1))
    result = await book.claim("carla", "order", ("floor", 1), ("balcony", 2))
    assert result["detail"] == {"left": 2, "retry_after_ms": 5000}
    return result


@row("claim", "SECTION_NOT_FOUND")
async def claim_of_no_section(book: Book) -> Result:
    await called(book)
    result = await book.claim("ana", "order", ("cellar", 1), place=0)
    assert result["detail"] == {"section": "cellar"}
    return result


@row("claim", "TICKET_TYPE_NOT_FOUND")
async def claim_of_no_type(book: Book) -> Result:
    await called(book)
    result = await book.claim("ana", "order", ("floor", 1, "vip"), place=0)
    assert result["detail"] == {"section": "floor", "ticket_type": "vip"}
    return result


@row("claim", "HOLD_NOT_FOUND")
async def of_no_hold(book: Book) -> Result:
    return await book.claim("ana", "order", hold_id="hold-0001")


@row("claim", "HOLD_NOT_FOUND")
async def of_somebody_elses_hold(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    return await book.claim("bia", "order", hold_id="hold-0001")


@row("claim", "HOLD_EXPIRED")
async def of_a_hold_that_expired(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.at(120_000)
    result = await book.claim("ana", "order", hold_id="hold-0001")
    assert result["detail"] == {"expired_at": book.start + 120_000}
    return result


@row("claim", "HOLD_RELEASED")
async def of_a_hold_that_was_released(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.of_order("release", "ana", "hold-0001", None)
    return await book.claim("ana", "order", hold_id="hold-0001")


@row("claim", "HOLD_BOUND")
async def of_a_hold_that_an_order_has(book: Book) -> Result:
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    await book.claim("ana", "one", hold_id="hold-0001")
    result = await book.claim("ana", "two", hold_id="hold-0001")
    assert result["detail"] == {"state": "HELD"}
    return result


@row("claim", "IDEMPOTENCY_KEY_REUSED")
async def claim_with_other_items(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    return await book.claim("ana", "order", ("floor", 2), place=0)


@row("claim", "HOLD_LIMIT", holds_per_turn=2)
async def too_many_orders_in_one_turn(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "first", ("floor", 1), place=0)
    await book.of_order("release", "ana", "first", "first")
    await book.hold("ana", "hold-0001", ("floor", 1), place=0)
    # To order what is held takes nothing more, and saying the same again neither.
    assert (await book.claim("ana", "second", hold_id="hold-0001"))["word"] == "CLAIMED"
    assert (await book.claim("ana", "first", ("floor", 1), place=0))["word"] == "CLAIMED"
    before = await book.ledger()
    result = await book.claim("ana", "third", ("floor", 1), place=0)
    assert await book.ledger() == before
    return result


@row("claim", "HOLD_LIMIT", line=False, holds_per_turn=1)
async def too_many_orders_without_a_line(book: Book) -> Result:
    await book.claim("ana", "first", ("floor", 1))
    await book.of_order("release", "ana", "first", "first")
    assert (await book.claim("bia", "other", ("floor", 1)))["word"] == "CLAIMED"
    result = await book.claim("ana", "second", ("floor", 1))
    await book.at(120_000)
    assert (await book.claim("ana", "third", ("floor", 1)))["word"] == "CLAIMED"
    return result


@row("claim", "ORDER_LIMIT")
async def too_many_refused_orders(book: Book) -> Result:
    await called(book)
    book.refused_orders = 3
    assert (await book.claim("ana", "in-vain-1", ("floor", 5), place=0))["word"] == "LIMIT_REACHED"
    assert (await book.claim("ana", "in-vain-2", ("floor", 1), place=1))["word"] == "TURN_EXPIRED"
    assert (await book.claim("ana", "in-vain-3", hold_id="no-such-hold"))["word"] == "HOLD_NOT_FOUND"
    # The same again is no further one.
    assert (await book.claim("ana", "in-vain-1", ("floor", 5), place=0))["word"] == "LIMIT_REACHED"
    before = await book.ledger()
    result = await book.claim("ana", "good", ("floor", 1), place=0)
    assert result["detail"] == {"retry_after_ms": 120_000}
    assert await book.ledger() == before
    # Others are not concerned, and what is held without an order neither.
    assert (await book.claim("bia", "bias", ("floor", 1), place=1))["word"] == "CLAIMED"
    assert (await book.hold("ana", "hold-0001", ("floor", 1), place=0))["word"] == "HELD"
    await book.at(120_000)
    assert (await book.claim("ana", "good", ("floor", 1), place=0))["word"] == "ORDER_LIMIT"
    assert (await book.claim("ana", "later", ("floor", 1), place=0))["word"] == "CLAIMED"
    return result
