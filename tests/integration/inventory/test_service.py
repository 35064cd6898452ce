"""The inventory as its callers meet it: over gRPC, on real servers."""

import asyncio
from collections import Counter

import grpc
import grpc.aio
import pytest
from catraca.inventory.v1 import inventory_pb2 as pb
from catraca.sale.v1 import sale_pb2

from services.kit.errors import Refusal, refusal_of
from tests.integration.inventory.book import buyer
from tests.integration.inventory.conftest import Define, Replica, Replicas, spec

FLOOR = pb.HoldItem(section="floor", quantity=1)


async def refused(call: object) -> Refusal:
    """The refusal that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    refusal = refusal_of(caught.value)
    assert refusal is not None, caught.value
    assert caught.value.code() == refusal.code
    return refusal


async def counts(replica: Replica, sale: str) -> sale_pb2.SaleCounts:
    """The sale's units by state, from the ledger itself."""
    answer = await replica.ledger.GetLedger(
        pb.GetLedgerRequest(sale=sale), metadata=replica.as_("checkout", "service")
    )
    total: sale_pb2.SaleCounts = answer.ledger.counts
    return total


async def test_a_buyer_holds_and_gives_back(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(floor=10), replica)
    two = pb.HoldItem(section="floor", ticket_type="half", quantity=2)

    hold = await replica.hold(sale_id, "ana", "hold-0001", two)
    read = await replica.inventory.GetHold(
        pb.GetHoldRequest(sale=sale_id, hold_id="hold-0001"), metadata=replica.as_("ana")
    )
    released = await replica.inventory.Release(
        pb.ReleaseRequest(sale=sale_id, hold_id="hold-0001"), metadata=replica.as_("ana")
    )
    again = await replica.hold(sale_id, "ana", "hold-0001", two)

    assert hold.state == pb.HOLD_STATE_HELD and hold.HasField("expires_at")
    assert [(unit.section, unit.ticket_type, unit.price) for unit in hold.units] == [
        ("floor", "half", 500)
    ] * 2
    assert read.hold == hold
    assert released.hold.state == pb.HOLD_STATE_RELEASED
    # The id was used: its present state is told, nothing is held anew.
    assert again == released.hold
    assert (await counts(replica, sale_id)).held == 0


async def test_an_admission_opens_a_turn(
    replica: Replica, shared_replicas: Replicas, define: Define, sale_id: str
) -> None:
    await define(spec(line=True, floor=10), replica)
    callee = pb.Callee(place=0, buyer=shared_replicas.buyer("ana"), joined_at_ms=1)
    (called,) = await replica.apply(sale_id, pb.Command(call=pb.CallCommand(to=1, callees=[callee])))
    token = shared_replicas.admission(sale_id, "ana", 0)

    hold = await replica.hold(sale_id, "ana", "hold-0001", FLOOR, token=token)
    without = await refused(replica.hold(sale_id, "ana", "hold-0002", FLOOR))
    forged = await refused(replica.hold(sale_id, "ana", "hold-0002", FLOOR, token=token[:-2] + "AA"))
    foreign = await refused(replica.hold(sale_id, "bia", "hold-0002", FLOOR, token=token))

    assert (called.word, called.granted, called.ledger.watermark) == ("CALLED", 1, 1)
    assert hold.state == pb.HOLD_STATE_HELD
    assert [without.word, forged.word, foreign.word] == [
        "ADMISSION_REQUIRED",
        "ADMISSION_INVALID",
        "ADMISSION_FOREIGN",
    ]


async def test_availability_counts_every_section(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(floor=10, balcony=5), replica)
    await replica.hold(sale_id, "ana", "hold-0001", pb.HoldItem(section="balcony", quantity=3))

    answer = await replica.inventory.GetAvailability(
        pb.GetAvailabilityRequest(sale=sale_id), metadata=replica.as_("bia")
    )

    assert [(each.section, each.free, each.held) for each in answer.sections] == [
        ("floor", 10, 0),
        ("balcony", 2, 3),
    ]
    assert (answer.total.capacity, answer.total.free, answer.total.held) == (15, 12, 3)


