"""What leads to each word of PIN, RELEASE, COMMIT and RETURN."""

from tests.integration.inventory.book import Book, Result, buyer
from tests.integration.inventory.rows import MINUTE_MS, called, row


async def held(book: Book) -> None:
    """Ana has a hold of two units that her order has; Bia one that no order has."""
    await called(book)
    await book.hold("ana", "hold-0001", ("floor", 1), ("balcony", 1), place=0)
    await book.claim("ana", "order", hold_id="hold-0001")
    await book.hold("bia", "hold-0001", ("floor", 1), place=1)


async def sold(book: Book) -> None:
    """Ana's order is paid."""
    await held(book)
    await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 10 * MINUTE_MS)
    await book.of_order("commit", "ana", "hold-0001", "order")


# ---- pin ----


@row("pin", "PINNED")
async def until_the_payment_is_due(book: Book) -> Result:
    await held(book)
    result = await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 10 * MINUTE_MS)
    assert result["hold"]["expires_at_ms"] == book.start + 10 * MINUTE_MS
    await book.at(9 * MINUTE_MS)
    assert (await book.counts())["held"] == 2
    return result


@row("pin", "PINNED")
async def never_shorter(book: Book) -> Result:
    await held(book)
    result = await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 1)
    assert result["hold"]["expires_at_ms"] == book.start + 120_000
    return result


@row("pin", "PINNED")
async def pin_again(book: Book) -> Result:
    await held(book)
    await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 10 * MINUTE_MS)
    before = await book.outbox()
    result = await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 5 * MINUTE_MS)
    assert result["hold"]["expires_at_ms"] == book.start + 10 * MINUTE_MS
    assert await book.outbox() == before
    return result


@row("pin", "PINNED")
async def pin_again_after_the_sale(book: Book) -> Result:
    await sold(book)
    result = await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 20 * MINUTE_MS)
    assert result["hold"]["state"] == "SOLD"
    return result


@row("pin", "HOLD_NOT_FOUND")
async def pin_nothing(book: Book) -> Result:
    return await book.of_order("pin", "ana", "hold-0001", "order", until_ms=1)


@row("pin", "HOLD_NOT_FOUND")
async def pin_what_no_order_has(book: Book) -> Result:
    await held(book)
    return await book.of_order("pin", "bia", "hold-0001", "order", until_ms=1)


@row("pin", "HOLD_EXPIRED")
async def pin_too_late(book: Book) -> Result:
    await held(book)
    await book.at(120_000)
    return await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + MINUTE_MS)


@row("pin", "HOLD_RELEASED")
async def pin_what_was_released(book: Book) -> Result:
    await held(book)
    await book.of_order("release", "ana", "hold-0001", "order")
    return await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + MINUTE_MS)


@row("pin", "HOLD_BOUND")
async def pin_for_another_order(book: Book) -> Result:
    await held(book)
    return await book.of_order("pin", "ana", "hold-0001", "another", until_ms=book.start + MINUTE_MS)


@row("pin", "HOLD_BOUND")
async def pin_what_was_sold_without(book: Book) -> Result:
    await held(book)
    await book.of_order("commit", "ana", "hold-0001", "order")
    return await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + MINUTE_MS)


# ---- release ----


@row("release", "RELEASED")
async def within_the_turn(book: Book) -> Result:
    await held(book)
    result = await book.of_order("release", "ana", "hold-0001", "order")
    assert result["hold"]["state"] == "RELEASED"
    assert (await book.look("ana", 0))["promise"]["left"] == 4
    assert (await book.outbox())[-1]["restored"] == 2
    return result


@row("release", "RELEASED")
async def after_the_turn(book: Book) -> Result:
    await called(book)
    await book.at(299_000)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    await book.at(300_000)
    result = await book.of_order("release", "ana", "hold-0001", None)
    assert (await book.look("ana", 0))["promise"]["left"] == 0
    assert (await book.outbox())[-1]["restored"] == 0
    assert (await book.counts())["free"] == 10
    return result


