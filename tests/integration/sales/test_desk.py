"""Sales are defined, paused and archived on the real bucket and the line's real store."""

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from catraca.sale.v1 import sale_pb2 as pb

from services.kit.errors import Refusal
from services.queue.sales import desk as desk_module

if TYPE_CHECKING:
    from tests.integration.sales.conftest import Office


def refused(word: str) -> "pytest.RaisesExc[Refusal]":
    return pytest.raises(Refusal, match=word)


async def test_a_new_sale_is_stored_loaded_and_committed_to(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    sale, changed = await office.desk.define(sale_id, spec, 0)
    assert changed
    assert sale.phase == pb.SALE_PHASE_SCHEDULED
    assert sale.spec == spec
    assert sale.revision > 0
    assert office.inventory.loaded == {sale_id: sale.revision}
    assert await office.line_revision(sale_id) == sale.revision
    seed = (await office.seeds.of(sale_id)).seed
    assert len(seed) == 32
    assert sale.draw_commitment == hashlib.sha256(seed).hexdigest()


async def test_a_sale_keeps_the_key_of_its_buyers(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    first, _ = await office.desk.define(sale_id, spec, 0)
    assert first.buyer_key_id == "first"
    office.buyer_key_id = "second"
    spec.sections[0].capacity += 1
    changed, _ = await office.desk.define(sale_id, spec, 0)
    assert changed.revision > first.revision
    paused = await office.desk.pause(sale_id, True)
    assert {each.buyer_key_id for each in (changed, paused)} == {"first"}
    assert (await office.definitions.latest(sale_id)).sale.buyer_key_id == "first"
    other, _ = await office.desk.define(f"{sale_id}-b", spec, 0)
    assert other.buyer_key_id == "second"


async def test_defining_the_same_again_changes_nothing_and_loads(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    spec.window.ClearField("lobby_opens_at")
    first, _ = await office.desk.define(sale_id, spec, 0)
    assert first.phase == pb.SALE_PHASE_LOBBY
    office.inventory.loaded.clear()
    # Also from a revision that was the present one before the first answer was lost.
    for revision in (0, first.revision, 1):
        again, changed = await office.desk.define(sale_id, spec, revision)
        assert not changed
        assert again == first
    assert office.inventory.loaded == {sale_id: first.revision}


async def test_defaults_are_filled_in_before_storing(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    for field in ("line", "limits", "holds", "payment", "orders", "delivery", "refunds"):
        spec.ClearField(field)  # type: ignore[arg-type]
    sale, _ = await office.desk.define(sale_id, spec, 0)
    assert sale.spec.line.turn_duration.seconds == 300
    assert sale.spec.limits.per_buyer == 4
    stored = (await office.definitions.latest(sale_id)).sale
    assert stored.spec == sale.spec
    assert stored.phase == pb.SALE_PHASE_UNSPECIFIED


async def test_a_definition_that_does_not_fit_is_refused_with_its_path(
    office: "Office", sale_id: str
) -> None:
    spec = await office.spec()
    spec.sections[0].capacity = 0
    spec.holds.duration.FromSeconds(1)
    with refused("DEFINITION_INVALID") as refusal:
        await office.desk.define(sale_id, spec, 0)
    assert refusal.value.metadata == {"path": "spec.sections[0].capacity", "problem": "is required"}
    assert "spec.holds.duration: must be from 5s to 24h" in refusal.value.message
    with refused("SALE_NOT_FOUND"):
        await office.definitions.latest(sale_id)


@pytest.mark.parametrize("name", ["", "No Label", "a.b", "*", "x" * 64])
async def test_an_id_that_is_no_label_is_refused(office: "Office", name: str) -> None:
    with refused("DEFINITION_INVALID") as refusal:
        await office.desk.define(name, await office.spec(), 0)
    assert refusal.value.metadata["path"] == "metadata.name"


async def test_a_sale_that_would_be_over_is_refused(office: "Office", sale_id: str) -> None:
    with refused("DEFINITION_INVALID") as refusal:
        await office.desk.define(sale_id, await office.spec(lobby_in_s=-8000, opens_in_s=-7200), 0)
    assert refusal.value.metadata["path"] == "spec.window.closesAt"


async def test_what_is_fixed_is_refused_with_its_path(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    before, _ = await office.desk.define(sale_id, spec, 0)
    spec.sections[0].ticket_types[0].price = 1
    with refused("DEFINITION_FIXED") as refusal:
        await office.desk.define(sale_id, spec, 0)
    path = "spec.sections[0].ticketTypes[0].price"
    assert refusal.value.metadata == {"path": path, "fixed_since": "commitment"}
    assert (await office.definitions.latest(sale_id)).revision == before.revision


async def test_the_opening_fixes_the_opening(office: "Office", sale_id: str) -> None:
    spec = await office.spec(lobby_in_s=-1, opens_in_s=30)
    await office.desk.define(sale_id, spec, 0)
    spec.window.opens_at.FromMilliseconds(spec.window.opens_at.ToMilliseconds() + 1000)
    _, changed = await office.desk.define(sale_id, spec, 0)
    assert changed
    office.clock.ahead_ms = 60_000
    spec.window.opens_at.FromMilliseconds(spec.window.opens_at.ToMilliseconds() + 1000)
    with refused("DEFINITION_FIXED") as refusal:
        await office.desk.define(sale_id, spec, 0)
    assert refusal.value.metadata == {"path": "spec.window.opensAt", "fixed_since": "opening"}


async def test_a_change_from_an_old_revision_conflicts(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    with refused("REVISION_CONFLICT") as refusal:
        await office.desk.define(sale_id, spec, 7)
    assert refusal.value.metadata == {"revision": "0"}
    first, _ = await office.desk.define(sale_id, spec, 0)
    spec.title = "Second"
    second, _ = await office.desk.define(sale_id, spec, first.revision)
    spec.title = "Third"
    with refused("REVISION_CONFLICT") as refusal:
        await office.desk.define(sale_id, spec, first.revision)
    assert refusal.value.metadata == {"revision": str(second.revision)}


async def test_of_two_who_change_the_same_revision_one_conflicts(
    offices: list["Office"], sale_id: str
) -> None:
    spec = await offices[0].spec()
    first, _ = await offices[0].desk.define(sale_id, spec, 0)

    async def rename(office: "Office", title: str) -> pb.Sale:
        mine = pb.SaleSpec()
        mine.CopyFrom(spec)
        mine.title = title
        return (await office.desk.define(sale_id, mine, first.revision))[0]

    outcomes = await asyncio.gather(*(map(rename, offices, "ab")), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refusal", "Sale"]


async def test_two_who_create_the_same_sale_make_one_seed(offices: list["Office"], sale_id: str) -> None:
    spec = await offices[0].spec()
    outcomes = await asyncio.gather(*(office.desk.define(sale_id, spec, 0) for office in offices * 3))
    assert len({sale.draw_commitment for sale, _ in outcomes}) == 1
    assert len({sale.revision for sale, _ in outcomes}) == 1
    assert sum(changed for _, changed in outcomes) == 1


async def test_a_dry_run_stores_nothing(office: "Office", sale_id: str) -> None:
    spec = await office.spec()
    sale, changed = await office.desk.define(sale_id, spec, 0, dry_run=True)
    assert changed
    assert (sale.revision, sale.phase) == (0, pb.SALE_PHASE_SCHEDULED)
    with refused("SALE_NOT_FOUND"):
        await office.definitions.latest(sale_id)
    with refused("SALE_NOT_LOADED"):
        await office.seeds.of(sale_id)
    stored, _ = await office.desk.define(sale_id, spec, 0)
    _, changed = await office.desk.define(sale_id, spec, 0, dry_run=True)
    assert not changed
    spec.currency = "EUR"
    with refused("DEFINITION_FIXED"):
        await office.desk.define(sale_id, spec, 0, dry_run=True)
    assert (await office.definitions.latest(sale_id)).revision == stored.revision


async def test_a_crash_between_storing_and_loading_is_healed_by_defining_again(
    office: "Office", sale_id: str
) -> None:
    spec = await office.spec()
    office.inventory.down = True
    with refused("UNAVAILABLE"):
        await office.desk.define(sale_id, spec, 0)
    revision = (await office.definitions.latest(sale_id)).revision
    office.inventory.down = False
    sale, changed = await office.desk.define(sale_id, spec, 0)
    assert (changed, sale.revision) == (False, revision)
    assert office.inventory.loaded == {sale_id: revision}
    assert await office.line_revision(sale_id) == revision


async def test_a_line_that_is_added_later_is_committed_to_then(office: "Office", sale_id: str) -> None:
    spec = await office.spec(kind="None")
    sale, _ = await office.desk.define(sale_id, spec, 0)
    assert sale.draw_commitment == ""
    with refused("SALE_NOT_LOADED"):
        await office.seeds.of(sale_id)
    spec.line.kind = pb.LINE_KIND_DRAW
    sale, _ = await office.desk.define(sale_id, spec, 0)
    assert len(sale.draw_commitment) == 64


async def test_pausing_and_resuming(office: "Office", sale_id: str) -> None:
    spec = await office.spec(lobby_in_s=-2, opens_in_s=-1)
    first, _ = await office.desk.define(sale_id, spec, 0)
    assert first.phase == pb.SALE_PHASE_OPEN
    paused = await office.desk.pause(sale_id, True)
    assert (paused.phase, paused.spec.paused) == (pb.SALE_PHASE_PAUSED, True)
    assert office.inventory.loaded == {sale_id: paused.revision}
    assert await office.line_revision(sale_id) == paused.revision
    again = await office.desk.pause(sale_id, True)
    assert again.revision == paused.revision
    resumed = await office.desk.pause(sale_id, False)
    assert resumed.phase == pb.SALE_PHASE_OPEN
    assert resumed.draw_commitment == first.draw_commitment
    office.clock.ahead_ms = 7_200_000
    with refused("WRONG_PHASE"):
        await office.desk.pause(sale_id, True)


async def test_a_pause_survives_someone_elses_change(
    offices: list["Office"], sale_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "TRIES", 50)
    spec = await offices[0].spec()
    await offices[0].desk.define(sale_id, spec, 0)
    spec.title = "Renamed"
    await asyncio.gather(
        offices[0].desk.pause(sale_id, True),
        offices[1].desk.pause(sale_id, True),
        *(office.desk.pause(sale_id, True) for office in offices),
    )
    assert (await offices[0].definitions.latest(sale_id)).sale.spec.paused


async def test_nobody_pauses_or_archives_what_is_not_there(office: "Office", sale_id: str) -> None:
    with refused("SALE_NOT_FOUND"):
        await office.desk.pause(sale_id, True)
    with refused("SALE_NOT_FOUND"):
        await office.desk.archive(sale_id)
    with refused("SALE_NOT_FOUND"):
        await office.desk.get(sale_id)


async def test_only_a_closed_and_settled_sale_is_archived(office: "Office", sale_id: str) -> None:
    spec = await office.spec(lobby_in_s=-2, opens_in_s=-1)
    spec.window.closes_at.FromMilliseconds(await office.clock.now_ms() + 700)
    await office.desk.define(sale_id, spec, 0)
    with refused("WRONG_PHASE") as refusal:
        await office.desk.archive(sale_id)
    assert refusal.value.metadata == {"phase": "OPEN", "needs": "CLOSED"}
    while (await office.line.standing(sale_id)).phase != "CLOSED":
        await asyncio.sleep(0.02)
    office.orders.open = 3
    with refused("SALE_NOT_SETTLED") as refusal:
        await office.desk.archive(sale_id)
    assert refusal.value.metadata == {"open_orders": "3"}
    office.orders.open, office.inventory.under_way = 0, True
    with refused("SALE_NOT_SETTLED"):
        await office.desk.archive(sale_id)
    assert (await office.desk.get(sale_id))[0].phase == pb.SALE_PHASE_CLOSED

    office.inventory.under_way = False
    archived = await office.desk.archive(sale_id)
    assert archived.phase == pb.SALE_PHASE_ARCHIVED
    assert office.inventory.dropped == [sale_id]
    assert (await office.desk.get(sale_id))[0].phase == pb.SALE_PHASE_ARCHIVED
    # Again, as after a crash, and nothing else any more.
    assert (await office.desk.archive(sale_id)).revision == archived.revision
    for change in (office.desk.define(sale_id, spec, 0), office.desk.pause(sale_id, True)):
        with refused("SALE_ARCHIVED"):
            await change


async def test_a_sale_is_read_by_every_replica_at_once(offices: list["Office"], sale_id: str) -> None:
    here, there = offices
    sale, _ = await here.desk.define(sale_id, await here.spec(), 0)
    read, _ = await there.desk.get(sale_id)
    assert not read.HasField("counts")
    there.inventory.loaded[sale_id] = sale.revision
    read, _ = await there.desk.get(sale_id)
    assert read.counts.free == 100
    read.ClearField("counts")
    assert read == sale


async def test_sales_are_listed_by_pages(office: "Office", sale_id: str) -> None:
    names = [f"{sale_id}-{i}" for i in range(5)]
    for name in names:
        await office.desk.define(name, await office.spec(kind="None"), 0)
    found, token = [], f"{sale_id}-"
    while True:
        page, token = await office.desk.list(token, 2, archived=False)
        found += page
        if not token or not token.startswith(sale_id):
            break
    mine = [sale for sale in found if sale.sale in names]
    assert [sale.sale for sale in mine] == names
    assert all(sale.phase == pb.SALE_PHASE_SCHEDULED and not sale.spec.sections for sale in mine)
    assert office.definitions.get(names[0]).sale.spec.sections