BAD_HOLDS = [
    ("an unknown sale", {"sale": "no-such-sale"}, "SALE_NOT_FOUND"),
    ("a malformed sale", {"sale": "No Such Sale"}, "INVALID_FIELD"),
    ("a short hold id", {"hold_id": "short"}, "INVALID_FIELD"),
    ("a long hold id", {"hold_id": "x" * 65}, "INVALID_FIELD"),
    ("a hold id of other characters", {"hold_id": "hold/0001"}, "INVALID_FIELD"),
    ("no items", {"items": []}, "INVALID_FIELD"),
    ("too many items", {"items": [FLOOR] * 11}, "INVALID_FIELD"),
    ("a quantity of 0", {"items": [pb.HoldItem(section="floor")]}, "INVALID_QUANTITY"),
    ("a negative quantity", {"items": [pb.HoldItem(section="floor", quantity=-1)]}, "INVALID_QUANTITY"),
    ("a huge quantity", {"items": [pb.HoldItem(section="floor", quantity=101)]}, "INVALID_QUANTITY"),
    ("more than the limit", {"items": [pb.HoldItem(section="floor", quantity=5)]}, "LIMIT_REACHED"),
    ("a malformed section", {"items": [pb.HoldItem(section="a b", quantity=1)]}, "INVALID_FIELD"),
    ("an unknown section", {"items": [pb.HoldItem(section="cellar", quantity=1)]}, "SECTION_NOT_FOUND"),
    (
        "an unknown type",
        {"items": [pb.HoldItem(section="floor", ticket_type="vip", quantity=1)]},
        "TICKET_TYPE_NOT_FOUND",
    ),
    (
        "seats of a standing section",
        {"items": [pb.HoldItem(section="floor", quantity=1, seats=["A1"])]},
        "INVALID_FIELD",
    ),
]


@pytest.mark.parametrize(("changes", "word"), [pytest.param(*row[1:], id=row[0]) for row in BAD_HOLDS])
async def test_a_bad_hold_is_named(
    replica: Replica, define: Define, sale_id: str, changes: dict[str, object], word: str
) -> None:
    await define(spec(floor=10), replica)
    good: dict[str, object] = {"sale": sale_id, "hold_id": "hold-0001", "items": [FLOOR]}
    await replica.hold(sale_id, "bia", "hold-0001", FLOOR)

    request = pb.HoldRequest(**(good | changes))
    refusal = await refused(replica.inventory.Hold(request, metadata=replica.as_("ana")))

    assert refusal.word == word
    assert (await counts(replica, sale_id)).held == 1


async def test_who_may_not_is_told(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(), replica)
    apply = pb.ApplyRequest(sale=sale_id)
    hold = pb.HoldRequest(sale=sale_id, hold_id="hold-0001", items=[FLOOR])

    nobody = await refused(replica.inventory.Hold(hold))
    a_buyer = await refused(replica.ledger.Apply(apply, metadata=replica.as_("ana")))
    a_service = await refused(replica.inventory.Hold(hold, metadata=replica.as_("checkout", "service")))
    a_bff = await refused(replica.inventory.Hold(hold, metadata=replica.as_("shop", "bff")))

    assert [each.word for each in (nobody, a_buyer, a_service, a_bff)] == [
        "TOKEN_INVALID",
        "ROLE_REQUIRED",
        "ROLE_REQUIRED",
        "NOT_YOUR_BUYER",
    ]


async def test_the_phase_is_told(replica: Replica, define: Define, sale_id: str) -> None:
    later = spec()
    later.window.opens_at.seconds += 60
    await define(later, replica)

    refusal = await refused(replica.hold(sale_id, "ana", "hold-0001", FLOOR))

    assert refusal.word == "WRONG_PHASE"
    assert (refusal.metadata["phase"], refusal.metadata["needs"]) == ("LOBBY", "OPEN")
    assert refusal.metadata["opens_at"] == later.window.opens_at.ToJsonString()[:23].rstrip("Z") + "Z"
    assert refusal.retry_after_s is not None and 50 < refusal.retry_after_s < 61


async def test_one_bad_command_does_not_stop_the_others(
    replica: Replica, define: Define, sale_id: str
) -> None:
    await define(spec(floor=3), replica)
    good = [
        pb.Command(
            claim=pb.ClaimCommand(order_id=buyer(f"order {number}"), buyer=buyer("ana"), items=[FLOOR])
        )
        for number in range(2)
    ]
    bad = [
        pb.Command(),
        pb.Command(claim=pb.ClaimCommand(order_id="x", buyer=buyer("ana"), items=[FLOOR])),
        pb.Command(reacquire=pb.ReacquireCommand(hold_id="hold-0001")),
        pb.Command(block=pb.BlockCommand()),
        pb.Command(unblock=pb.UnblockCommand(block_id="no")),
    ]
    hold = pb.Command(
        hold=pb.HoldCommand(hold_id=buyer("order 0"), buyer=buyer("ana"), order_id=buyer("order 0"))
    )

    results = await replica.apply(sale_id, good[0], *bad, hold, good[1])

    assert [result.word for result in results] == [
        "CLAIMED",
        *["INVALID_FIELD"] * 5,
        "HELD",
        "CLAIMED",
    ]
    assert results[2].detail["field"] == "order_id"


