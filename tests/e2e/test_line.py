"""The line over gRPC: batches of a BFF, receipts, streams and how they end, turns that lapse, bad input."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale

from local import cli, draw_verifier
from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, answered, bearer, item, streamed
from local.draw_files import draw_file, receipt_file
from services.kit.errors import Refusal
from services.kit.signing import verifies
from services.kit.tasks import stop
from services.queue.draw import Permutation, draw_key
from tests.drand import Relay

PATIENCE_S = 20.0
REJOIN_PAUSE_S = 2.0
CALLED, WAITING = queue.PLACE_STATE_CALLED, queue.PLACE_STATE_WAITING


class Bff:
    """A front end that speaks for the buyers of one namespace."""

    def __init__(self, house: Any, name: str) -> None:
        self.house = house
        self.sale = name
        self.token = house.running.minter().mint("front", roles=["bff"], namespace="shop")
        self.metadata = bearer(self.token)

    def buyer(self, subject: str) -> Buyer:
        return Buyer(self.house.at, self.sale, self.token, subject=subject)

    async def join(self, *batches: list[str]) -> list[queue.JoinManyResponse]:
        requests = (
            queue.JoinManyRequest(sale=self.sale, items=[queue.JoinItem(subject=each) for each in batch])
            for batch in batches
        )
        call = self.house.at.queue.JoinMany(requests, metadata=self.metadata)
        return [answer async for answer in streamed(call)]

    async def places(self, subjects: list[str]) -> list[queue.PlaceResult]:
        request = queue.GetPlacesRequest(sale=self.sale, subjects=subjects)
        return list((await answered(self.house.at.queue.GetPlaces(request, metadata=self.metadata))).results)

    async def enter(self, subjects: list[str]) -> list[queue.AdmissionResult]:
        requests = iter([queue.EnterManyRequest(sale=self.sale, subjects=subjects)])
        call = self.house.at.queue.EnterMany(requests, metadata=self.metadata)
        (answer,) = [answer async for answer in streamed(call)]
        return list(answer.results)

    async def calls(self, start: int, end: int) -> list[int]:
        """The indexes of whom the line calls to these places."""
        heard: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in watched(self, start):
                if message.HasField("calls"):
                    assert message.calls.first_place == start + len(heard)
                    heard += message.calls.indexes
                if start + len(heard) >= end:
                    return heard
        raise AssertionError("the stream ended before")


def watched(who: Buyer | Bff, calls_from: int) -> AsyncIterator[queue.WatchSaleResponse]:
    """The sale's standing with its calls."""
    at = who.house.at if isinstance(who, Bff) else who.at
    request = queue.WatchSaleRequest(sale=who.sale, calls_from=calls_from)
    return streamed(at.queue.WatchSale(request, metadata=who.metadata))


async def refused(attempt: Any) -> str:
    """The word that a call is refused with."""
    with pytest.raises(Refusal) as refusal:
        await attempt
    return refusal.value.word


