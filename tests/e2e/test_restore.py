"""A rehearsed restore: a sale goes on in a new installation, from backups of stores that were running."""

import asyncio
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from catraca.checkout.v1 import checkout_pb2
from catraca.queue.v1 import queue_pb2

from local.audit.load import Sources
from local.audit.report import audit
from local.client import Buyer, Connection, Organiser, Targets
from local.discovery import RunningStack
from local.stack import Stack
from tests.e2e.backups import back_up, restore
from tests.e2e.test_audit import bought, spec
from tests.patience import NOT_LOADED, patiently

# Two more stacks are started than in other tests.
pytestmark = pytest.mark.timeout(240)

TURN_S = 1800
PATIENCE_S = 30.0


@dataclass
class Backup:
    """What was kept of a sale: two buyers have their tickets, one was called and has not come yet."""

    folder: Path
    sale: str
    tickets: dict[str, checkout_pb2.Order]
    places: dict[str, int]
    """Of the one who was called, and of one who joined while the backup was made."""
    ledger: Path
    """The payment provider's own, which is nobody's to restore: it goes on."""

    async def in_a_new_stack(self, data: Path, *, with_redis: bool) -> Stack:
        """A stack that has never been, with what the backup has."""
        await restore(self.folder, data, with_redis=with_redis)
        shutil.copy(self.ledger, data / "sandbox.sqlite")
        return Stack(data)


@pytest.fixture(scope="module")
async def backup(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backup]:
    folder = tmp_path_factory.mktemp("backup")
    sale = f"kept-{secrets.token_hex(4)}"
    async with Stack(folder / "before") as stack:
        running = stack.running
        async with Connection(Targets(**running.targets)) as at, aiohttp.ClientSession() as client:
            organiser = organiser_of(running, at)
            described = spec()
            described.line.turn_duration.FromSeconds(TURN_S)
            await organiser.define(sale, described)
            names = ("ana", "bruno", "carla")
            buyers = {name: Buyer(at, sale, running.minter().mint(name)) for name in names}
            for buyer in buyers.values():
                await buyer.join()
            tickets = {name: await bought(buyers[name], client) for name in names[:2]}
            place = await called(buyers["carla"])
            await organiser.pause(sale, True)
            late = Buyer(at, sale, running.minter().mint("dora"))
            await back_up(running, folder / "kept", late.join)
            late_place = (await late.place()).place
            ledger = folder / "sandbox.sqlite"
            with sqlite3.connect(stack.data / ledger.name) as now, sqlite3.connect(ledger) as copy:
                now.backup(copy)
    yield Backup(folder / "kept", sale, tickets, {"carla": place, "dora": late_place}, ledger)


def organiser_of(running: RunningStack, at: Connection) -> Organiser:
    return Organiser(at, running.minter().mint("organiser", roles=["organiser", "service"]))


async def called(buyer: Buyer) -> int:
    """The buyer's place, once it was called."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in buyer.watch():
            if message.place.state == queue_pb2.PLACE_STATE_CALLED:
                return message.place.place
    raise AssertionError("the stream ended before the buyer was called")


async def kept_tickets(backup: Backup, running: RunningStack, at: Connection) -> None:
    """Everybody still has the tickets that they had, under the keys that they were signed with."""
    for name, before in backup.tickets.items():
        order = await Buyer(at, backup.sale, running.minter().mint(name)).get_order(before.order_id)
        assert order.state == checkout_pb2.ORDER_STATE_CONFIRMED
        assert [ticket.code for ticket in order.tickets] == [ticket.code for ticket in before.tickets]


def units(order: checkout_pb2.Order) -> set[int]:
    return {ticket.unit for ticket in order.tickets}


def sold_units(backup: Backup) -> set[int]:
    return set().union(*map(units, backup.tickets.values()))


async def test_a_sale_goes_on_from_its_backup(backup: Backup, tmp_path: Path) -> None:
    async with await backup.in_a_new_stack(tmp_path / "after", with_redis=True) as stack:
        running = stack.running
        await audited(backup, running)
        async with Connection(Targets(**running.targets)) as at, aiohttp.ClientSession() as client:
            await kept_tickets(backup, running, at)
            carla, dora = (Buyer(at, backup.sale, running.minter().mint(name)) for name in backup.places)
            assert [(await buyer.place()).place for buyer in (carla, dora)] == [*backup.places.values()]
            await organiser_of(running, at).pause(backup.sale, False)
            # The turn that ran is still hers: the promise was kept.
            order = await bought(carla, client)
            assert units(order).isdisjoint(sold_units(backup))

        await audited(backup, running)


async def audited(backup: Backup, running: RunningStack) -> None:
    """Clean, once what the backup's JetStream did not have yet is published."""
    async with asyncio.timeout(PATIENCE_S):
        while not (verdict := await audit(Sources.of(running), backup.sale, settled=True)).ok:
            assert set(verdict.broken) <= {"I8", "I11"}, verdict.to_json()
            await asyncio.sleep(0.2)


async def test_without_redis_tickets_and_places_are_kept_and_nothing_is_sold_twice(
    backup: Backup, tmp_path: Path
) -> None:
    """Both stores are filled again; only who joined after JetStream was kept joins again."""
    async with await backup.in_a_new_stack(tmp_path / "after", with_redis=False) as stack:
        running = stack.running
        async with Connection(Targets(**running.targets)) as at, aiohttp.ClientSession() as client:
            await kept_tickets(backup, running, at)
            carla, dora = (Buyer(at, backup.sale, running.minter().mint(name)) for name in backup.places)
            place = await patiently(carla.place, passing=NOT_LOADED)
            assert (place.place, place.state) == (backup.places["carla"], queue_pb2.PLACE_STATE_CALLED)
            await dora.join()
            assert (await dora.place()).place == backup.places["dora"]
            await organiser_of(running, at).pause(backup.sale, False)
            # The turn that ran is still hers.
            order = await bought(carla, client)
            assert units(order).isdisjoint(sold_units(backup))

        await audited(backup, running)