async def test_a_stream_answers_each_request(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(floor=3), replica)
    claim = pb.Command(claim=pb.ClaimCommand(order_id=buyer("order"), buyer=buyer("ana"), items=[FLOOR]))
    stream = replica.ledger.ApplyStream(metadata=replica.as_("checkout", "service"))
    answers = []
    for sale, commands in ((sale_id, [claim]), ("no-such-sale", [claim]), (sale_id, [])):
        await stream.write(pb.ApplyStreamRequest(sale=sale, commands=commands))
        answers.append(await stream.read())
    await stream.done_writing()

    assert [result.word for result in answers[0].results] == ["CLAIMED"]
    assert (answers[1].refusal, list(answers[1].results)) == ("SALE_NOT_FOUND", [])
    assert (answers[2].refusal, list(answers[2].results)) == ("", [])


async def test_a_stream_runs_its_requests_in_order_without_waiting_for_answers(
    replica: Replica, define: Define, sale_id: str
) -> None:
    await define(spec(floor=40), replica)
    stream = replica.ledger.ApplyStream(metadata=replica.as_("checkout", "service"))
    orders = [(buyer(f"order {number}"), buyer(f"buyer {number}")) for number in range(40)]
    for order, who in orders:
        # Each request needs what the one before it did.
        for command in (
            pb.Command(claim=pb.ClaimCommand(order_id=order, buyer=who, items=[FLOOR])),
            pb.Command(hold=pb.HoldCommand(hold_id=order, buyer=who, order_id=order)),
            pb.Command(commit=pb.CommitCommand(hold_id=order, buyer=who, order_id=order)),
        ):
            await stream.write(pb.ApplyStreamRequest(sale=sale_id, commands=[command]))
    await stream.done_writing()
    words = [answer.results[0].word async for answer in stream]

    assert words == ["CLAIMED", "HELD", "COMMITTED"] * 40
    assert (await counts(replica, sale_id)).sold == 40


async def test_too_many_commands_are_refused(replica: Replica, define: Define, sale_id: str) -> None:
    await define(spec(), replica)
    looks = [pb.Command(look=pb.LookCommand(buyer=buyer("ana")))] * 1001

    refusal = await refused(replica.apply(sale_id, *looks))

    assert (refusal.word, refusal.metadata["field"]) == ("INVALID_FIELD", "commands")
    assert len(await replica.apply(sale_id, *looks[:1000])) == 1000


async def test_ten_race_for_the_last_two(
    replica: Replica, other_replica: Replica, define: Define, sale_id: str
) -> None:
    await define(spec(floor=2), replica, other_replica)

    async def try_to_hold(number: int) -> str:
        where = (replica, other_replica)[number % 2]
        try:
            await where.hold(sale_id, f"buyer {number}", "hold-0001", FLOOR)
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            assert refusal is not None
            return refusal.word
        return "HELD"

    words = Counter(await asyncio.gather(*(try_to_hold(number) for number in range(10))))

    assert words == {"HELD": 2, "SOLD_OUT": 8}


async def test_two_replicas_never_give_a_unit_twice(
    replica: Replica, other_replica: Replica, define: Define, sale_id: str
) -> None:
    await define(spec(floor=300, balcony=200), replica, other_replica)

    async def orders(where: Replica, name: str) -> list[pb.Result]:
        """Claims, holds and commits for 200 buyers, each command of a batch followed by the next."""
        results = []
        for number in range(200):
            who, order = buyer(f"{name} {number}"), buyer(f"order of {name} {number}")
            item = pb.HoldItem(section=("floor", "balcony")[number % 2], quantity=2)
            results += await where.apply(
                sale_id,
                pb.Command(claim=pb.ClaimCommand(order_id=order, buyer=who, items=[item])),
                pb.Command(hold=pb.HoldCommand(hold_id=order, buyer=who, order_id=order)),
                pb.Command(commit=pb.CommitCommand(hold_id=order, buyer=who, order_id=order)),
            )
        return results

    both = await asyncio.gather(orders(replica, "one"), orders(other_replica, "two"))
    sold = [result.hold for results in both for result in results if result.word == "COMMITTED"]
    units = [(unit.section, unit.unit) for hold in sold for unit in hold.units]

    assert len(units) == len(set(units)) == 500
    total = await counts(replica, sale_id)
    assert (total.sold, total.free, total.held) == (500, 0, 0)


async def test_units_come_back_by_themselves(replica: Replica, define: Define, sale_id: str) -> None:
    short = spec(floor=1)
    short.holds.duration.FromMilliseconds(300)
    await define(short, replica)
    await replica.hold(sale_id, "ana", "hold-0001", FLOOR)
    gone = await refused(replica.hold(sale_id, "bia", "hold-0001", FLOOR))

    async with asyncio.timeout(10):
        while (await counts(replica, sale_id)).free == 0:
            await asyncio.sleep(0.05)

    assert gone.word == "SOLD_OUT" and gone.retry_after_s is not None
    assert (await replica.hold(sale_id, "bia", "hold-0001", FLOOR)).state == pb.HOLD_STATE_HELD