@row("release", "RELEASED")
async def in_a_later_turn_of_the_same_buyer(book: Book) -> Result:
    await book.call("ana", want=2)
    await book.hold("ana", "hold-0001", ("floor", 2), place=0)
    await book.call("ana", want=2)
    result = await book.of_order("release", "ana", "hold-0001", None)
    # It came from the earlier promise: the later one stays as it is.
    assert (await book.look("ana", 1))["promise"]["left"] == 2
    return result


@row("release", "RELEASED")
async def release_again(book: Book) -> Result:
    await held(book)
    await book.of_order("release", "bia", "hold-0001", None)
    before = await book.outbox()
    result = await book.of_order("release", "bia", "hold-0001", None)
    assert await book.outbox() == before
    return result


@row("release", "RELEASED")
async def of_an_open_claim(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 3), place=0)
    result = await book.of_order("release", "ana", buyer("order"), "order")
    ledger = await book.ledger()
    assert (ledger["claims"], ledger["counts"]["promised"], ledger["counts"]["free"]) == (0, 10, 10)
    assert (await book.acts())[-1] == "UNCLAIMED"
    assert (await book.of_order("release", "ana", buyer("order"), "order"))["word"] == "RELEASED"
    return result


@row("release", "HOLD_NOT_FOUND")
async def release_nothing(book: Book) -> Result:
    return await book.of_order("release", "ana", "hold-0001", None)


@row("release", "HOLD_NOT_FOUND")
async def release_of_a_claim_that_was_refused(book: Book) -> Result:
    await book.claim("ana", "order", ("floor", 1), place=0)
    return await book.of_order("release", "ana", buyer("order"), "order")