async def state_of(buyer: Buyer, *states: int) -> queue.WatchResponse:
    """Watch until the place has one of the states."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in buyer.watch():
            if message.place.state in states:
                return message
    raise AssertionError("the stream ended before")


async def test_a_bff_joins_reads_and_enters_many(house: Any) -> None:
    name = await house.sale(capacity=10, limit=2)
    bff = Bff(house, name)
    subjects = [f"buyer-{number}" for number in range(1200)]

    first, second = await bff.join([*subjects[:999], "\n"], subjects[1000:])
    again = await bff.buyer("buyer-5").join()

    assert [result.place.index for result in first.results[:999]] == list(range(999))
    assert first.results[999].refusal == "INVALID_FIELD"
    assert [result.place.index for result in second.results] == list(range(999, 1199))
    assert again.index == 5

    async with asyncio.timeout(PATIENCE_S):
        while (await bff.places(["buyer-4"]))[0].place.state != CALLED:
            await asyncio.sleep(0.05)
    places = await bff.places([*subjects[:6], "nobody", *subjects[1000:]])
    assert [result.place.state for result in places[:6]] == [CALLED] * 5 + [WAITING]
    assert places[5].place.ahead == 0 and places[5].place.place == 5
    assert places[6].refusal == "NOT_IN_LINE"
    assert places[-1].place.place == 1198

    entered = await bff.enter([*subjects[:6], "nobody"])
    assert [result.admission.allowance for result in entered[:5]] == [2] * 5
    assert [result.refusal for result in entered[5:]] == ["NOT_CALLED_YET", "NOT_IN_LINE"]
    assert await bff.buyer("buyer-0").enter() == entered[0].admission


async def test_receipts_prove_the_joins_of_the_draw(house: Any) -> None:
    name = await house.sale(opens_in_s=1.5)
    bff = Bff(house, name)
    (batch,) = await bff.join(["a", "b", "c"])
    request = queue.JoinRequest(sale=name)
    metadata = bearer(bff.token, buyer="d")
    single = await answered(house.at.queue.Join(request, metadata=metadata))

    (key,) = (await house.at.queue.GetReceiptKeys(queue.GetReceiptKeysRequest())).keys
    for receipt, indexes in ((batch.receipt, [0, 1, 2]), (single.receipt, [3])):
        body = queue.ReceiptBody.FromString(receipt.body)
        assert body.sale == name
        assert [entry.index for entry in body.entries] == indexes
        assert receipt.key_id == key.key_id
        assert verifies(key.ed25519_public_key, receipt.signature, receipt.body)


async def test_everyone_can_check_the_draw_and_their_place_offline(
    house: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = await house.sale(capacity=100, opens_in_s=5.0)
    early, late = "an-early-buyer", "a-late-buyer"
    bff = Bff(house, name)
    await asyncio.gather(house.buyer(name, early).join(), bff.join([f"b-{each}" for each in range(5)]))

    async def catraca(*words: str) -> tuple[int, str]:
        arguments = cli.parser().parse_args(words)
        capsys.readouterr()
        code = await asyncio.to_thread(arguments.run, arguments)
        return code, capsys.readouterr().out

    async def fetched(file: str, *words: str) -> str:
        code, printed = await catraca(*words, "--data", house.running.data)
        assert code == 0, printed
        (tmp_path / file).write_text(printed)
        return str(tmp_path / file)

    before = await fetched("before.json", "draw", name)
    assert (await catraca("verify-draw", before))[0] == 2
    promised = await house.buyer(name, early).receipt()
    assert promised.receipt.signature and not promised.HasField("proof")
    assert await refused(house.buyer(name, late).receipt()) == "NOT_IN_LINE"

    places = [await house.called(house.buyer(name, early)), await house.buyer(name, late).join()]
    draw = await fetched("draw.json", "draw", name)
    receipts = [await fetched(f"{who}.json", "receipt", name, who) for who in (early, late)]
    receipts.append(await fetched("b.json", "receipt", name, "b-3", "--namespace", "shop"))
    places.append(await bff.buyer("b-3").place())
    for receipt, place in zip(receipts, places, strict=True):
        code, printed = await catraca("verify-draw", draw, "--receipt", receipt)
        assert code == 0, printed
        assert f"place {place.place} {'behind' if place.place == 6 else 'of'} the 6 " in printed
    assert places[1].place == 6
    stolen = json.loads(Path(receipts[0]).read_text()) | {"index": (places[0].index + 1) % 6}
    Path(receipts[0]).write_text(json.dumps(stolen))
    assert (await catraca("verify-draw", draw, "--receipt", receipts[0]))[0] == 1


async def test_a_draw_waits_for_its_beacon_and_whoever_checks_it_knows_which(
    house: Any, drand: Relay
) -> None:
    drand.silent = True
    try:
        name = await house.sale(capacity=20, opens_in_s=1.0, beacon=drand.chain.source)
        buyers = [house.buyer(name) for _ in range(5)]
        await asyncio.gather(*(buyer.join() for buyer in buyers))
        request = queue.GetDrawRequest(sale=name)
        metadata = buyers[0].metadata
        async with asyncio.timeout(PATIENCE_S):
            while not (
                draw := (await answered(house.at.queue.GetDraw(request, metadata=metadata))).draw
            ).root:
                await asyncio.sleep(0.05)
        assert not draw.seed and draw.HasField("root_at") and draw.beacon_source == drand.chain.source
        assert not (await buyers[0].place()).HasField("place")
        assert await refused(buyers[0].enter()) == "DRAW_PENDING"
    finally:
        drand.silent = False
    places = await asyncio.gather(*(house.called(buyer) for buyer in buyers))

    keys = (await answered(house.at.queue.GetReceiptKeys(queue.GetReceiptKeysRequest()))).keys
    after = (await answered(house.at.queue.GetDraw(request, metadata=metadata))).draw
    assert (after.root, after.root_at) == (draw.root, draw.root_at)
    published = draw_file(name, after, keys)
    for buyer, place in zip(buyers, places, strict=True):
        verdict = draw_verifier.verify(published, receipt_file(name, await buyer.receipt(), place))
        assert verdict.ok and verdict.place == place.place, verdict
    verdict = await audit(Sources.of(house.running), name)
    assert verdict.ok, verdict.to_json()
    another = f"drand:{'a' * 64}"
    assert not draw_verifier.verify({**published, "beacon": {**published["beacon"], "source": another}}).ok


async def test_the_draw_is_published_step_by_step(house: Any) -> None:
    name = await house.sale(opens_in_s=2.0)
    buyers = [house.buyer(name) for _ in range(7)]
    await asyncio.gather(*(buyer.join() for buyer in buyers))
    metadata = buyers[0].metadata
    before = (await answered(house.at.queue.GetDraw(queue.GetDrawRequest(sale=name), metadata=metadata))).draw
    assert len(before.commitment) == 64
    assert (before.seed, before.root, before.cohort) == ("", "", 0)
    assert await refused(buyers[0].enter()) == "WRONG_PHASE"

    async with asyncio.timeout(PATIENCE_S):
        while not (await buyers[0].place()).HasField("place"):
            await asyncio.sleep(0.02)
    after = (await answered(house.at.queue.GetDraw(queue.GetDrawRequest(sale=name), metadata=metadata))).draw
    permutation = Permutation(draw_key(bytes.fromhex(after.seed), bytes.fromhex(after.root)), after.cohort)
    for buyer in buyers:
        place = await buyer.place()
        assert place.place == permutation.place(place.index)


async def test_a_watch_tells_the_whole_life_and_ends(house: Any) -> None:
    name = await house.sale(opens_in_s=2.0, turn_s=1.5)
    buyer = house.buyer(name)
    await buyer.join()
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in buyer.watch():
            if not message.heartbeat and message.place.state not in seen:
                seen.append(message.place.state)
                if message.place.state == CALLED:
                    assert message.place.allowance == 4
                    assert message.place.turn_ends_at.ToMilliseconds() > message.standing.now.ToMilliseconds()

    assert seen == [WAITING, CALLED, queue.PLACE_STATE_LAPSED]
    assert await refused(buyer.enter()) == "TURN_EXPIRED"
    again = await buyer.join()
    assert (again.index, again.place) == (1, 1)
    await state_of(buyer, CALLED)


async def test_a_place_given_up_ends_the_watch_and_makes_room(house: Any) -> None:
    name = await house.sale(capacity=4)
    first, second = house.buyer(name), house.buyer(name)
    await house.admitted(first)
    await second.join()
    watching = asyncio.create_task(state_of(first, queue.PLACE_STATE_LEFT))
    await asyncio.sleep(0.3)

    left = await first.leave()

    assert left.state == queue.PLACE_STATE_LEFT
    await watching
    await house.called(second)
    assert await refused(first.enter()) == "NOT_IN_LINE"
    assert (await first.place()).state == queue.PLACE_STATE_LEFT
    assert (await first.leave()).state == queue.PLACE_STATE_LEFT
    # A place takes room for good, so there is a pause between two of them.
    assert await refused(first.join()) == "JOIN_LIMIT"
    await asyncio.sleep(REJOIN_PAUSE_S)
    assert (await first.join()).place == 2


async def test_who_waits_is_told_within_a_second_that_all_is_promised(house: Any) -> None:
    name = await house.sale(capacity=4, turn_s=3600)
    first, second = house.buyer(name), house.buyer(name)
    await house.admitted(first)
    await second.join()

    told: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in second.watch():
            told.append(message.standing.availability)
            if told[-1] == queue.AVAILABILITY_MAY_RETURN:
                break

    assert message.place.state == WAITING
    assert message.place.ahead == 0
    assert not message.place.HasField("estimate")
    assert await refused(second.enter()) == "NOT_CALLED_YET"


async def test_who_waits_is_told_once_that_nothing_can_return(house: Any) -> None:
    name = await house.sale(capacity=2, limit=2, price=0, turn_s=3600)
    first, *waiting = (house.buyer(name) for _ in range(4))
    admission = await house.admitted(first)
    for buyer in waiting:
        await buyer.join()
    told: dict[int, list[int]] = {number: [] for number in range(len(waiting))}

    async def watch(number: int, buyer: Buyer) -> None:
        async for message in buyer.watch():
            assert message.place.state == WAITING
            if not message.heartbeat:
                told[number].append(message.standing.availability)

    watching = [asyncio.create_task(watch(number, buyer)) for number, buyer in enumerate(waiting)]
    may_return, sold_out = queue.AVAILABILITY_MAY_RETURN, queue.AVAILABILITY_SOLD_OUT
    try:
        async with asyncio.timeout(PATIENCE_S):
            while any(may_return not in heard for heard in told.values()):
                await asyncio.sleep(0.02)
            order = await first.order("click-one", [item("floor", 2)], admission=admission.token)
            await house.told(first, order.order_id, checkout.ORDER_STATE_CONFIRMED)
            while any(sold_out not in heard for heard in told.values()):
                await asyncio.sleep(0.02)
            # Nor is it told again while the line is looked at some more times.
            await asyncio.sleep(1.0)
        assert [heard[heard.index(may_return) :] for heard in told.values()] == [[may_return, sold_out]] * 3
        assert not any(task.done() for task in watching), "they keep their places"
    finally:
        await stop(*watching)


async def test_the_sales_standing_is_for_everyone_and_ends_with_the_sale(house: Any) -> None:
    name = await house.sale(capacity=100, opens_in_s=2.0, closes_in_s=4.0)
    buyers = [house.buyer(name) for _ in range(5)]
    call = house.at.queue.WatchSale(queue.WatchSaleRequest(sale=name), metadata=buyers[0].metadata)
    await asyncio.gather(*(buyer.join() for buyer in buyers))

    phases: list[int] = []
    served = 0
    async with asyncio.timeout(PATIENCE_S):
        async for message in streamed(call):
            standing = message.standing
            assert standing.serving >= served
            served = standing.serving
            if standing.phase not in phases:
                phases.append(standing.phase)

    assert phases == [sale.SALE_PHASE_LOBBY, sale.SALE_PHASE_OPEN, sale.SALE_PHASE_CLOSED]
    assert (served, standing.cohort, standing.joined, standing.drawn) == (5, 5, 5, True)
    assert await refused(house.buyer(name).join()) == "WRONG_PHASE"
    assert await refused(buyers[0].enter()) == "WRONG_PHASE"


async def test_a_bff_hears_whom_the_line_calls_by_the_index_of_their_join(house: Any) -> None:
    name = await house.sale(capacity=4, limit=1, opens_in_s=1.0)
    bff = Bff(house, name)
    subjects = [f"buyer-{number}" for number in range(3)]
    (joined,) = await bff.join(subjects)
    async with asyncio.timeout(PATIENCE_S):
        while not (await bff.buyer(subjects[0]).place()).HasField("place"):
            await asyncio.sleep(0.05)
    (late,) = await bff.join(["buyer-3", "buyer-4"])
    by_index = {
        result.place.index: subject
        for result, subject in zip(
            [*joined.results, *late.results], [*subjects, "buyer-3", "buyer-4"], strict=True
        )
    }

    heard = await bff.calls(0, 4)

    places = [result.place for result in await bff.places([by_index[index] for index in heard])]
    assert [place.place for place in places] == [0, 1, 2, 3]
    assert [place.state for place in places] == [CALLED] * 4
    # After a lost connection.
    assert await bff.calls(2, 4) == heard[2:]


async def test_calls_are_for_those_who_wait_for_many(house: Any) -> None:
    name = await house.sale(capacity=4)

    assert await refused(anext(watched(house.buyer(name), 0))) == "ROLE_REQUIRED"
    assert await refused(anext(watched(Bff(house, name), -1))) == "INVALID_FIELD"


async def test_a_sale_without_a_line_has_no_places(house: Any) -> None:
    name = await house.sale(line=False)
    buyer = house.buyer(name)
    for attempt in (buyer.join(), buyer.place(), buyer.enter(), buyer.leave()):
        assert await refused(attempt) == "NO_LINE"
    assert await refused(anext(buyer.watch())) == "NO_LINE"
    assert await refused(Bff(house, name).join(["a"])) == "NO_LINE"


@pytest.mark.parametrize(
    ("name", "word"),
    [("", "INVALID_FIELD"), ("No Sale", "INVALID_FIELD"), ("no-such-sale", "SALE_NOT_FOUND")],
)
async def test_an_unknown_sale_is_refused_by_name(house: Any, name: str, word: str) -> None:
    buyer = house.buyer(name)
    for attempt in (buyer.join(), buyer.place(), buyer.enter(), buyer.leave(), anext(buyer.watch())):
        assert await refused(attempt) == word


async def test_bad_callers_and_batches_are_refused_by_name(house: Any) -> None:
    name = await house.sale()
    at, plain = house.at.queue, house.buyer(name)
    bff = Bff(house, name)
    expired = house.buyer(name, ttl_s=-5)
    nobody = Buyer(house.at, name, bff.token)
    staff = house.buyer(name, roles=["staff"])

    assert await refused(expired.join()) == "TOKEN_EXPIRED"
    assert await refused(nobody.join()) == "NOT_YOUR_BUYER"
    assert await refused(staff.join()) == "ROLE_REQUIRED"
    assert await refused(Buyer(house.at, name, "forged").join()) == "TOKEN_INVALID"
    assert await refused(plain.place()) == "NOT_IN_LINE"
    assert await refused(plain.leave()) == "NOT_IN_LINE"
    assert await refused(plain.enter()) == "NOT_IN_LINE"
    request = queue.GetPlacesRequest(sale=name, subjects=["a"])
    assert await refused(answered(at.GetPlaces(request, metadata=plain.metadata))) == "ROLE_REQUIRED"
    assert await refused(bff.places([])) == "INVALID_FIELD"
    assert await refused(bff.places(["a"] * 5001)) == "INVALID_FIELD"
    assert await refused(bff.join(["a"] * 1001)) == "INVALID_FIELD"
    assert await refused(bff.join([])) == "INVALID_FIELD"
    assert (await bff.places(["a"]))[0].refusal == "NOT_IN_LINE"


async def test_who_has_all_that_one_buyer_may_is_done(house: Any) -> None:
    name = await house.sale(capacity=20, price=0, limit=4)
    buyer = house.buyer(name)
    admission = await house.admitted(buyer)
    await buyer.order("the-only-click", [item("floor", 4)], admission=admission.token)
    await state_of(buyer, queue.PLACE_STATE_FINISHED)

    again = await buyer.join()

    assert (again.state, again.index) == (queue.PLACE_STATE_FINISHED, 0)
    assert await refused(buyer.enter()) == "TURN_EXPIRED"


async def test_who_was_offered_a_remainder_may_stand_in_line_again(house: Any) -> None:
    name = await house.sale(capacity=6, price=0, limit=4, turn_s=3600)
    first, second = house.buyer(name), house.buyer(name)
    await house.admitted(first)
    admission = await house.admitted(second)
    assert admission.allowance == 2
    await second.order("the-first-click", [item("floor", 2)], admission=admission.token)
    await state_of(second, queue.PLACE_STATE_FINISHED)

    again = await second.join()
    assert (again.state, again.place) == (WAITING, 2)
    await first.leave()

    called = await house.called(second)
    assert (called.place, called.allowance) == (2, 2)