@row("release", "HOLD_NOT_FOUND")
async def release_of_somebody_elses_claim(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    return await book.of_order("release", "bia", buyer("order"), "order")


@row("release", "HOLD_EXPIRED")
async def release_too_late(book: Book) -> Result:
    await held(book)
    await book.at(120_000)
    return await book.of_order("release", "ana", "hold-0001", "order")


@row("release", "HOLD_EXPIRED")
async def release_of_a_claim_too_late(book: Book) -> Result:
    await called(book)
    await book.claim("ana", "order", ("floor", 1), place=0)
    await book.at(60_000)
    result = await book.of_order("release", "ana", buyer("order"), "order")
    assert (await book.look("ana", 0))["promise"]["left"] == 4
    return result


@row("release", "HOLD_BOUND")
async def release_by_the_buyer_of_what_an_order_has(book: Book) -> Result:
    await held(book)
    result = await book.of_order("release", "ana", "hold-0001", None)
    assert result["detail"] == {"state": "HELD"}
    return result


@row("release", "HOLD_BOUND")
async def release_of_what_is_sold(book: Book) -> Result:
    await sold(book)
    result = await book.of_order("release", "ana", "hold-0001", "order")
    assert result["detail"] == {"state": "SOLD"}
    return result


# ---- commit ----


@row("commit", "COMMITTED")
async def of_what_was_pinned(book: Book) -> Result:
    await sold(book)
    counts = await book.counts()
    assert (counts["sold"], counts["held"]) == (2, 1)
    assert (await book.unit_states("floor"))[0] == 2
    await book.at(50 * MINUTE_MS)
    return await book.of_order("commit", "ana", "hold-0001", "order")


@row("commit", "COMMITTED")
async def that_finishes_the_turn(book: Book) -> Result:
    await book.call("ana", want=2)
    await book.claim("ana", "order", ("floor", 2), place=0)
    await book.hold("ana", buyer("order"), order="order")
    assert (await book.look("ana", 0))["word"] == "PROMISED"
    result = await book.of_order("commit", "ana", buyer("order"), "order")
    assert (await book.look("ana", 0))["word"] == "FINISHED"
    assert (await book.ledger())["turns"] == 0
    last = (await book.outbox())[-1]
    assert (last["act"], last["quantity"], last["place"]) == ("LAPSED", 0, 0)
    return result


@row("commit", "HOLD_NOT_FOUND")
async def commit_nothing(book: Book) -> Result:
    return await book.of_order("commit", "ana", "hold-0001", "order")


@row("commit", "HOLD_EXPIRED")
async def commit_at_the_very_end_of_the_pin(book: Book) -> Result:
    await held(book)
    await book.of_order("pin", "ana", "hold-0001", "order", until_ms=book.start + 10 * MINUTE_MS)
    await book.at(10 * MINUTE_MS)
    result = await book.of_order("commit", "ana", "hold-0001", "order")
    assert result["detail"] == {"expired_at": book.start + 10 * MINUTE_MS}
    assert (await book.counts())["sold"] == 0
    return result


@row("commit", "HOLD_RELEASED")
async def commit_what_was_released(book: Book) -> Result:
    await held(book)
    await book.of_order("release", "ana", "hold-0001", "order")
    return await book.of_order("commit", "ana", "hold-0001", "order")


@row("commit", "HOLD_RELEASED")
async def commit_what_was_returned(book: Book) -> Result:
    await sold(book)
    await book.of_order("return", "ana", "hold-0001", "order", units=[])
    # An order must never read COMMITTED while its units are free.
    return await book.of_order("commit", "ana", "hold-0001", "order")


@row("commit", "HOLD_BOUND")
async def commit_for_another_order(book: Book) -> Result:
    await held(book)
    return await book.of_order("commit", "ana", "hold-0001", "another")


# ---- return ----


@row("return", "RETURNED")
async def of_all(book: Book) -> Result:
    await sold(book)
    result = await book.of_order("return", "ana", "hold-0001", "order", units=[])
    counts = await book.counts()
    assert (result["hold"]["state"], counts["sold"], counts["free"]) == ("RETURNED", 0, 9)
    # What is returned goes to the next in line, not to the promise it came from.
    assert (await book.look("ana", 0))["promise"]["left"] == 2
    return result


@row("return", "RETURNED")
async def one_by_one(book: Book) -> Result:
    await sold(book)
    one, two = [{"section": name, "unit": 0} for name in ("floor", "balcony")]
    first = await book.of_order("return", "ana", "hold-0001", "order", units=[one])
    assert (first["hold"]["state"], (await book.counts())["sold"]) == ("SOLD", 1)
    again = await book.of_order("return", "ana", "hold-0001", "order", units=[one])
    assert (again["word"], (await book.counts())["sold"]) == ("RETURNED", 1)
    result = await book.of_order("return", "ana", "hold-0001", "order", units=[one, two])
    back = [change["units"] for change in await book.outbox() if change["act"] == "RETURNED"]
    assert [[unit["section"] for unit in each] for each in back] == [["floor"], ["balcony"]]
    assert result["hold"]["state"] == "RETURNED"
    return result


@row("return", "RETURNED")
async def again_after_another_has_the_unit(book: Book) -> Result:
    await sold(book)
    await book.of_order("return", "ana", "hold-0001", "order", units=[])
    await book.hold("bia", "hold-0002", ("floor", 3), place=1)
    await book.hold("carla", "hold-0001", ("floor", 2), place=2)
    result = await book.of_order("return", "ana", "hold-0001", "order", units=[])
    assert (await book.sections())["floor"]["free"] == 0
    return result


@row("return", "HOLD_NOT_FOUND")
async def return_nothing(book: Book) -> Result:
    return await book.of_order("return", "ana", "hold-0001", "order", units=[])


@row("return", "HOLD_NOT_FOUND")
async def return_of_units_it_has_not(book: Book) -> Result:
    await sold(book)
    units = [{"section": "floor", "unit": unit} for unit in (0, 1)]
    result = await book.of_order("return", "ana", "hold-0001", "order", units=units)
    assert (await book.counts())["sold"] == 2
    return result


@row("return", "HOLD_BOUND")
async def return_of_what_is_held(book: Book) -> Result:
    await held(book)
    result = await book.of_order("return", "ana", "hold-0001", "order", units=[])
    assert result["detail"] == {"state": "HELD"}
    return result


@row("return", "HOLD_BOUND")
async def return_for_another_order(book: Book) -> Result:
    await sold(book)
    return await book.of_order("return", "ana", "hold-0001", "another", units=[])
